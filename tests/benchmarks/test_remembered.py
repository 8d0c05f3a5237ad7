"""Which query is asked for the name of a segment."""

from __future__ import annotations

import pytest
import torch
from remembered import best_answers, summary


def test_the_query_that_outlines_a_segment_best_is_asked() -> None:
    """Eight pixels in a row; of two segments one is outlined by two queries, the other one by none."""
    outlines = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]])
    masks = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]])
    scores = torch.tensor([[0.9, 0.1], [0.3, 0.2], [0.1, 0.8]])
    found = best_answers(outlines[:, None].bool(), scores, torch.tensor([1, 0]), masks[:, None].bool())
    assert list(found) == [(1, pytest.approx(0.2), 0)]


def test_what_most_segments_are_called() -> None:
    assert summary([(0.2, 14), (0.1, 14), (0.6, 15)]) == {"real": 0.3, "segments": 3, "called": "truck", "so_called": 2}
