"""Shape legend: B = 2 images, Q = 4 queries, D = 16 width."""

from __future__ import annotations

import torch

from queryseg.decoders import BoxHeads
from queryseg.types import Dims, Queries

DIMS = Dims(("a", "b", "c"), 16, 1, (16,), (16,), 16, 16)


def test_boxes_begin_as_their_references() -> None:
    heads = BoxHeads(DIMS)
    reference = torch.randn(2, 4, 4)
    reading = heads(Queries(torch.randn(2, 4, 16), boxes=reference), torch.randn(2, 16, 6, 10))
    assert reading.boxes is not None
    torch.testing.assert_close(reading.boxes, reference.sigmoid())
    assert reading.class_logits.shape == (2, 4, 3)
    torch.testing.assert_close(reading.class_scores, reading.class_logits.sigmoid())


def test_isolated_rows_have_empty_boxes() -> None:
    heads = BoxHeads(DIMS)
    queries = Queries(torch.randn(2, 4, 16), boxes=torch.randn(2, 4, 4)).with_isolated(torch.randn(2, 1, 16))
    boxes = heads(queries, torch.randn(2, 16, 6, 10)).boxes
    assert boxes is not None
    assert not boxes[:, 4].any()
    boxes.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in heads.parameters())


def test_queries_without_reference_predict_the_box_itself() -> None:
    heads = BoxHeads(DIMS)
    torch.nn.init.normal_(heads.box_embed.layers[-1].weight)  # type: ignore[arg-type]
    content = torch.randn(2, 4, 16)
    boxes = heads(Queries(content), torch.randn(2, 16, 6, 10)).boxes
    torch.testing.assert_close(boxes, heads.box_embed(content).sigmoid())


def test_boxes_are_never_in_half_precision() -> None:
    heads = BoxHeads(DIMS)
    torch.nn.init.normal_(heads.box_embed.layers[-1].weight)  # type: ignore[arg-type]
    content, reference = torch.randn(2, 4, 16), torch.randn(2, 4, 4)
    expected = heads.boxes(content, reference)
    with torch.autocast("cpu", torch.bfloat16):
        found = heads.boxes(content, reference)
    assert torch.equal(found, expected)
