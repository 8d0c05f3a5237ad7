"""What values tell of themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from queryseg.types import Prediction


def reading(logits: Tensor, scores: Tensor) -> Prediction:
    none = torch.zeros(())
    return Prediction(logits, scores, none, none, none, none)


def test_with_no_object_a_query_is_active_if_another_entry_is_best() -> None:
    logits = torch.tensor([[[3.0, 1.0, 2.0], [1.0, 2.0, 3.0], [0.0, 0.2, 0.1]]])
    assert reading(logits, logits.softmax(-1)[..., :-1]).active.tolist() == [[True, False, True]]


def test_with_sigmoids_a_query_is_active_from_one_half_on() -> None:
    logits = torch.tensor([[[-0.1, -3.0], [-1.0, 0.0], [5.0, 6.0]]])
    assert reading(logits, logits.sigmoid()).active.tolist() == [[False, True, True]]
