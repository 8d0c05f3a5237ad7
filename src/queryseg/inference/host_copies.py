"""Copies between the host's memory and a device's. From and to a GPU they go through page-locked buffers, which torch
pools, and nobody waits: the host prepares the next image while the GPU works.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def upload(x: Tensor, device: torch.device) -> Tensor:
    """On the device; the copy may still be under way, and whatever is computed from it waits for it there."""
    if device.type != "cuda" or x.device.type == "cuda":
        return x.to(device)
    return x.contiguous().pin_memory().to(device, non_blocking=True)


def download(x: Tensor) -> Callable[[], Tensor]:
    """Starts the copy; what it returns waits for its end alone, not for work that was queued behind it."""
    if x.device.type != "cuda":
        return x.cpu
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    host.copy_(x, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def wait() -> Tensor:
        arrived.synchronize()
        return host

    return wait
