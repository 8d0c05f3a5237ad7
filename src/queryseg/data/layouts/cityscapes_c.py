"""Layout `cityscapes_c`: corrupted validation images of Cityscapes, and the clean labels.

    cityscapes-c/fog/5/leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png
    gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png    here, or in cityscapes/gtFine

Nobody distributes these images; they are written by a corruption tool beside an unpacked or archived Cityscapes.

Source: Michaelis et al. 2019 (the corruptions); the folders are a convention of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from queryseg.data.class_table import ClassTable
from queryseg.data.label_space import Rules
from queryseg.data.layouts.cityscapes import Cityscapes
from queryseg.data.layouts.dataset_card import DatasetCard
from queryseg.data.layouts.label_source import LabelSource, PanopticSource
from queryseg.data.layouts.layout import Layout
from queryseg.errors import InputError


def beside(source: LabelSource, folder: str) -> LabelSource:
    """The labels of clean images in a folder, for corrupted ones."""
    moved = replace(
        source,
        images=f"cityscapes-c/{{corruption}}/{{severity}}/{source.images}",
        labels=f"{folder}{source.labels}",
        objects=source.objects and f"{folder}{source.objects}",
    )
    return replace(moved, index=f"{folder}{moved.index}") if isinstance(moved, PanopticSource) else moved


class CityscapesC(Layout):
    """500 images per corruption and severity.

    corruption  name of a folder below `cityscapes-c`, e.g. gaussian_noise
    severity    1 … 5
    others      as in `Layout`
    """

    card = DatasetCard(
        title="Cityscapes-C",
        download="corrupted images are needed in cityscapes-c/CORRUPTION/SEVERITY/leftImg8bit, beside gtFine",
        splits={"val": "val", "train": "train"},
        unlabelled=Cityscapes.card.unlabelled,
        num_images={"val": 500},
        sources=tuple(beside(source, folder) for folder in ("", "cityscapes/") for source in Cityscapes.card.sources),
    )

    def __init__(
        self,
        root: str | Path,
        corruption: str,
        severity: int = 5,
        split: str = "val",
        classes: str | Sequence[str] | Mapping[str, object] | ClassTable | None = None,
        mapping: Rules | None = None,
        labels: str = "auto",
        objects: bool = True,
        unpaired: Literal["refuse", "skip", "report"] = "refuse",
        name: str | None = None,
    ) -> None:
        if type(severity) is not int or not 1 <= severity <= 5:
            raise InputError(f"'severity' is {severity!r}; give a whole number from 1 to 5.")
        self.corruption, self.severity = str(corruption), severity
        name = name or f"cityscapes_c-{corruption}-{severity}"
        super().__init__(root, split, classes, mapping, labels, objects, unpaired, name)

    def fields(self) -> dict[str, str | None]:
        return {**super().fields(), "corruption": self.corruption, "severity": str(self.severity)}

    def missing(self, attempts: Sequence[tuple[LabelSource, int]]) -> str:
        for field, value in (("corruption", self.corruption), ("severity", str(self.severity))):
            found = self.found_values(field)
            if found and value not in found:
                return (
                    f"There is no {field} '{value}' in '{self.tree.where('cityscapes-c')}'; found: {', '.join(found)}."
                )
        return super().missing(attempts)
