"""Steps that half precision would spoil."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def full_precision(like: Tensor) -> AbstractContextManager[Any]:
    """No autocast inside, on the device of `like`; operands must be turned to `at_least_float32` themselves."""
    kind = like.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):  # autocast does not know tensors without content
        return nullcontext()
    return torch.autocast(kind, enabled=False)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision becomes float32; float32 and float64 stay."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
