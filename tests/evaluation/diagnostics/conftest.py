from collections.abc import Callable
from math import cos, nan, radians, sin

import pytest
import torch
from torch import Tensor

from queryseg.evaluation.diagnostics.query_observer import ObservedQueries


def at(*degrees: float) -> Tensor:
    """Points of the unit circle: (n, 2)"""
    return torch.tensor([[cos(radians(d)), sin(radians(d))] for d in degrees])


@pytest.fixture
def circle() -> Callable[..., ObservedQueries]:
    """Two images, four queries, three classes on the unit circle. Class 0 lies at 0°, class 1 at 90°, class 2 is in no
    image; what is given replaces the rest."""

    def build(**given: Tensor) -> ObservedQueries:
        means = torch.stack([at(-10, 90, 0), at(10, 90, 0)])
        values = {
            "classes": torch.tensor([[0, 0, 1, -1], [0, 2, -1, -1]]),
            "embeddings": torch.stack([at(0, 30, 80, 100), at(0, 60, 80, 120)]),
            "class_means": means,
            "measured": torch.tensor([[True, True, False], [True, False, False]]),
            "present": torch.tensor([[True, True, False], [True, False, False]]),
            "overlaps": torch.tensor([[0.6, 4.0], [0.5, 1.0]]),
            "outlined": torch.tensor([[0.9, 0.3, nan], [0.6, nan, nan]]),
        }
        return ObservedQueries(**(values | given))

    return build
