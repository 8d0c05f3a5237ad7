"""What is about to be trained, in a few lines."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from torch import nn

from queryseg.contracts import Backbone
from queryseg.recipe import Recipe
from queryseg.segmenter import Segmenter
from queryseg.training.start import Beginning


def summary_lines(
    model: Segmenter, recipe: Recipe, trunk: Sequence[str], num_images: int, world_size: int, device: str
) -> list[str]:
    """Parts, parameters, data and length of a run. trunk: what its backbone begins with, see `trunk_lines`"""
    training = recipe.training
    per_step = training.batch_size * training.accumulate * world_size
    total, trainable = _count(model.parameters()), _count(p for p in model.parameters() if p.requires_grad)
    parts = ", ".join(type(part).__name__ for part in model.parts().values())
    processes = "" if world_size == 1 else f" in {world_size} processes"
    epochs = training.steps * per_step / num_images
    return [
        f"{parts}: {total / 1e6:.2f} M parameters, {trainable / total:.0%} of them trained",
        *trunk,
        f"{num_images} images, {training.steps} steps of {per_step} = {epochs:.1f} epochs, "
        f"{training.precision} on {device}{processes}",
    ]


def trunk_lines(backbone: Backbone, beginning: Beginning, taken: Collection[str]) -> list[str]:
    """Where the backbone's weights come from, as training begins. What an adapter brought does not count: that learns
    anew unless it was taken, too.

    taken  names in the model that were filled from `beginning.start_from`
    """
    if beginning.resume:
        return ["The backbone goes on as it was when this run stopped."]
    if beginning.fork is not None:
        return [f"The backbone goes on as it was when {beginning.fork} stopped."]
    report = getattr(backbone, "weight_report", None)  # of backbones that loaded weights
    before = ["The backbone starts from random weights."] if report is None else report.lines()
    brought = {id(parameter) for parameter in backbone.brought()}
    own = [name for name, parameter in backbone.named_parameters() if id(parameter) not in brought]
    filled = sum(f"backbone.{name}" in taken for name in own)
    if filled == 0:
        return before
    if filled == len(own):
        return [f"The backbone starts from the weights of {beginning.start_from}."]
    rest = "random weights" if report is None else "what its recipe loads"
    told = f"The backbone starts from the weights of {beginning.start_from} in {filled} of its {len(own)} tensors"
    return [f"{told}, in the others from {rest}.", *([] if report is None else report.lines())]


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
