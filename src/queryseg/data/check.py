"""Reads every file of a data set and reports all that is wrong with it, instead of stopping at the first.

Shape legend: H×W pixels, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from queryseg.data.dataset import FileBacked, Noted, Problem, SegmentationDataset, read_label_map, sample_name
from queryseg.data.folders import MismatchedSizesError
from queryseg.data.label_map import UnknownLabelsError, pixels_per_label
from queryseg.data.ordered_map import ordered_map
from queryseg.errors import InputError
from queryseg.types import IGNORE

_EXAMPLES = 5


@dataclass
class UnknownLabel:
    """A value outside the label map: how many pixels and images have it, and the names of the first images."""

    pixels: int = 0
    images: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass
class DataReport:
    """What `check_data` found.

    sizes             "width×height" → images
    pixels_per_class  K
    images_per_class  K, images with at least one pixel of the class
    ignored_pixels    labelled 255
    unknown           value as the user writes it → where it occurs
    problems          every file or pair that cannot be used, in order of the data set
    notes             what is no problem, but should be known: an unverified layout, fewer images than published
    """

    name: str
    classes: tuple[str, ...]
    num_samples: int
    num_usable: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    pixels_per_class: list[int] = field(default_factory=list)
    images_per_class: list[int] = field(default_factory=list)
    ignored_pixels: int = 0
    unknown: dict[str, UnknownLabel] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {**asdict(self), "sizes": dict(self.sizes), "classes": list(self.classes), "ok": self.ok}

    def table(self) -> Table:
        """The class histogram, for a terminal."""
        table = Table(title=f"Classes of {self.name}")
        for title in ("label", "class", "pixels", "share", "images"):
            table.add_column(title, justify="left" if title == "class" else "right")
        total = max(1, sum(self.pixels_per_class) + self.ignored_pixels)
        rows = zip(self.classes, self.pixels_per_class, self.images_per_class, strict=True)
        for label, (name, pixels, images) in enumerate(rows):
            table.add_row(str(label), name, f"{pixels:,}", f"{pixels / total:.2%}", f"{images:,}")
        table.add_row(str(IGNORE), "ignored", f"{self.ignored_pixels:,}", f"{self.ignored_pixels / total:.2%}", "")
        return table

    def lines(self) -> list[str]:
        """Summary and problems, one sentence per line."""
        sizes = ", ".join(f"{size} ({n})" for size, n in self.sizes.most_common(5))
        more = f" and {len(self.sizes) - 5} further sizes" if len(self.sizes) > 5 else ""
        absent = [name for name, n in zip(self.classes, self.images_per_class, strict=True) if n == 0]
        lines = [
            f"{self.name}: {self.num_usable} of {self.num_samples} samples can be used; sizes {sizes or '–'}{more}."
        ]
        if absent and self.num_usable:
            lines.append(f"Classes that never occur: {', '.join(absent)}.")
        lines += self.notes
        for value, at in self.unknown.items():
            lines.append(
                f"Unknown label {value}: {at.pixels:,} pixels in {at.images} images, e.g. {', '.join(at.examples)}."
            )
        kinds = Counter(problem.kind for problem in self.problems)
        lines += [f"Problems: {', '.join(f'{n} × {kind}' for kind, n in kinds.items())}." if kinds else "No problems."]
        return lines + [problem.message for problem in self.problems]


def check_data(
    dataset: SegmentationDataset,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Read every sample. Open a data file with `open_data(..., lenient=True)` for a report on unpaired files as well.

    progress  called with (samples read, samples in all)
    """
    num_classes = len(dataset.classes)
    report = DataReport(dataset.name, dataset.classes.names, len(dataset))
    if isinstance(dataset, FileBacked):
        report.problems += dataset.problems()
    if isinstance(dataset, Noted):
        report.notes += dataset.notes()
    pixels, images = torch.zeros(256, dtype=torch.int64), torch.zeros(256, dtype=torch.int64)
    for found in ordered_map(partial(_find, dataset), len(dataset), num_workers, progress):
        report.problems += found.problems
        for value, n in found.unknown.items():
            at = report.unknown.setdefault(value, UnknownLabel())
            at.pixels += n
            at.images += 1
            if len(at.examples) < _EXAMPLES:
                at.examples.append(found.name)
        if found.size is not None:
            report.sizes[found.size] += 1
            report.num_usable += not found.problems
            pixels += found.pixels
            images += found.pixels > 0
    report.pixels_per_class = pixels[:num_classes].tolist()
    report.images_per_class = images[:num_classes].tolist()
    report.ignored_pixels = int(pixels[IGNORE])
    return report


@dataclass
class _Finding:
    """About one sample: size and pixels of every label (256,) if it could be read, and what is wrong with it."""

    name: str
    size: str | None
    pixels: Tensor
    unknown: Mapping[str, int]
    problems: list[Problem]


def _find(dataset: SegmentationDataset, index: int) -> _Finding:
    name, num_classes = sample_name(dataset, index), len(dataset.classes)
    errors: list[InputError] = []
    size, pixels = None, torch.zeros(256, dtype=torch.int64)
    try:
        sample = dataset[index]
        size, pixels = f"{sample.image.shape[2]}×{sample.image.shape[1]}", pixels_per_label(sample.label_map)
    except InputError as error:
        errors.append(error)
        try:  # an unreadable image must not hide what is wrong with its label
            read_label_map(dataset, index)
        except InputError as second:
            if str(second) != str(error):
                errors.append(second)
    problems = [Problem(_kind(error), name, str(error)) for error in errors]
    unknown = dict(pair for error in errors if isinstance(error, UnknownLabelsError) for pair in error.counts.items())
    stray = pixels[num_classes:IGNORE].nonzero().flatten() + num_classes
    if len(stray):  # from a layout without a label map of its own
        unknown = {str(label): int(pixels[label]) for label in stray.tolist()}
        message = (
            f"Sample '{name}' has labels {', '.join(unknown)} outside 0..{num_classes - 1} and 255; map or ignore them."
        )
        problems.append(Problem("unknown label", name, message))
    return _Finding(name, size, pixels, unknown, problems)


def _kind(error: InputError) -> str:
    if isinstance(error, UnknownLabelsError):
        return "unknown label"
    return "sizes that differ" if isinstance(error, MismatchedSizesError) else "unreadable file"
