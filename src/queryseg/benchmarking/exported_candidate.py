"""Exported files: one graph, whose insides no stopwatch sees."""

from __future__ import annotations

from pathlib import Path

from queryseg.benchmarking.candidate import Candidate, Frames, Labels, Stage, Work, on_host, show_frames, weights_of
from queryseg.benchmarking.workload import Workload, shown
from queryseg.errors import InputError
from queryseg.export.exported_engine import FORMATS, open_exported
from queryseg.export.torch_format import TorchRunner


class ExportedCandidate(Candidate):
    """A file of `queryseg export`, run by its own runtime with that runtime's own threads."""

    def __init__(self, name: str, path: Path, device: str = "auto") -> None:
        self.name = name
        self.engine = open_exported(path, device)
        record, runner = self.engine.record, self.engine.runner
        self.device, self.classes, self.precision = self.engine.device, record.classes, record.precision
        batch = "any batch" if record.dynamic_batch else "one image at a time"
        size = "any size" if record.dynamic_size else shown(record.size)
        self.description = f"{path.name}: {record.format}, {size}, {batch}"
        self.includes = "resize, the file's graph from uint8 image to uint8 labels, copy of labels to the host"
        self.visible = isinstance(runner, TorchRunner)
        if not self.visible:
            self.includes += "; threads are the runtime's own"
        if isinstance(runner, TorchRunner):
            self.parameters, self.weight_bytes = weights_of(runner.module)
        else:
            self.parameters = None
            self.weight_bytes = sum(file.stat().st_size for file in FORMATS[record.format].files(path))

    def work(self, workload: Workload) -> Work:
        record = self.engine.record
        if not record.dynamic_size and workload.size != record.size:
            raise InputError(
                f"{self.name} was exported for {shown(record.size)} and cannot take {shown(workload.size)} as it is; "
                f"give --size {record.size[0]} {record.size[1]}, or export it again."
            )

        def infer(frames: Frames) -> Labels:
            images = show_frames(frames, workload, self.device)
            return on_host(self.engine(images, workload.frame_size))

        return Work(infer, (Stage("network", infer, self.parameters or 0),))
