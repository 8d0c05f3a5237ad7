"""Shape legend: N boxes or masks, H×W pixels."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_convert, generalized_box_iou_loss, masks_to_boxes

from queryseg.ops.boxes import boxes_of_corners, generalized_iou, inverse_sigmoid, mask_corners


def test_corners_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    masks = torch.rand(20, 9, 13) > 0.95
    masks[:, 4, 6] = True  # torchvision refuses empty ones
    expected = masks_to_boxes(masks).long() + torch.tensor([0, 0, 1, 1])  # its last pixel, our next one
    assert torch.equal(mask_corners(masks), expected)


def test_empty_masks_have_empty_boxes() -> None:
    masks = torch.zeros(2, 4, 6, dtype=torch.bool)
    masks[1, 1:3, 2:6] = True
    boxes = boxes_of_corners(mask_corners(masks), (4, 6), torch.float64)
    torch.testing.assert_close(boxes, torch.tensor([[0.0] * 4, [4 / 6, 2 / 4, 4 / 6, 2 / 4]], dtype=torch.float64))
    assert mask_corners(masks[:0]).shape == (0, 4)


def test_generalized_iou_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    first, second = torch.rand(50, 4, dtype=torch.float64), torch.rand(50, 4, dtype=torch.float64)
    corners = (box_convert(x, "cxcywh", "xyxy") for x in (first, second))
    expected = 1 - generalized_box_iou_loss(*corners, eps=1e-6)
    torch.testing.assert_close(generalized_iou(first, second), expected, rtol=0, atol=1e-12)
    pairs = generalized_iou(first[:, None], second[None])
    torch.testing.assert_close(pairs.diagonal(), expected, rtol=0, atol=1e-12)
    assert pairs.min() < -0.3, "boxes apart belong to the test"


def test_boxes_without_area_are_finite_with_gradients() -> None:
    box = torch.zeros(1, 4, requires_grad=True)
    overlap = generalized_iou(box, torch.tensor([[0.0, 0.0, 0.0, 0.0]]))
    overlap.sum().backward()
    assert bool(overlap.isfinite().all())
    assert box.grad is not None
    assert bool(box.grad.isfinite().all())


@pytest.mark.parametrize("value", [0.0, 1e-7, 0.3, 1.0])
def test_inverse_sigmoid(value: float) -> None:
    x = torch.tensor(value, dtype=torch.float64)
    assert float(inverse_sigmoid(x).sigmoid()) == pytest.approx(value, abs=1.1e-5)
    assert float(inverse_sigmoid(torch.tensor(0.25))) == pytest.approx(-1.0986123)
