"""Published checkpoints of other code bases, turned into runs."""

from __future__ import annotations

from pathlib import Path

import torch

from queryseg.conversion import (
    eomt,
    faseg,
    mask2former,
    mask2former_detectron2,
    mask2former_mmdetection,
    rein,
    simcis,
    soma,
    tqdm,
)
from queryseg.conversion.converted import Converted
from queryseg.conversion.format import Format
from queryseg.conversion.published_checkpoint import PublishedCheckpoint
from queryseg.errors import CheckpointError
from queryseg.recipe_file import build_untrained

__all__ = ["FORMATS", "Converted", "Format", "PublishedCheckpoint", "convert_checkpoint"]

FORMATS: tuple[Format, ...] = (
    Format(
        "EoMT (Hugging Face's layout, or that of its authors' training code)",
        "transformers' models/eomt, models/eomt_dinov3 and conversion scripts (Apache-2.0), run beside it",
        True,
        eomt.recognises,
        eomt.convert,
    ),
    Format(
        "Mask2Former with Swin (Hugging Face's layout)",
        "transformers' models/mask2former and models/swin (Apache-2.0), run beside it",
        True,
        mask2former.recognises,
        mask2former.convert,
    ),
    Format.of_layout("rein", rein.convert, rein.current_names, rein.complete),
    Format.of_layout("soma", soma.convert, complete=soma.complete),
    *(
        Format.of_layout(name, faseg.convert, mask2former_detectron2.current_names)
        for name in ("faseg_resnet", "faseg_swin")
    ),
    *(Format.of_layout(name, tqdm.convert) for name in ("tqdm_clip", "tqdm_eva02")),
    Format.of_layout("simcis", simcis.convert),
    *(
        Format.of_layout(f"mask2former_{code.__name__.rpartition('_')[2]}_{trunk}", code.convert, code.current_names)
        for code in (mask2former_detectron2, mask2former_mmdetection)
        for trunk in ("resnet", "swin")
    ),
)
"""Tried in this order: what extends another layout comes before it."""


def convert_checkpoint(checkpoint: PublishedCheckpoint, base: Path | None = None) -> Converted:
    """A run that gives the same answers. base: a file with the trunk, for checkpoints that leave it out.

    Raises: CheckpointError if nothing here knows the layout, or if it leaves a tensor of the model without a value.
    """
    tensors, config = checkpoint.tensors, checkpoint.config
    for form in FORMATS:
        if form.recognises(tensors, config):
            converted = form.convert(tensors, config, checkpoint.source, base)
            _check_complete(converted, checkpoint.source)
            return converted
    kind = config.get("model_type")
    found = f"model_type {kind}" if kind else f"tensors such as {', '.join(sorted(tensors)[:2])}"
    known = ", ".join(dict.fromkeys(form.title.split()[0] for form in FORMATS if form.to_run))
    raise CheckpointError(
        f"{checkpoint.source} has a layout that is not known here ({found}); known are {known} and backbones alone, "
        "see `queryseg convert --list`."
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
