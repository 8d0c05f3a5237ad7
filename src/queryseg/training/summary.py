"""What is about to be trained, in a few lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from queryseg.recipe import Recipe
from queryseg.segmenter import Segmenter


def summary_lines(model: Segmenter, recipe: Recipe, num_images: int, world_size: int, device: str) -> list[str]:
    """Parts, parameters, data and length of a run, and what became of the backbone's pretrained weights."""
    training = recipe.training
    per_step = training.batch_size * training.accumulate * world_size
    total, trainable = _count(model.parameters()), _count(p for p in model.parameters() if p.requires_grad)
    parts = ", ".join(type(part).__name__ for part in model.parts().values())
    processes = "" if world_size == 1 else f" in {world_size} processes"
    epochs = training.steps * per_step / num_images
    return [
        f"{parts}: {total / 1e6:.2f} M parameters, {trainable / total:.0%} of them trained",
        *_weights_lines(model.backbone),
        f"{num_images} images, {training.steps} steps of {per_step} = {epochs:.1f} epochs, "
        f"{training.precision} on {device}{processes}",
    ]


def _weights_lines(backbone: Any) -> list[str]:
    """Backbones that load weights keep a report; the others have none to give."""
    report = getattr(backbone, "weight_report", None)
    return ["The backbone starts from random weights."] if report is None else report.lines()


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
