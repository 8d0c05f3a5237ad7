"""Layout `folders`: any pair of directories, or a list of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.dataset import Problem, SegmentationDataset
from queryseg.data.image_file import IMAGE_EXTENSIONS, LABEL_EXTENSIONS, read_image, read_label
from queryseg.data.label_map import LabelMap
from queryseg.errors import InputError
from queryseg.types import Sample


class MismatchedSizesError(InputError):
    """An image and its label of different sizes."""


class Folders(SegmentationDataset):
    """Images and labels in two directories, or named in a list file.

    root          folder that all other paths start from
    images        directory, searched with its subdirectories; or, beside a one-column list, a pattern with `{name}`
    labels        likewise. Files belong together if their path below the directory is equal without the suffix.
    image_suffix  end of the image files' names, e.g. `_leftImg8bit.png`; None: any image extension
    label_suffix  end of the label files' names, e.g. `_gtFine_labelIds.png`; None: any label extension
    list_file     text file with one sample per line: an image and a label, separated by a tab or blanks; or one name
                  that is put for `{name}` into `images` and `labels`
    split         put for `{split}` into `images`, `labels` and `list_file`
    classes       class table (see `class_table`)
    label_map     what the values of label files mean (see `LabelMap.parse`)
    label_channel for label files that keep ids in one channel of several (SYNTHIA: 0)
    unpaired      what to do about images without label and labels without image: "refuse"; "skip"; or "report": skip,
                  but list them in `problems()`
    name          of the data set in tables; None: the name of the root

    Image and label are compared in size when they are read. InputError for everything that does not fit.
    """

    def __init__(
        self,
        root: str | Path,
        images: str = "images",
        labels: str = "labels",
        image_suffix: str | None = None,
        label_suffix: str | None = None,
        list_file: str | None = None,
        split: str | None = None,
        classes: str | Sequence[str] | Mapping[str, object] | ClassTable = "cityscapes",
        label_map: str | Mapping[str, object] = "identity",
        label_channel: int | None = None,
        unpaired: Literal["refuse", "skip", "report"] = "refuse",
        name: str | None = None,
    ) -> None:
        texts = {"images": images, "labels": labels, "image_suffix": image_suffix, "label_suffix": label_suffix}
        for key, text in {**texts, "list_file": list_file, "split": split}.items():
            if text is not None and not isinstance(text, str):
                raise InputError(f"'{key}' is {text!r}, but must be text; put it in quotes.")
        self.root = Path(root)
        self.name = name or self.root.resolve().name
        self.classes = class_table(classes)
        self.label_map = LabelMap.parse(label_map, self.classes)
        self.label_channel = label_channel
        if unpaired not in ("refuse", "skip", "report"):
            raise InputError(f"'unpaired' is {unpaired!r}; choose 'refuse', 'skip' or 'report'.")
        self.unpaired = unpaired
        if not self.root.is_dir():
            raise InputError(f"There is no folder '{root}', the 'root' of data set '{self.name}'.")
        images, labels = _with_split(images, split), _with_split(labels, split)
        self._problems: list[Problem] = []
        if list_file is None:
            found = _find(self.root / images, image_suffix, IMAGE_EXTENSIONS, "images")
            targets = _find(self.root / labels, label_suffix, LABEL_EXTENSIONS, "labels")
            self._note_unpaired("image", "label", [found[k] for k in found if k not in targets], self.root / labels)
            self._note_unpaired("label", "image", [targets[k] for k in targets if k not in found], self.root / images)
            self._pairs = [(key, found[key], targets[key]) for key in sorted(found.keys() & targets.keys())]
        else:
            self._pairs = self._listed(self.root / _with_split(list_file, split), images, labels)
        if self._problems and unpaired == "refuse":
            raise InputError(" ".join(problem.message for problem in self._problems))
        if not self._pairs:
            raise InputError(
                f"No image in '{self.root / images}' has a label in '{self.root / labels}'; their names must agree but "
                "for 'image_suffix' and 'label_suffix'."
            )

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        name, image_path, label_path = self._pairs[index]
        image = read_image(image_path)
        label_map = self.read_label_map(index)
        if image.shape[1:] != label_map.shape:
            raise MismatchedSizesError(
                f"Image '{image_path}' has {_size(image)} pixels, but its label '{label_path}' has {_size(label_map)}; "
                "they must agree."
            )
        return Sample(image, label_map, name)

    def read_label_map(self, index: int) -> Tensor:
        path = self._pairs[index][2]
        return self.label_map.apply(read_label(path, self.label_map.kind, self.label_channel), path)

    def sample_name(self, index: int) -> str:
        return self._pairs[index][0]

    def files(self, index: int) -> tuple[Path, Path]:
        """Image and label file of a sample."""
        return Path(self._pairs[index][1]), Path(self._pairs[index][2])

    def problems(self) -> Sequence[Problem]:
        return self._problems if self.unpaired == "report" else ()

    def _note_unpaired(self, what: str, other: str, paths: Iterable[str], searched: Path) -> None:
        alone = sorted(paths)
        if not alone:
            return
        shown = ", ".join(f"'{path}'" for path in alone[:3]) + (" …" if len(alone) > 3 else "")
        files = f"{len(alone)} {what}{'s have' if len(alone) > 1 else ' has'} no {other} in '{searched}'"
        message = f"{files}: {shown}; add the {other}, remove the {what}, or set 'unpaired: skip'."
        self._problems.append(Problem(f"{what} without {other}", self.name, message))

    def _listed(self, path: Path, images: str, labels: str) -> list[tuple[str, str, str]]:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The list of files '{path}' cannot be read ({error}).") from error
        pairs: dict[str, tuple[str, str]] = {}
        alone: dict[str, list[str]] = {"image": [], "label": []}
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            columns = line.strip().split("\t") if "\t" in line.strip() else line.split()
            if len(columns) > 2:
                raise InputError(
                    f"Line {number} of '{path}' has {len(columns)} columns; give image and label, separated by a tab "
                    "if paths contain blanks."
                )
            if len(columns) == 1:
                if "{name}" not in images or "{name}" not in labels:
                    raise InputError(
                        f"Line {number} of '{path}' has one column; then 'images' and 'labels' must "
                        "contain '{name}', as in 'images/{name}.png'."
                    )
                columns = [pattern.replace("{name}", columns[0]) for pattern in (images, labels)]
            image, label = self.root / columns[0], self.root / columns[1]
            key = Path(columns[0]).with_suffix("").as_posix()
            if key in pairs:
                raise InputError(
                    f"Line {number} of '{path}' names '{columns[0]}' a second time; list every image once."
                )
            if not label.is_file():
                alone["image"].append(str(image))
            elif not image.is_file():
                alone["label"].append(str(label))
            else:
                pairs[key] = (str(image), str(label))
        if not pairs and not any(alone.values()):
            raise InputError(f"The list of files '{path}' is empty; give one image and label per line.")
        self._note_unpaired("image", "label", alone["image"], self.root)
        self._note_unpaired("label", "image", alone["label"], self.root)
        return [(key, *files) for key, files in pairs.items()]


def _find(folder: Path, suffix: str | None, extensions: tuple[str, ...], what: str) -> dict[str, str]:
    """Path below the folder without suffix → path of the file."""
    if not folder.is_dir():
        raise InputError(
            f"There is no folder '{folder}', where the {what} should be; correct the path, or the root that it starts "
            "from (of a recipe: --data.root FOLDER)."
        )
    found: dict[str, str] = {}
    for path in folder.rglob("*"):
        if (
            path.name.startswith(".")
            or not path.name.lower().endswith(extensions)
            or not path.name.endswith(suffix or "")
        ):
            continue
        relative = path.relative_to(folder)
        key = relative.as_posix().removesuffix(suffix) if suffix else relative.with_suffix("").as_posix()
        if key in found:
            raise InputError(f"'{path}' and '{found[key]}' have the same name; say which one is meant with a suffix.")
        found[key] = str(path)
    if not found:
        wanted = f"ends in '{suffix}'" if suffix else f"is one of {', '.join(extensions)}"
        raise InputError(f"Folder '{folder}' has no {what}: no file {wanted}.")
    return found


def _with_split(pattern: str, split: str | None) -> str:
    if "{split}" in pattern and split is None:
        raise InputError(f"'{pattern}' contains {{split}}, but no 'split' is given; add one, as in 'split: val'.")
    return pattern if split is None else pattern.replace("{split}", split)


def _size(tensor: Tensor) -> str:
    return f"{tensor.shape[-1]}×{tensor.shape[-2]}"
