"""Published checkpoints of other code bases, turned into runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from queryseg.conversion import eomt, mask2former
from queryseg.conversion.converted import Converted
from queryseg.conversion.published_checkpoint import PublishedCheckpoint
from queryseg.errors import CheckpointError
from queryseg.recipe_file import build_untrained

__all__ = ["FORMATS", "Converted", "PublishedCheckpoint", "convert_checkpoint"]


class Format(Protocol):
    """A module of this package. config: see `PublishedCheckpoint`."""

    def recognises(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> bool: ...

    def convert(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted: ...


FORMATS: Mapping[str, Format] = {
    "EoMT (Hugging Face's layout, or that of its authors' training code)": eomt,
    "Mask2Former with Swin (Hugging Face's layout)": mask2former,
}
"""Tried in this order."""


def convert_checkpoint(checkpoint: PublishedCheckpoint) -> Converted:
    """A run that gives the same answers.

    Raises: CheckpointError if nothing here knows the layout, or if it leaves a tensor of the model without a value.
    """
    tensors, config = checkpoint.tensors, checkpoint.config
    for form in FORMATS.values():
        if form.recognises(tensors, config):
            converted = form.convert(tensors, config)
            _check_complete(converted, checkpoint.source)
            return converted
    kind = config.get("model_type")
    found = f"model_type {kind}" if kind else f"tensors such as {', '.join(sorted(tensors)[:2])}"
    raise CheckpointError(
        f"{checkpoint.source} has a layout that is not known here ({found}); known are: {'; '.join(FORMATS)}."
    )


def _check_complete(converted: Converted, source: str) -> None:
    """Raises: CheckpointError"""
    with torch.device("meta"):
        wanted = build_untrained(converted.recipe).state_dict()
    weights = converted.weights
    for name, tensor in wanted.items():
        if name in weights and weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source} does not fit: {name} is {tuple(weights[name].shape)} there, but {tuple(tensor.shape)} in "
                "the model that its other tensors describe."
            )
    if missing := sorted(wanted.keys() - weights.keys()):
        raise CheckpointError(
            f"{source} is incomplete: nothing in it becomes {missing[0]} ({len(missing)} tensors missing); "
            "download it again."
        )
    if unknown := sorted(weights.keys() - wanted.keys()):
        raise CheckpointError(
            f"{source} is another architecture: nothing in the model takes {unknown[0]} ({len(unknown)} tensors)."
        )
