"""What a file format offers: conversion, and a runner of its files.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from queryseg import extras
from queryseg.errors import CheckpointError, reason_of
from queryseg.export.export_record import ExportPrecision, ExportRecord
from queryseg.export.exported_graph import Traced

Save = Callable[[Path, ExportRecord], None]
"""Write the converted model with this record, as often as wanted."""


class Runner(ABC):
    """One opened file."""

    record: ExportRecord
    device: torch.device = torch.device("cpu")

    @abstractmethod
    def run(self, images: Tensor) -> Sequence[Tensor]:
        """images (B, 3, H, W) uint8 on `device` → labels (B, H, W) uint8, and scores (B, K, H, W) if it keeps them"""


class ExportFormat(ABC):
    """Stateless; libraries are imported where they are used.

    name        as in `queryseg export --format`
    suffix      of its files
    precisions  that it can keep, the default first
    library     whose version its records name, besides torch's
    extra       of queryseg that installs it
    traces_half half precision comes from the traced graph, not from the conversion
    """

    name: str
    suffix: str
    precisions: tuple[ExportPrecision, ...]
    library: str | None = None
    extra: str = "export"
    traces_half: bool = False

    def check(self, record: ExportRecord) -> None:  # noqa: B027 (most formats have nothing to say)
        """Before any work. Raises: InputError if this machine or format cannot make such a file"""

    @abstractmethod
    def convert(self, traced: Traced, record: ExportRecord, images: Sequence[Tensor] = ()) -> Save:
        """images: each (1, 3, H, W) uint8, by which int8 calibrates its ranges. Raises: InputError if this model,
        precision or machine does not allow it"""

    @abstractmethod
    def open(self, path: Path, device: str) -> Runner:
        """device: "auto", "cpu", or what the format's library knows. Raises: CheckpointError, InputError"""

    def versions(self) -> dict[str, str]:
        if self.library is None:
            return {}
        return {self.library: str(require(self.library, self.name, self.extra).__version__)}

    def files(self, path: Path) -> list[Path]:
        """All files that belong to `path`, those that exist only."""
        return [file for file in (path, *self._companions(path)) if file.exists()]

    def _companions(self, path: Path) -> list[Path]:
        return []


def require(library: str, format_name: str, extra: str = "export") -> Any:
    """Import a library of an extra. Raises: InputError if it is not installed"""
    return extras.require(library, f"Format {format_name}", extra)


def damaged(path: Path, error: BaseException) -> CheckpointError:
    """The sentence about a file that a library cannot open."""
    return CheckpointError(f"{path} is damaged or no {path.suffix} file ({reason_of(error)}); copy or export it again.")
