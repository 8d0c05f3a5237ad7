"""Shape legend: B images, N queries, K classes, D = 8 width."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from queryseg.decoders import BoxHeads
from queryseg.errors import RecipeError
from queryseg.queries import PixelSelectedQueries
from queryseg.queries.pixel_selected import FIRST_BOXES
from queryseg.types import Dims, Features, Queries, Round, Trunk

DIMS = Dims(("a", "b", "c"), 8, 1, (8, 8, 8), (32, 16, 8), 8, 8)
SIZES = ((2, 3), (4, 6), (8, 12))


def features(batch: int = 2) -> Features:
    levels = tuple(torch.randn(batch, 8, *size) for size in SIZES)
    return Features(Trunk(torch.zeros(batch, 0, 8), (0, 0)), levels, levels[-1])


def made(**options: object) -> tuple[PixelSelectedQueries, BoxHeads]:
    torch.manual_seed(0)
    return PixelSelectedQueries(DIMS, **{"num_queries": 5, **options}), BoxHeads(DIMS)  # type: ignore[arg-type]


def sides(source: PixelSelectedQueries) -> list[float]:
    """Of the middle pixel of every level."""
    anchors, _ = source.anchors(features().levels)
    first, found = 0, []
    for height, width in SIZES:
        middle = anchors[first + height // 2 * width + width // 2].sigmoid()
        assert middle[2] == middle[3]
        found.append(round(float(middle[2]), 6))
        first += height * width
    return found


def test_coarse_levels_begin_with_small_or_large_boxes() -> None:
    assert sides(made()[0]) == [0.05, 0.1, 0.2]
    assert sides(made(anchor_scale="normal")[0]) == [0.2, 0.1, 0.05]


def invalid(source: PixelSelectedQueries, levels: tuple[Tensor, ...]) -> Tensor:
    return (~source.anchors(levels)[1][:, 0]).nonzero().flatten()


def test_pixels_at_the_border_may_be_selected_or_not() -> None:
    """Cells whose centre or side leaves (0.01, 0.99); here the heads like zeros best."""
    levels = (torch.randn(1, 8, 60, 60), torch.randn(1, 8, 2, 2), torch.randn(1, 8, 4, 4))
    given = Features(Trunk(torch.zeros(1, 0, 8), (0, 0)), levels, levels[-1])
    source, heads = made(num_queries=50)
    outside = invalid(source, levels)
    assert len(outside) == 4 * 60 - 4, "the ring of the finest grid"
    scores = torch.zeros(1, 3600 + 20, 3)
    scores[0, outside] = 1
    valid = source.anchors(levels)[1]
    assert torch.isin(source.select(scores, valid)[0], outside).all()
    strict = made(num_queries=50, mask_invalid_scores=True)[0]
    assert not torch.isin(strict.select(scores, valid)[0], outside).any()
    chosen = source(given, heads)
    assert bool(chosen.content.isfinite().all())
    assert bool(chosen.boxes is not None and chosen.boxes.isfinite().all())


def test_invalid_pixels_are_read_as_zeros() -> None:
    source, heads = made(num_queries=20)
    levels = tuple(torch.randn(1, 8, 60, 60) for _ in range(1))
    given = Features(Trunk(torch.zeros(1, 0, 8), (0, 0)), levels, levels[-1])
    outside = invalid(source, levels)[:20]
    queries = source(given, heads, like=Queries(levels[0], extras={"selected_indices": outside[None]}))
    constant = source.norm(source.project.bias)
    torch.testing.assert_close(queries.content, constant.expand_as(queries.content))


def test_the_best_pixels_of_any_class_are_selected() -> None:
    source, heads = made()
    given = features()
    queries = source(given, heads)
    index = queries.extras["selected_indices"]
    assert index.shape == (2, 5)
    pixels = torch.cat([level.flatten(2).mT for level in given.levels], 1)
    pixels = pixels * source.anchors(given.levels)[1]
    scores = heads.classify(source.norm(source.project(pixels))).amax(-1)
    assert torch.equal(index, scores.topk(5).indices)
    own = heads.classify(queries.content).amax(-1)
    torch.testing.assert_close(own, scores.gather(1, index))
    assert queries.position is None


def test_a_choice_is_repeated_with_the_features_of_another_model() -> None:
    source, heads = made()
    first = source(features(), heads)
    other = features()
    again = source(other, heads, like=first)
    assert torch.equal(again.extras["selected_indices"], first.extras["selected_indices"])
    assert not torch.equal(again.content, first.content)
    free = source(other, heads)
    assert not torch.equal(free.extras["selected_indices"], first.extras["selected_indices"])


def test_small_images_give_as_many_queries_as_pixels() -> None:
    source, heads = made(num_queries=1000)
    assert source(features(), heads).content.shape == (2, 6 + 24 + 96, 8)


def test_gradients_reach_pixels_through_the_heads_and_not_through_the_decoder() -> None:
    source, heads = made()
    given = features()
    for level in given.levels:
        level.requires_grad_()
    queries = source(given, heads)
    reading = heads(queries, given.mask_features.detach())
    moved = source.refine(queries, Round(-1, reading, given))
    assert moved.position is not None
    assert moved.boxes is not None
    assert not moved.content.requires_grad
    assert not moved.boxes.requires_grad
    parameters = [source.project.weight, *source.box_position.parameters(), *source.position_scale.parameters()]
    into_source, *into_positions = torch.autograd.grad(moved.position.sum(), parameters, allow_unused=True)
    assert into_source is None
    assert all(gradient is not None for gradient in into_positions)
    (reached,) = torch.autograd.grad(reading.class_logits.sum(), [given.levels[2]])
    assert int((reached.abs().sum(1) > 0).sum()) <= 10, "only pixels that were selected"
    assert reached.any()


def test_later_layers_keep_contents_in_the_graph_and_follow_boxes() -> None:
    source, heads = made()
    given = features()
    queries = source(given, heads)
    reading = heads(queries, given.mask_features)
    later = source.refine(queries, Round(3, reading, given))
    assert later.content is queries.content
    assert later.boxes is not None
    assert reading.boxes is not None
    torch.testing.assert_close(later.boxes.sigmoid(), reading.boxes, atol=2e-5, rtol=0)


def test_first_boxes_can_be_told() -> None:
    source, heads = made()
    given = features()
    queries = source(given, heads)
    reading = heads(queries, given.mask_features)
    told = torch.rand(2, 5, 4)
    marked = Queries(queries.content, boxes=queries.boxes, extras={**queries.extras, FIRST_BOXES: told})
    moved = source.refine(marked, Round(-1, reading, given))
    assert moved.boxes is not None
    torch.testing.assert_close(moved.boxes.sigmoid(), told, atol=2e-5, rtol=0)
    later = source.refine(marked, Round(0, reading, given))
    assert later.boxes is not None
    assert not torch.allclose(later.boxes.sigmoid(), told, atol=1e-3)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(RecipeError, match="num_queries is 0, but must be at least 1"):
        made(num_queries=0)
    with pytest.raises(RecipeError, match=r"pixels of width \(16, 8\) cannot become queries of width 8; use a pixel"):
        PixelSelectedQueries(Dims(("a",), 8, 1, (16, 8), (16, 8), 8, 8))
