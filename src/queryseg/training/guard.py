"""Stops a run whose loss or gradient is no number, and keeps what it stumbled over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from queryseg.data.batch import Batch
from queryseg.errors import QuerysegError, reason_of
from queryseg.segmenter import Segmenter

FAILED_BATCH = "failed_batch.pt"


class DivergenceError(QuerysegError):
    """Training met a loss or a gradient that is NaN or infinite."""


def is_finite(losses: Sequence[Tensor], gradient_norm: Tensor, scaled: bool) -> bool:
    """Whether a step may be taken. scaled: the loss is scaled for half precision, where infinite gradients are part of
    finding the scale and skip the step by themselves."""
    values = [*losses] if scaled else [*losses, gradient_norm]
    return bool(torch.stack([value.detach().float() for value in values]).isfinite().all())


def save_failure(
    folder: Path, rank: int, step: int, batches: Sequence[Batch], losses: Sequence[dict[str, Tensor]], model: Segmenter
) -> str:
    """Writes the images, label maps and names of the step's batches, what the losses were, and the weights before the
    step, so that it can be repeated. Returns the sentence to stop with."""
    bad = [i for i, found in enumerate(losses) if not found["loss"].isfinite()] or list(range(len(batches)))
    names = [name for i in bad for name in batches[i].names]
    values = [{name: value.item() for name, value in losses[i].items()} for i in bad]
    path = folder / (FAILED_BATCH if rank == 0 else f"failed_batch_{rank}.pt")
    content = {
        "step": step,
        "names": names,
        "images": torch.cat([batches[i].images for i in bad]),
        "label_maps": torch.cat([batches[i].label_maps for i in bad]),
        "losses": values,
        "weights": model.state_dict(),
    }
    wrong = [f"{name} {value}" for found in values for name, value in found.items() if not math.isfinite(value)]
    what = f"The loss is no finite number ({', '.join(wrong)})" if wrong else "A gradient is no finite number"
    try:
        torch.save(content, path)
        kept = f"the batch and the weights before the step are in {path}"
    except (OSError, RuntimeError) as error:
        kept = f"the batch could not be saved in {path} ({reason_of(error)})"
    return (
        f"{what} in step {step + 1} on {', '.join(names)}; {kept}. Look at these images and labels, "
        "lower the learning rate or use precision 32-true, and start again."
    )
