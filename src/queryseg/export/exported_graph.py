"""The graph that every format starts from.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from queryseg.backbones.vision_transformer import VisionTransformer
from queryseg.errors import InputError, reason_of
from queryseg.export.export_record import ExportRecord
from queryseg.inference.engine import Engine, Size
from queryseg.inference.precision import InferencePrecision
from queryseg.segmenter import Segmenter


class ExportedGraph(nn.Module):
    """`Engine` with the outputs that a record names."""

    def __init__(self, engine: Engine, scores: bool, segments: bool = False) -> None:
        super().__init__()
        self.engine, self.scores, self.segments = engine, scores, segments

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """images (B, 3, H, W) uint8 → labels (B, H, W) uint8[, scores (B, K, H, W) float32][, class logits (B, Q, K or
        K+1), class scores (B, Q, K), mask logits (B, Q, h, w), all float32]"""
        reading, canvas, size = self.engine.read(images)
        finding = self.engine.finding((reading, canvas, size))
        outputs = [finding.labels()]
        if self.scores:
            outputs.append(finding.scores().float())
        if self.segments:
            outputs += [reading.class_logits.float(), reading.class_scores.float(), reading.mask_logits.float()]
        return tuple(outputs)


@dataclass(frozen=True)
class Traced:
    """A program of ATen operations and the images that it was traced with, (2, 3, H, W) or (1, 3, H, W) uint8."""

    program: ExportedProgram
    example: Tensor


def prepare(model: Segmenter, record: ExportRecord) -> Segmenter:
    """A copy in eval mode on the CPU: adapters merged, position tables made for the record's size, all masks at once
    (a graph would keep the strips of one size)."""
    model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    model.decoder.strip_tokens = None
    backbone = model.backbone
    backbone.merge_adapter()
    if isinstance(backbone, VisionTransformer) and not record.dynamic_size:
        backbone.set_image_size(*record.size)
    return model


def trace(model: Segmenter, record: ExportRecord, half: bool = False) -> Traced:
    """model: from `prepare`; half: compute in the record's precision inside the graph, for formats that take it from
    there.

    Raises: InputError if the model cannot be traced with the dimensions that the record calls dynamic
    """
    precision: InferencePrecision = record.precision if half and record.precision != "int8" else "fp32"
    graph = ExportedGraph(Engine(model, precision), record.scores, bool(record.segments))
    # two images: torch takes 0 and 1 for constants of the program
    example = torch.zeros(2 if record.dynamic_batch else 1, 3, *_example_size(model, record), dtype=torch.uint8)
    dynamic: dict[int, object] = {}
    if record.dynamic_batch:
        dynamic[0] = Dim("batch", min=1, max=4096)
    if record.dynamic_size:
        dynamic |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(graph.eval(), (example,), dynamic_shapes=(dynamic,))
    except Exception as error:  # torch raises its own kinds, by version
        which = " with a dynamic size" if record.dynamic_size else " with a dynamic batch" if dynamic else ""
        raise InputError(
            f"This model cannot be exported{which} ({type(error).__name__}: {reason_of(error)}); "
            + ("export one file per size." if record.dynamic_size else "report it with the run's recipe.")
        ) from error
    return Traced(program, example)


def _example_size(model: Segmenter, record: ExportRecord) -> Size:
    """Of dynamic sizes one that needs no padding (the engine pads) and whose position table must be resampled: the
    graph keeps the branches that the example took, and resampling to the same grid changes nothing."""
    if not record.dynamic_size:
        return record.size
    height, width = model.canvas(*record.size)
    backbone = model.backbone
    if isinstance(backbone, VisionTransformer):
        rows, columns = backbone.stem.patch_embed.grid_size
        height += backbone.patch * (height // backbone.patch == rows)
        width += backbone.patch * (width // backbone.patch == columns)
    return height, width


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters warn about internals that nobody can change."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
