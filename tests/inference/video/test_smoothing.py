"""The moving average of scores and when it forgets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from queryseg.errors import InputError
from queryseg.inference.video.smoothing import ScoreSmoothing

GREY = np.full((16, 16, 3), 100, np.uint8)


def scores(value: float) -> torch.Tensor:
    return torch.full((2, 16, 16), value)


def test_formula():
    """w = 0.75: 8, then 0.75·8 + 0.25·0 = 6, then 0.75·6 + 0.25·4 = 5.5; what is given is left as it is."""
    smoothing, last = ScoreSmoothing(0.75), scores(4.0)
    values = [float(smoothing(x, GREY)[0, 0, 0]) for x in (scores(8.0), scores(0.0), last)]
    assert values == [8.0, 6.0, 5.5]
    assert float(last[0, 0, 0]) == 4.0


def test_a_cut_forgets():
    """100 → 129 is no cut (threshold 30), 129 → 160 is one."""
    smoothing = ScoreSmoothing(0.5)
    smoothing(scores(8.0), GREY)
    assert float(smoothing(scores(0.0), np.full_like(GREY, 129))[0, 0, 0]) == 4.0
    assert float(smoothing(scores(0.0), np.full_like(GREY, 160))[0, 0, 0]) == 0.0


def test_another_size_forgets():
    smoothing = ScoreSmoothing(0.5)
    smoothing(scores(8.0), GREY)
    assert float(smoothing(torch.zeros(2, 8, 8), GREY[:8, :8]).max()) == 0.0


@pytest.mark.parametrize("weight", [-0.1, 1.0, float("nan")])
def test_weights_outside_are_refused(weight):
    with pytest.raises(InputError, match="below 1"):
        ScoreSmoothing(weight)
