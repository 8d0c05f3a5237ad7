"""Layout `folders`: any pair of directories, or a list of files; unpacked or in archives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table, distinct_colors
from queryseg.data.dataset import Problem, RawLabel, SegmentationDataset
from queryseg.data.file_tree import DataFile, FileTree, found_in
from queryseg.data.image_file import IMAGE_EXTENSIONS, LABEL_EXTENSIONS, read_image, read_label
from queryseg.data.label_map import LabelMap
from queryseg.errors import InputError
from queryseg.spelling import first_of
from queryseg.types import Sample


class MismatchedSizesError(InputError):
    """An image and its label of different sizes."""


class Folders(SegmentationDataset):
    """Images and labels in two directories, or named in a list file.

    root          folder, or zip or tar archive, that all other paths start from; archives in it stand for what is in
                  them (see `FileTree`)
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
        self.name = name or (self.root.stem if self.root.is_file() else self.root.resolve().name)
        self.classes = class_table(classes)
        self.label_map = LabelMap.parse(label_map, self.classes)
        self.label_channel = label_channel
        if unpaired not in ("refuse", "skip", "report"):
            raise InputError(f"'unpaired' is {unpaired!r}; choose 'refuse', 'skip' or 'report'.")
        self.unpaired = unpaired
        if not self.root.exists():
            raise InputError(f"There is no folder '{root}', the 'root' of data set '{self.name}'.")
        images, labels = _with_split(images, split), _with_split(labels, split)
        self._problems: list[Problem] = []
        self.tree = FileTree(self.root)
        if list_file is None:
            found, targets = found_in(
                self.root,
                lambda tree: (
                    _find(tree, images, image_suffix, IMAGE_EXTENSIONS, "images"),
                    _find(tree, labels, label_suffix, LABEL_EXTENSIONS, "labels"),
                ),
            )
            self._note_unpaired("image", "label", [found[k] for k in found if k not in targets], labels)
            self._note_unpaired("label", "image", [targets[k] for k in targets if k not in found], images)
            self._pairs = [(key, found[key], targets[key]) for key in sorted(found.keys() & targets.keys())]
        else:
            self._pairs = self._listed(_with_split(list_file, split), images, labels)
        if self._problems and unpaired == "refuse":
            raise InputError(" ".join(problem.message for problem in self._problems))
        if not self._pairs:
            raise InputError(
                f"No image in '{self.tree.where(images)}' has a label in '{self.tree.where(labels)}'; their names must "
                "agree but for 'image_suffix' and 'label_suffix'."
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

    def files(self, index: int) -> tuple[DataFile, DataFile]:
        """Image and label file of a sample."""
        return self._pairs[index][1], self._pairs[index][2]

    def problems(self) -> Sequence[Problem]:
        return self._problems if self.unpaired == "report" else ()

    def raw_labels(self) -> Mapping[int, RawLabel]:
        """The values of label files; what they mean elsewhere is not known, so they are their own names."""
        if self.label_map.kind == "colors":
            colors = {value: (value & 255, value >> 8 & 255, value >> 16) for value in self.label_map.labels}
            return {v: RawLabel(str(list(colors[v])), colors[v], label) for v, label in self.label_map.labels.items()}
        shades = distinct_colors(len(self.label_map.labels))
        ids = zip(self.label_map.labels.items(), shades, strict=True)
        return {value: RawLabel(f"id {value}", color, label) for (value, label), color in ids}

    def read_raw_labels(self, index: int) -> Tensor:
        values = read_label(self._pairs[index][2], self.label_map.kind, self.label_channel)
        return torch.from_numpy(values.astype(np.int32))

    def _note_unpaired(self, what: str, other: str, files: Sequence[DataFile], searched: str) -> None:
        if files:
            self._problems.append(unpaired_problem(what, other, files, self.tree.where(searched), self.name))

    def _file(self, path: str) -> DataFile | None:
        return self.tree.file(path) if self.tree.has_file(path) else None

    def _listed(self, list_file: str, images: str, labels: str) -> list[tuple[str, DataFile, DataFile]]:
        path = self.tree.where(list_file)
        try:
            lines = self.tree.file(list_file).read_bytes().decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError, InputError) as error:
            raise InputError(f"The list of files '{path}' cannot be read ({error}).") from error
        pairs: dict[str, tuple[DataFile, DataFile]] = {}
        alone: dict[str, list[DataFile]] = {"image": [], "label": []}
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
            image, label = (self._file(column) for column in columns)
            key = Path(columns[0]).with_suffix("").as_posix()
            if key in pairs:
                raise InputError(
                    f"Line {number} of '{path}' names '{columns[0]}' a second time; list every image once."
                )
            if label is None:
                alone["image"].append(self.root / columns[0])
            elif image is None:
                alone["label"].append(self.root / columns[1])
            else:
                pairs[key] = (image, label)
        if not pairs and not any(alone.values()):
            raise InputError(f"The list of files '{path}' is empty; give one image and label per line.")
        self._note_unpaired("image", "label", alone["image"], "")
        self._note_unpaired("label", "image", alone["label"], "")
        return [(key, *files) for key, files in pairs.items()]


def unpaired_problem(what: str, other: str, files: Sequence[DataFile], searched: str, dataset: str) -> Problem:
    """What is said of images without label (or the reverse).

    what, other  "image" and "label", or the reverse
    searched     where the others should be
    """
    alone = sorted(map(str, files))
    shown = first_of([f"'{path}'" for path in alone], 3)
    lead = f"{len(alone)} {what}{'s have' if len(alone) > 1 else ' has'} no {other} in '{searched}'"
    message = f"{lead}: {shown}; add the {other}, remove the {what}, or set 'unpaired: skip'."
    return Problem(f"{what} without {other}", dataset, message)


def _find(
    tree: FileTree, folder: str, suffix: str | None, extensions: tuple[str, ...], what: str
) -> dict[str, DataFile]:
    """Path below the folder without suffix → file."""
    found: dict[str, DataFile] = {}
    for path, file in tree.files(folder, suffix or "").items():
        if not path.lower().endswith(extensions):
            continue
        key = path.removesuffix(suffix) if suffix else PurePosixPath(path).with_suffix("").as_posix()
        if key in found:
            raise InputError(f"'{file}' and '{found[key]}' have the same name; say which one is meant with a suffix.")
        found[key] = file
    if not found and not tree.has_folder(folder):
        raise InputError(
            f"There is no folder '{tree.where(folder)}', where the {what} should be; correct the path, or the root "
            f"that it starts from (of a recipe: --data.root FOLDER). The root holds {tree.describe()}."
        )
    if not found:
        wanted = f"ends in '{suffix}'" if suffix else f"is one of {', '.join(extensions)}"
        raise InputError(f"Folder '{tree.where(folder)}' has no {what}: no file {wanted}.")
    return found


def _with_split(pattern: str, split: str | None) -> str:
    if "{split}" in pattern and split is None:
        raise InputError(f"'{pattern}' contains {{split}}, but no 'split' is given; add one, as in 'split: val'.")
    return pattern if split is None else pattern.replace("{split}", split)


def _size(tensor: Tensor) -> str:
    return f"{tensor.shape[-1]}×{tensor.shape[-2]}"
