from __future__ import annotations

import torch
import torch.nn.functional as F

from queryseg.readouts import Mixture, PerPixel
from queryseg.types import Prediction


def prediction(dtype: torch.dtype = torch.float64) -> Prediction:
    logits = torch.randn(2, 5, 4, dtype=dtype)
    masks = torch.randn(2, 5, 4, 6, dtype=dtype) * 4
    empty = torch.zeros(2, 5, 1, dtype=dtype)
    return Prediction(logits, logits.softmax(-1)[..., :-1], masks, empty, masks, empty)


def by_hand(p: Prediction, masks: torch.Tensor) -> torch.Tensor:
    scores = torch.zeros(2, 3, *masks.shape[-2:], dtype=masks.dtype)
    for image in range(2):
        for query in range(5):
            for label in range(3):
                scores[image, label] += p.class_scores[image, query, label] * masks[image, query].sigmoid()
    return scores


def test_both_orders_equal_the_sum_over_queries():
    p = prediction()
    fast = F.interpolate(by_hand(p, p.mask_logits), size=(16, 24), mode="bilinear")
    slow = by_hand(p, F.interpolate(p.mask_logits, size=(16, 24), mode="bilinear"))
    assert torch.allclose(Mixture().scores(p, (16, 24), (16, 24)), fast, atol=1e-12)
    assert torch.allclose(Mixture("masks_first").scores(p, (16, 24), (16, 24)), slow, atol=1e-12)
    assert not torch.allclose(fast, slow, atol=1e-3)  # they differ at borders, that is why both exist


def test_the_image_is_the_upper_left_corner_of_the_canvas():
    p = prediction()
    for order in ("classes_first", "masks_first"):
        whole = Mixture(order).scores(p, (16, 24), (16, 24))
        assert torch.equal(Mixture(order).scores(p, (16, 24), (13, 20)), whole[..., :13, :20])


def test_labels_are_the_best_scores():
    p = prediction(torch.float32)
    readout = Mixture()
    labels = readout.labels(p, (16, 24), (15, 24))
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, readout.scores(p, (16, 24), (15, 24)).argmax(1).byte())


def test_probabilities_sum_to_one_at_most_and_keep_the_order():
    """Three classes of 0.2, 0.3, 0 leave 0.5 to nobody; 2, 1, 1 are claimed four times over."""
    scores = torch.tensor([[0.2, 2.0], [0.3, 1.0], [0.0, 1.0]])[None, :, None]
    found = Mixture().probabilities(scores)[0, :, 0]
    assert torch.allclose(found, torch.tensor([[0.2, 0.5], [0.3, 0.25], [0.0, 0.25]]))


def test_probabilities_of_logits_are_their_softmax():
    """Logits ln 1, ln 2, ln 5 are 1/8, 2/8, 5/8."""
    scores = torch.tensor([1.0, 2.0, 5.0]).log()[None, :, None, None].expand(1, 3, 2, 2)
    assert torch.allclose(PerPixel().probabilities(scores)[0, :, 1, 1], torch.tensor([1.0, 2.0, 5.0]) / 8)
