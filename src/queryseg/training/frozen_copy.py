"""Second models beside the one that learns: moving averages and references.

A copy shares, as the same objects, every parameter that cannot change, and owns the others.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from queryseg.errors import CheckpointError
from queryseg.segmenter import Segmenter


def frozen_copy(model: Segmenter) -> Segmenter:
    """The model as it is now: no gradient, eval mode."""
    shared = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, shared).requires_grad_(False).eval()


def own_tensors(twin: Segmenter, live: Segmenter) -> dict[str, Tensor]:
    """The part of a copy's state_dict that is not shared with the model it was copied from."""
    shared = {id(p) for p in live.parameters()}
    return {name: value for name, value in twin.state_dict(keep_vars=True).items() if id(value) not in shared}


def restore_copy(live: Segmenter, own: Mapping[str, Tensor], source: str) -> Segmenter:
    """The copy that `own_tensors` described; call it after the live model was restored, with which it shares the rest.

    Raises: CheckpointError
    """
    twin = frozen_copy(live)
    expected = own_tensors(twin, live)
    for name in own.keys() | expected.keys():
        if name not in own or name not in expected or own[name].shape != expected[name].shape:
            raise CheckpointError(f"{source} does not fit this recipe: see tensor {name}; start a new run.")
    twin.load_state_dict(own, strict=False)
    return twin


@torch.no_grad()
def follow(average: Segmenter, live: Segmenter, decay: float) -> None:
    """average ← decay · average + (1 − decay) · live, for what the two do not share; buffers are copied."""
    pairs = [(a, b) for a, b in zip(average.parameters(), live.parameters(), strict=True) if a is not b]
    if pairs:
        old, new = zip(*pairs, strict=True)
        get_ema_multi_avg_fn(decay)(old, new, 0)  # type: ignore[no-untyped-call]
    for kept, buffer in zip(average.buffers(), live.buffers(), strict=True):
        kept.copy_(buffer)
