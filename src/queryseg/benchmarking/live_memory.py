"""The most memory that one inference holds at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of all tensors that operations have made since it began and that are still alive; `peak` is the most at
    once. Views count once, with their storage. What an operation uses inside and frees again is not seen.

    Unlike the resident memory of the process this does not depend on the allocator, on threads or on what ran before.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _address(leaf) not in given:
                self._watch(leaf)
        return result

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._known:
            return

        def freed(_: Any) -> None:
            self._known.pop(address, None)
            self.live -= size

        self._known[address] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    """The most bytes that one run allocates at once on the device, on top of what was there."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveMemory() as memory:
        run()
    return int(memory.peak)
