"""What all layouts share: finding the samples of a split, reading them, and saying what is wrong.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.dataset import Problem, RawLabel, SegmentationDataset
from queryseg.data.file_tree import DataFile, FileTree, found_in
from queryseg.data.folders import MismatchedSizesError, unpaired_problem
from queryseg.data.image_file import read_image
from queryseg.data.label_map import UnknownLabelsError
from queryseg.data.label_space import Rules, label_mapping
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import Keys, LabelSource, number_objects
from queryseg.data.path_pattern import PathPattern
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean
from queryseg.types import Sample

Found = dict[str, DataFile]


class SampleFiles(NamedTuple):
    """The files of one sample; `objects` tells objects apart, where it is a file of its own."""

    name: str
    image: DataFile
    label: DataFile
    objects: DataFile | None


class Layout(SegmentationDataset):
    """A public data set in the folders that its download has, unpacked or in archives.

    root      folder or archive (see `FileTree`)
    split     one of `card.splits`, or another folder that stands in their place; may be left out where there is one
    classes   class table of the samples; None: `card.native`. Labels are mapped to it as `label_mapping` has it.
    mapping   another mapping of the data set's labels to `classes` (see `label_mapping`)
    labels    name of one of `card.sources`; "auto": the first whose files are there
    objects   read what tells objects apart, where the data set has it; semantic training is faster without
    unpaired  as in `Folders`
    name      of the data set in tables; None: layout and split

    Layouts declare a `card`; the few that need more override the methods without underscore.

    Raises: InputError in one sentence for everything that does not fit
    """

    card: DatasetCard
    split: str

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        classes: str | Sequence[str] | Mapping[str, object] | ClassTable | None = None,
        mapping: Rules | None = None,
        labels: str = "auto",
        objects: bool = True,
        unpaired: Literal["refuse", "skip", "report"] = "refuse",
        name: str | None = None,
    ) -> None:
        if unpaired not in ("refuse", "skip", "report"):
            raise InputError(f"'unpaired' is {unpaired!r}; choose 'refuse', 'skip' or 'report'.")
        if mapping is not None and not isinstance(mapping, Mapping):
            raise InputError(f"'mapping' is {mapping!r}; give classes with their labels, as in {{road: [Road]}}.")
        self.root = Path(root)
        self.split = self._known_split(split)
        self.name = name or f"{self.layout_name()}-{self.split}"
        self.classes = class_table(self.card.native if classes is None else classes)
        if not isinstance(objects, bool):
            raise InputError(f"'objects' is {objects!r}; choose true or false.")
        self.unpaired, self.objects = unpaired, objects
        sources = self._known_sources(labels)
        source, images, label_files = found_in(self.root, lambda tree: self._choose(tree, sources))
        self.source = source.bind(self.tree, self.fields())
        self.mapping = label_mapping(source.classes, self.classes, mapping, class_table(self.card.native))
        self.label_map = self.source.label_map(self.mapping)
        self.samples, self._problems = self._pair(images, label_files)

    @classmethod
    def layout_name(cls) -> str:
        """As data files call it: the name of the file that declares it."""
        return cls.__module__.rpartition(".")[2]

    def fields(self) -> dict[str, str | None]:
        """What stands in patterns for their fields; None: any."""
        return {"split": self.card.splits.get(self.split, self.split)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        files = self.samples[index]
        image = read_image(files.image)
        label_map, keys = self._read(files)
        if image.shape[1:] != label_map.shape:
            raise MismatchedSizesError(
                f"Image '{files.image}' has {image.shape[2]}×{image.shape[1]} pixels, but its label '{files.label}' "
                f"has {label_map.shape[1]}×{label_map.shape[0]}; they must agree."
            )
        if keys is None:
            return Sample(image, label_map, files.name)
        if keys.shape != label_map.shape:
            raise MismatchedSizesError(
                f"'{files.objects}' has {keys.shape[1]}×{keys.shape[0]} pixels, but the label '{files.label}' has "
                f"{label_map.shape[1]}×{label_map.shape[0]}; they must agree."
            )
        return Sample(image, label_map, files.name, number_objects(keys, label_map, self.classes.things))

    def read_label_map(self, index: int) -> Tensor:
        with self._explained(self.samples[index].label):
            return self.source.read(self.samples[index].label, self.label_map)

    def _read(self, files: SampleFiles) -> tuple[Tensor, Keys | None]:
        with self._explained(files.label):
            if self.objects:
                return self.source.read_both(files.label, files.objects, self.label_map)
            return self.source.read(files.label, self.label_map), None

    def sample_name(self, index: int) -> str:
        return self.samples[index].name

    def files(self, index: int) -> tuple[DataFile, DataFile]:
        """Image and label file of a sample."""
        return self.samples[index].image, self.samples[index].label

    def problems(self) -> Sequence[Problem]:
        return self._problems if self.unpaired == "report" else ()

    def notes(self) -> Sequence[str]:
        """What a reader of the data set's results should know."""
        notes = []
        if unverified := self.source.unverified or self.card.unverified:
            notes.append(f"Layout '{self.layout_name()}' with labels '{self.source.name}' is unverified: {unverified}")
        expected = self.card.num_images.get(self.split)
        if expected is not None and expected != len(self):
            notes.append(
                f"Split '{self.split}' of {self.card.title} has {expected:,} images, but {len(self):,} are here; "
                "unless that is meant, the download is not complete."
            )
        return notes

    def raw_labels(self) -> Mapping[int, RawLabel]:
        """What the data set itself labels, by the values of `read_raw_labels`."""
        table = self.source.classes
        return {i: RawLabel(table.names[i], table.colors[i], label) for i, label in enumerate(self.mapping)}

    def read_raw_labels(self, index: int) -> Tensor:
        """(H, W) uint8 indices into the data set's own table, 255 where a file says that nothing is labelled."""
        own = self.source.label_map(tuple(range(len(self.source.classes))))
        with self._explained(self.samples[index].label):
            return self.source.read(self.samples[index].label, own)

    @contextmanager
    def _explained(self, label: DataFile) -> Iterator[None]:
        """Unknown values are those of the data set's labels, not of a label map that the user could mend."""
        try:
            yield
        except UnknownLabelsError as error:
            shown = ", ".join(f"{value} ({n} pixels)" for value, n in list(error.counts.items())[:5])
            better = UnknownLabelsError(
                f"Label '{label}' has values that are none of the {len(self.source.classes)} labels of "
                f"'{self.source.table}': {shown}; {self.explain_unknown(error.counts)}."
            )
            better.counts = error.counts
            raise better from error

    def explain_unknown(self, counts: Mapping[str, int]) -> str:
        """The end of the sentence about values that the data set's labels cannot have."""
        return f"it is not a file of {self.card.title} as downloaded, or damaged"

    def _known_split(self, split: str | None) -> str:
        labelled = [name for name in self.card.splits if name not in self.card.unlabelled]
        if split is None and ("all" in labelled or len(labelled) == 1):
            return "all" if "all" in labelled else labelled[0]
        if not isinstance(split, str):
            given = "no 'split'" if split is None else f"the split {split!r}"
            raise InputError(f"Layout '{self.layout_name()}' is given {given}; choose from: {', '.join(labelled)}.")
        if split in self.card.unlabelled:
            raise InputError(
                f"Split '{split}' of {self.card.title} has no labels to read: {self.card.unlabelled[split]}; choose "
                f"from: {', '.join(labelled)}, or give its images to 'queryseg predict'."
            )
        is_folder = any("{split}" in source.images for source in self.card.sources)
        if not is_folder and split not in self.card.splits:
            raise InputError(f"{self.card.title} has no split '{split}'; choose from: {', '.join(labelled)}.")
        return split

    def _known_sources(self, labels: str) -> Sequence[LabelSource]:
        if labels == "auto":
            return self.card.sources
        chosen = [source for source in self.card.sources if source.name == labels]
        if not chosen:
            known = ("auto", *(source.name for source in self.card.sources))
            raise InputError(
                f"Layout '{self.layout_name()}' has no labels '{labels}'.{did_you_mean(labels, dict.fromkeys(known))}"
            )
        return chosen

    def _choose(self, tree: FileTree, sources: Sequence[LabelSource]) -> tuple[LabelSource, Found, Found]:
        """The first source of which both images and labels are in the tree."""
        self.tree = tree
        self._enter_archives(sources)
        attempts = []
        for source in sources:
            images = self._find(self._pattern(source.images), source)
            labels = self._find(self._pattern(source.labels), source) if images else {}
            if labels and source.fits(next(iter(labels.values()))):
                return source, images, labels
            attempts.append((source, len(images)))
        raise InputError(self.missing(attempts))

    def _enter_archives(self, sources: Sequence[LabelSource]) -> None:
        """Start in the folder that archives have around everything (`bdd100k/images/…`). Unpacked, it is the root."""
        folders = [folder for source in sources if (folder := self._pattern(source.images).folder)]
        if any(map(self.tree.has_folder, folders)):
            return
        for outer in self.tree.folders():
            inside = self.tree.below(outer)
            if not (self.root / outer).is_dir() and any(map(inside.has_folder, folders)):
                self.tree = inside
                return

    def _pattern(self, text: str) -> PathPattern:
        return PathPattern(text).fill(**self.fields())

    def _find(self, pattern: PathPattern, source: LabelSource) -> Found:
        """Key that images and labels share → file. Open fields are part of the key, in their order."""
        found: Found = {}
        skipped = len(pattern.folder) + 1 if pattern.folder else 0
        below = PathPattern(pattern.text[skipped:])
        for path, file in self.tree.files(pattern.folder).items():
            fields = below.match(path)
            if fields is None or not self.wanted(fields["name"]):
                continue
            if source.pair_by == "file":
                fields["name"] = fields["name"].rpartition("/")[2]
            key = "/".join(fields.values())
            if key in found:
                raise InputError(f"'{file}' and '{found[key]}' have the same name; leave one of them in the data set.")
            found[key] = file
        return found

    def wanted(self, name: str) -> bool:
        """Whether a file belongs to the split, where a split is not a folder."""
        return True

    def _pair(self, images: Found, labels: Found) -> tuple[list[SampleFiles], list[Problem]]:
        pattern = self.source.objects if self.objects else None
        objects = self._find(self._pattern(pattern), self.source) if pattern else {}
        both = sorted(images.keys() & labels.keys())
        where = {"image": self._pattern(self.source.images).folder, "label": self._pattern(self.source.labels).folder}
        if not both:
            raise InputError(
                f"No image of {self.card.title} in '{self.tree.where(where['image'])}' ({min(images)}, …) has a label "
                f"in '{self.tree.where(where['label'])}' ({min(labels)}, …); they are not of one download."
            )
        problems = []
        for what, other, found, others in (("image", "label", images, labels), ("label", "image", labels, images)):
            alone = [found[key] for key in found if key not in others]
            if alone:
                problems.append(unpaired_problem(what, other, alone, self.tree.where(where[other]), self.name))
        if problems and self.unpaired == "refuse":
            raise InputError(" ".join(problem.message for problem in problems))
        if objects and (lacking := [key for key in both if key not in objects]):
            raise InputError(
                f"{len(lacking)} of {len(both)} labels of {self.card.title} have no file that tells objects apart "
                f"('{self._pattern(str(self.source.objects))}'), first '{lacking[0]}'; the download is not complete."
            )
        return [SampleFiles(key, images[key], labels[key], objects.get(key)) for key in both], problems

    def missing(self, attempts: Sequence[tuple[LabelSource, int]]) -> str:
        """The sentence about a root in which no source was found whole."""
        most = max(attempts, key=lambda attempt: attempt[1])
        source, num_images = most
        images, labels = self._pattern(source.images), self._pattern(source.labels)
        lead = f"Layout '{self.layout_name()}' ({self.card.title})"
        if num_images:
            wanted = " or ".join(f"'{self._pattern(s.labels)}'" for s, n in attempts if n == num_images)
            number = f"{num_images} image{'s' if num_images > 1 else ''}"
            return (
                f"{lead} found {number} '{images}' in '{self.root}', but no label {wanted} (found: "
                f"{self.tree.describe(labels.folder.partition('/')[0])}); the download is not complete: "
                f"{self.card.download}."
            )
        if hint := self._other_level([self._pattern(text) for s, _ in attempts for text in (s.images, s.labels)]):
            return f"{lead} expects '{images}' in its root. {hint}"
        splits = self.found_splits()
        if splits and self.split not in splits:
            return f"{lead} has no split '{self.split}' in '{self.root}'; found: {', '.join(splits)}."
        there = [pattern for s, _ in attempts if self._find(pattern := self._pattern(s.labels), s)]
        if there:
            return (
                f"{lead} found labels '{there[0]}' in '{self.root}', but no image '{images}'; the download is not "
                f"complete: {self.card.download}."
            )
        if self.split in splits or (images.folder and self.tree.has_folder(images.folder)):
            return (
                f"{lead}: split '{self.split}' is empty, there is no image '{images}' in '{self.root}'; the download "
                f"is not complete: {self.card.download}."
            )
        return (
            f"{lead} expects '{images}' and '{labels}' in '{self.root}', but found {self.tree.describe()}; "
            f"{self.card.download}."
        )

    def found_splits(self) -> list[str]:
        """The splits whose folders are there, as data files call them."""
        names = {folder: name for name, folder in self.card.splits.items()}
        in_root = any(source.images.startswith("{split}") for source in self.card.sources)
        found = self.found_values("split")
        # where splits lie in the root, other folders lie beside them
        known = [names.get(folder, folder) for folder in found if folder in names or not in_root]
        return [name for name in known if name not in self.card.unlabelled]

    def found_values(self, field: str) -> list[str]:
        """What stands for a field of the images' patterns in the folders that are there; sorted."""
        found: set[str] = set()
        for source in self.card.sources:
            pattern = PathPattern(source.images).fill(**{**self.fields(), field: None})
            before, mark, after = pattern.text.partition(f"{{{field}}}")
            *parents, start = before.split("/")
            places = [""]
            for parent in parents if mark else ():
                places = [f"{place}/{name}".strip("/") for place in places for name in self._matching(place, parent)]
            part = PathPattern(f"{start}{mark}{after.partition('/')[0]}")
            names = [name for place in places for name in self.tree.folders(place)] if mark else []
            found |= {match[field] for name in names if (match := part.match(name)) is not None}
        return sorted(found)

    def _matching(self, place: str, part: str) -> list[str]:
        return [name for name in self.tree.folders(place) if PathPattern(part).match(name) is not None]

    def _other_level(self, patterns: Sequence[PathPattern]) -> str | None:
        """The sentence that the root is a folder too high or too low, if it is."""
        folders = {pattern.folder for pattern in patterns if pattern.folder}
        for inner in self.tree.folders():
            if any(self.tree.has_folder(f"{inner}/{folder}") for folder in folders):
                return f"'{self.root}' is one folder too high: give root '{self.tree.where(inner)}'."
        place = self.root.absolute()
        for depth, outer in enumerate(place.parents[:3], 1):
            inside = place.relative_to(outer).as_posix()
            if any(f"{folder}/".startswith(f"{inside}/") and (outer / folder).is_dir() for folder in folders):
                levels = ("one folder", "two folders", "three folders")[depth - 1]
                return f"'{self.root}' is {levels} too low: give root '{outer}'."
        return None
