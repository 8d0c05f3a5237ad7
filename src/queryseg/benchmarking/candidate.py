"""What can be benchmarked.

Shape legend: B images, H×W pixels of a frame, h×w as shown to the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from queryseg.benchmarking.workload import Workload
from queryseg.data.class_table import ClassTable
from queryseg.inference.engine import raise_recompile_limit
from queryseg.inference.host_copies import download, upload
from queryseg.inference.precision import InferencePrecision, check_precision, half_precision, matrix_products
from queryseg.inference.windows import resized

Frames = Sequence[Tensor]
"""B decoded images, each (3, H, W) uint8 RGB on the host."""

Labels = npt.NDArray[np.uint8]
"""(B, H, W)"""


@dataclass(frozen=True)
class Stage:
    """One part of the way; `run` takes what the stage before gave, the first one takes Frames. parameters: of the
    modules that run in it."""

    name: str
    run: Callable[[Any], Any]
    parameters: int = 0


@dataclass(frozen=True)
class Work:
    """A candidate prepared for one workload.

    infer   Frames → Labels, as production runs it. Of the bare backbone: anything → its tokens
    stages  the same computation in parts, eager, for what each part costs
    """

    infer: Callable[[Frames], Any]
    stages: tuple[Stage, ...]

    def run_stages(self, frames: Frames) -> Any:
        """All stages, one after the other."""
        state: Any = frames
        for stage in self.stages:
            state = stage.run(state)
        return state


class Candidate(ABC):
    """One row of the table.

    name         unique in a benchmark
    description  what it is: file, architecture, weights
    includes     what `infer` includes, and what its stages mean where that differs from the package's docstring
    precision    as the table shows it
    classes      of its labels, for drawing; None: it gives no labels, so there is no end to end
    parameters   None: unknown
    weight_bytes of the parameters and buffers as they lie in memory, or of the file that holds them
    visible      torch sees its operations and tensors, so that FLOPs and memory can be counted
    compiled     `infer` is compiled; the stages are not
    """

    name: str
    description: str
    includes: str
    precision: str
    device: torch.device
    classes: ClassTable | None
    parameters: int | None
    weight_bytes: int
    visible: bool = True
    compiled: bool = False

    @abstractmethod
    def work(self, workload: Workload) -> Work:
        """Raises: InputError if it cannot take such images"""

    def context(self) -> AbstractContextManager[Any]:
        """What `infer` and the stages run in."""
        return torch.no_grad()


class TorchCandidate(Candidate):
    """A module on a device, in one of the predictor's precisions."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        device: torch.device,
        precision: InferencePrecision = "fp32",
        compiled: bool = False,
    ) -> None:
        check_precision(precision, device)
        self.name, self.device, self.compiled = name, device, compiled
        self.module = module.to(device).eval()
        self.precision: InferencePrecision = precision
        self.parameters, self.weight_bytes = weights_of(module)

    @contextmanager
    def context(self) -> Iterator[None]:
        """No gradients, and the precision of all that is computed."""
        with torch.no_grad(), matrix_products(self.precision), half_precision(self.precision, self.device):
            yield

    def maybe_compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self.compiled:
            return function
        raise_recompile_limit()
        return torch.compile(function, dynamic=False)


def num_parameters(*modules: nn.Module) -> int:
    """Of all modules together."""
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def weights_of(module: nn.Module) -> tuple[int, int]:
    """Number of parameters; bytes of parameters and buffers."""
    return num_parameters(module), sum(t.nbytes for t in (*module.parameters(), *module.buffers()))


def show_frames(frames: Frames, workload: Workload, device: torch.device) -> Tensor:
    """(B, 3, h, w) uint8 on the device; resized on the host as `queryseg predict` does."""
    shown = frames
    if workload.frame_size != workload.size:
        shown = [resized(frame, workload.size) for frame in frames]
    return upload(torch.stack(list(shown)), device)


def on_host(labels: Tensor) -> Labels:
    """(B, H, W) uint8 on any device → the host. Waits for the device."""
    array: Labels = download(labels)().numpy()
    return array
