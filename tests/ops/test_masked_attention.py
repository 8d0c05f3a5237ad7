"""What masks block."""

from __future__ import annotations

import pytest
import torch

from queryseg.ops.masked_attention import blocked_by


@pytest.mark.parametrize("threshold", [0.5, 0.15])
def test_cells_below_the_threshold_are_blocked(threshold: float) -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.49], [0.51, 0.14, 0.9]])
    blocked = blocked_by(probabilities.logit()[None, None], (2, 3), threshold)
    assert blocked.shape == (1, 1, 6)
    assert torch.equal(blocked[0, 0], (probabilities < threshold).flatten())


def test_a_row_without_any_open_cell_sees_all() -> None:
    logits = torch.full((1, 2, 4, 4), -3.0)
    logits[0, 1, :2, :2] = 3
    blocked = blocked_by(logits, (2, 2))
    assert blocked.tolist() == [[[False] * 4, [False, True, True, True]]]


def test_masks_are_resized_and_hold_no_gradient() -> None:
    logits = torch.randn(2, 3, 8, 12, requires_grad=True)
    blocked = blocked_by(logits, (4, 6))
    means = logits.detach().unflatten(2, (4, 2)).unflatten(4, (6, 2)).mean((3, 5))  # bilinear at exactly one half
    assert torch.equal(blocked, (means < 0).flatten(2))
    assert not blocked.requires_grad
