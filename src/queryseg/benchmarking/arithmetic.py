"""Floating-point operations: how many a computation needs, and how many the machine does at best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from queryseg.benchmarking.rounds import timed


class FlopCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`total` FLOPs of all operations since it began, by torch's own formulas, without gradients only.

    torch's FlopCounterMode attributes them to modules as well, for which it hooks into the graph of gradients; that
    fails on views of parameters (queries repeated for a batch) where there is no such graph.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


SIDE_ON_CPU, SIDE_ELSEWHERE = 2048, 8192
"""Large enough that memory and launches do not matter."""


class MatrixProduct:
    """One product of two n×n matrices, 2·n³ FLOPs: what the machine reaches where nothing but arithmetic counts.

    n: None: by device
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, n: int | None = None) -> None:
        self.device, self.dtype = device, dtype
        self.n = n or (SIDE_ON_CPU if device.type == "cpu" else SIDE_ELSEWHERE)
        self.flops = 2 * self.n**3
        self._a, self._b = (torch.randn(self.n, self.n, device=device).to(dtype) for _ in range(2))

    def __call__(self) -> Mapping[str, float]:
        """A task of `rounds.take_turns`."""
        with torch.no_grad():
            return {"matrix": timed(lambda: self._a @ self._b, self.device)}

    def __str__(self) -> str:
        return f"{self.n}×{self.n} matrix product in {str(self.dtype).removeprefix('torch.')} on {self.device}"
