"""Runs an exported file as if it were the model.

Shape legend: B images, K classes, H×W pixels as given, h×w the size that the file was made for.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Readout
from queryseg.data.protocol import Protocol
from queryseg.errors import CheckpointError, InputError
from queryseg.export.export_format import ExportFormat, Runner
from queryseg.export.export_record import ExportRecord
from queryseg.export.onnx_format import OnnxFormat
from queryseg.export.openvino_format import OpenVinoFormat
from queryseg.export.tensorrt_format import TensorRtFormat
from queryseg.export.torch_format import TorchFormat
from queryseg.inference.engine import Finding, Reading, Size
from queryseg.inference.predictor import Predictor
from queryseg.inference.windows import enlarged, resized
from queryseg.readouts import Mixture, RegionAssembly
from queryseg.types import Prediction, Task

SEGMENT_READOUTS: dict[str, type[Mixture]] = {one.__name__: one for one in (Mixture, RegionAssembly)}
"""Readouts that a file can keep, by the name in its record."""

FORMATS: dict[str, ExportFormat] = {
    one.name: one for one in (OnnxFormat(), OpenVinoFormat(), TensorRtFormat(), TorchFormat())
}


class ExportedEngine:
    """A `SegmentationEngine`.

    Images of any size are fitted to the file (`fit`). Labels come back at the size asked for: by the nearest pixel, or,
    of files that keep scores, by resized scores. Where an image already has h×w nothing of this happens.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.record = runner.record

    @property
    def device(self) -> torch.device:
        return self.runner.device

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.record.classes.names

    def __call__(self, images: Tensor, size: Size | None = None) -> Tensor:
        return self.find(images, size).labels()

    def find(self, images: Tensor, size: Size | None = None) -> Finding:
        """See `SegmentationEngine`; `scores` raises InputError if the file keeps none."""
        wanted = _size(images) if size is None else size
        outputs, covered = self._run(images)
        labels = outputs["labels"][..., : covered[0], : covered[1]]
        kept = outputs["scores"][..., : covered[0], : covered[1]] if "scores" in outputs else None

        def scores() -> Tensor:
            if kept is None:
                raise InputError("This exported file gives labels but no scores; export it again with --scores.")
            return enlarged(kept, wanted)

        def at_size() -> Tensor:
            if _size(labels) == wanted:
                return labels
            if kept is not None:
                return scores().argmax(1).byte()
            return F.interpolate(labels[:, None], wanted, mode="nearest-exact")[:, 0]

        return Finding(at_size, scores)

    def fit(self, images: Tensor) -> tuple[Tensor, Size]:
        """See the function `fit`."""
        return fit(images, self.record)

    @property
    def readout(self) -> Readout:
        """See `SegmentEngine`. Raises: InputError if the file keeps no segments"""
        if not self.record.segments:
            raise InputError("This exported file keeps no segments; export it again with --segments, or use the run.")
        options = dict(self.record.segments)
        return SEGMENT_READOUTS[options.pop("readout", "Mixture")](**options)

    def read(self, images: Tensor, size: Size | None = None) -> Reading:
        """See `SegmentEngine`; embeddings are empty. Raises: InputError if the file keeps no segments"""
        _ = self.readout
        wanted = _size(images) if size is None else size
        outputs, covered = self._run(images)
        canvas = self.record.canvas or _size(outputs["labels"])
        logits, scores, masks = (outputs[name] for name in ("class_logits", "class_scores", "mask_logits"))
        nothing = scores[..., :0]
        reading = Prediction(logits, scores, masks, nothing, None, nothing)
        return reading, (round(canvas[0] * wanted[0] / covered[0]), round(canvas[1] * wanted[1] / covered[1])), wanted

    def _run(self, images: Tensor) -> tuple[dict[str, Tensor], Size]:
        """Outputs by name, and the part of h×w that the images cover."""
        fitted, covered = self.fit(images)
        parts = [fitted] if self.record.dynamic_batch else torch.split(fitted, 1)
        outputs = [self.runner.run(part.contiguous()) for part in parts]
        whole = [torch.cat(list(same)) for same in zip(*outputs, strict=True)]
        return dict(zip(self.record.output_names, whole, strict=True)), covered


def fit(images: Tensor, record: ExportRecord) -> tuple[Tensor, Size]:
    """(B, 3, H, W) uint8 → (B, 3, h, w) uint8, and the part of h×w that the images cover.

    h×w is the file's size or, if it takes any, H×W filled up to whole patches. Images that do not fit into h×w are
    shrunk, keeping their ratio, until they do (bilinear, antialiased); none is enlarged; the rest of h×w at the bottom
    and right is filled with the mean colour.
    """
    (height, width), (own_height, own_width) = record.size, _size(images)
    if record.dynamic_size:
        rows, columns = record.multiple
        height, width = -(-own_height // rows) * rows, -(-own_width // columns) * columns
    scale = min(1.0, height / own_height, width / own_width)
    covered = (max(1, min(height, round(scale * own_height))), max(1, min(width, round(scale * own_width))))
    if covered != (own_height, own_width):
        images = resized(images, covered)
    if covered == (height, width):
        return images, covered
    mean = torch.tensor([round(255 * value) for value in record.mean], dtype=torch.uint8, device=images.device)
    canvas = mean.view(3, 1, 1).expand(3, height, width).repeat(images.shape[0], 1, 1, 1)
    canvas[..., : covered[0], : covered[1]] = images
    return canvas, covered


def open_exported(path: Path, device: str = "auto") -> ExportedEngine:
    """Raises: CheckpointError, InputError"""
    exporter = next((one for one in FORMATS.values() if one.suffix == path.suffix), None)
    if exporter is None:
        raise CheckpointError(f"{path} is no exported file: their names end in {', '.join(suffixes())}.")
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}; make it with `queryseg export`.")
    return ExportedEngine(exporter.open(path, device))


def load_exported(
    path: str | Path,
    device: str | torch.device = "auto",
    protocol: Protocol | None = None,
    task: Task = "semantic",
) -> Predictor:
    """A Predictor of an exported file alone. protocol: None is the one that the run was validated with.

    Raises: CheckpointError, InputError
    """
    engine = open_exported(Path(path), str(device))
    record = engine.record
    protocol = protocol or record.protocol
    check_protocol(protocol, record)
    if task != "semantic":
        _ = engine.readout  # says so if there is none
    return Predictor(engine, record.classes, protocol, task=task)


def check_protocol(protocol: Protocol, record: ExportRecord) -> None:
    """Sliding windows and several views need scores, and windows are seen at their own scale. Raises: InputError"""
    averaged = "windows" if protocol.window is not None else "" if protocol.has_one_view else "several views"
    if averaged and not record.scores:
        raise InputError(
            f"The protocol ({protocol}) averages scores of {averaged}, but this exported file gives labels only; "
            "export it again with --scores, or show it whole images once."
        )
    window = protocol.window or 0
    if not record.dynamic_size and window > min(record.size):
        raise InputError(
            f"The protocol's windows of {window} pixels do not fit into the exported size "
            f"{record.size[0]}×{record.size[1]}; export it with --size {window} {window}."
        )


def suffixes() -> list[str]:
    """Of all formats' files."""
    return [one.suffix for one in FORMATS.values()]


def _size(images: Tensor) -> Size:
    return images.shape[-2], images.shape[-1]
