"""torch.export archives: run wherever torch runs, without this package's model code.

Shape legend: B images, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from queryseg.export.export_format import ExportFormat, Runner, Save, damaged
from queryseg.export.export_record import KEY, ExportRecord
from queryseg.export.exported_graph import Traced, quiet
from queryseg.inference.predictor import find_device

_FILE = f"{KEY}.json"


class TorchFormat(ExportFormat):
    """.pt2; bf16 by autocast inside the graph. Traced on the CPU and run there."""

    name, suffix = "torch", ".pt2"
    precisions = ("fp32", "bf16")
    traces_half = True

    def convert(self, traced: Traced, record: ExportRecord, images: Sequence[Tensor] = ()) -> Save:
        def save(path: Path, record: ExportRecord) -> None:
            with quiet():
                torch.export.save(traced.program, path, extra_files={_FILE: record.dumps()})

        return save

    def open(self, path: Path, device: str) -> TorchRunner:
        extra = {_FILE: ""}
        try:
            with quiet():
                program = torch.export.load(path, extra_files=extra)
        except Exception as error:  # zip, pickle, JSON: torch wraps none of them
            raise damaged(path, error) from None
        record = ExportRecord.loads(extra[_FILE], path)
        # guards of dynamic sizes name branches of which the example took the one that is right for all sizes
        module = program.module(check_guards=not record.dynamic_size)
        return TorchRunner(module, record, device)


class TorchRunner(Runner):
    """The archive's module."""

    def __init__(self, module: torch.nn.Module, record: ExportRecord, device: str) -> None:
        self.record = record
        self.device = find_device("cpu" if device == "auto" else device)
        self.module = module.to(self.device)

    def run(self, images: Tensor) -> Sequence[Tensor]:
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = self.module(images)
        return outputs
