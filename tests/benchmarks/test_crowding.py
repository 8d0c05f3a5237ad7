"""Queries that outline one segment are counted, and what the focal loss makes of their scores."""

from __future__ import annotations

import pytest
import torch
from crowding import crowds, summary, undecided_score

from queryseg.objectives.focal_set_criterion import focal_loss


@pytest.mark.parametrize("k", [2, 3, 8])
def test_an_undecided_score_has_the_least_loss_of_k_queries_of_which_one_is_matched(k: int) -> None:
    def loss(score: float) -> float:
        logits = torch.logit(torch.full((1, k, 1), score, dtype=torch.float64))
        zero = torch.tensor([0])
        return float(focal_loss(logits, zero, zero, zero))

    least = undecided_score(k)
    assert loss(least) < min(loss(least - 0.01), loss(least + 0.01))


def test_one_query_alone_is_sure_and_more_are_less_and_less_so() -> None:
    scores = [undecided_score(k) for k in (1, 2, 3, 4)]
    assert scores == [pytest.approx(1, abs=1e-3), pytest.approx(0.4, abs=0.01), *sorted(scores[2:], reverse=True)]
    assert scores[3] == pytest.approx(0.306, abs=1e-3)


def test_queries_on_a_segment_are_counted() -> None:
    """A road of 8 pixels with two queries of 5 and 8, a car of 4 with one of 2 (IoU 1/2, too few)."""
    row = torch.arange(16)
    road, car = row < 8, (row >= 8) & (row < 12)
    outlines = torch.stack((row < 5, road, car & (row > 9))).view(3, 4, 4)
    scores = torch.tensor([[0.3, 0.9], [0.2, 0.1], [0.0, 0.8]])
    masks = torch.stack((road, car)).view(2, 4, 4)
    found = crowds(outlines, scores, torch.tensor([0, 1]), masks)
    assert found == [(2, pytest.approx(0.3)), (0, 0.0)]
    groups = summary([*found, (2, 0.5), (4, 0.2), (9, 0.4)])
    assert groups == {
        "segments": 5,
        "outlined": 4,
        "by_queries": {"2": {"segments": 2, "score": 0.4}, "4": {"segments": 2, "score": 0.3}},
    }
