"""Where the positions of queries come from.

Shape legend: B images, Q queries, D width, h×w a level.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor

from queryseg.contracts import Heads
from queryseg.ops.sine_positions import sine_points
from queryseg.queries import FocusAwareQueries
from queryseg.types import Dims, Features, Prediction, Queries, Round, Trunk

B, Q, D = 2, 4, 8
DIMS = Dims(("a", "b"), D, 1, (D, D), (32, 16), D, D)
HEADS = cast(Heads, None)


def features() -> Features:
    positions = torch.randn(B, D, 2, 3, requires_grad=True), torch.randn(B, D, 4, 6, requires_grad=True)
    return Features(cast(Trunk, None), positions, torch.randn(B, D, 8, 12), positions)


def prediction(masks: Tensor) -> Prediction:
    nothing = torch.zeros(B, masks.shape[1], 0)
    return Prediction(nothing, nothing, masks, nothing, None, nothing)


def source(**options: Any) -> tuple[FocusAwareQueries, Features, Queries]:
    made = FocusAwareQueries(DIMS, Q, **options)
    seen = features()
    return made, seen, made(seen, HEADS)


def position_of(made: FocusAwareQueries, seen: Tensor) -> Tensor:
    return made.adapt(seen + made.position)  # type: ignore[no-any-return]


def test_positions_are_those_of_the_attended_cells_in_the_graph() -> None:
    made, seen, queries = source()
    attention = torch.rand(B, Q, 24).softmax(-1).requires_grad_()
    positions = seen.positions[1].flatten(2).mT
    moved = made.refine(queries, Round(1, prediction(torch.randn(B, Q, 4, 6)), seen, 1, attention, positions))
    assert moved.position is not None
    expected = torch.einsum("bqs,bsd->bqd", attention, positions)
    torch.testing.assert_close(moved.position, position_of(made, expected))
    moved.position.sum().backward()
    assert attention.grad is not None
    assert cast(Tensor, seen.positions[1].grad).abs().max() > 0


def test_without_attention_the_old_position_stays() -> None:
    made, seen, queries = source()
    assert made.refine(queries, Round(3, prediction(torch.randn(B, Q, 4, 6)), seen, 1)) is queries


@pytest.mark.parametrize("first", ["background", "foreground"])
def test_the_first_position_is_the_mean_outside_or_inside_of_the_mask(first: str) -> None:
    made, seen, queries = source(first=first)
    masks = torch.randn(B, Q, 2, 3, requires_grad=True)
    with torch.no_grad():
        masks[0, 0], masks[0, 1] = 5.0, -5.0  # one mask is everything, one nothing
    moved = made.refine(queries, Round(-1, prediction(masks), seen))
    chosen = (masks < 0) if first == "background" else (masks >= 0)
    positions = seen.positions[0]
    rows = []
    for image in range(B):
        for q in range(Q):
            inside = positions[image][:, chosen[image, q]]
            rows.append(inside.mean(1) if inside.shape[1] else torch.zeros(D))
    expected = position_of(made, torch.stack(rows).view(B, Q, D))
    torch.testing.assert_close(moved.position, expected, rtol=1e-5, atol=1e-5)
    cast(Tensor, moved.position).sum().backward()
    assert masks.grad is None, "no gradient through the mask"


def test_foreground_follows_every_mask_at_the_upcoming_level() -> None:
    made, seen, queries = source(focus="foreground")
    assert not made.needs_attention
    masks = torch.full((B, Q, 8, 12), -1.0)
    masks[:, :, :2, :2] = 1.0  # the first cell of the 4×6 level
    moved = made.refine(queries, Round(0, prediction(masks), seen, 0, upcoming=1))
    expected = position_of(made, seen.positions[1][:, :, 0, 0][:, None].expand(-1, Q, -1))
    torch.testing.assert_close(moved.position, expected, rtol=1e-5, atol=1e-5)


def test_anchors_are_centres_of_masks() -> None:
    made, seen, queries = source(focus="anchor")
    masks = torch.full((B, Q, 2, 3), -1.0)
    masks[:, 0, 1, 2] = masks[:, 1, :, 0] = 1.0
    moved = made.refine(queries, Round(0, prediction(masks), seen))
    centres = torch.tensor([[5 / 6, 0.75], [1 / 6, 0.5], [0.5, 0.5], [0.5, 0.5]])  # the last two are empty
    torch.testing.assert_close(cast(Tensor, moved.position)[0], position_of(made, sine_points(centres, D)))


def test_a_grid_stays_where_it_is() -> None:
    made, seen, queries = source(focus="grid")
    points = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]])
    torch.testing.assert_close(cast(Tensor, queries.position)[1], made.adapt(sine_points(points, D)))
    assert made.refine(queries, Round(0, prediction(torch.randn(B, Q, 2, 3)), seen)) is queries
    assert FocusAwareQueries(DIMS, 7, focus="grid")(seen, HEADS).content.shape == (B, 7, D)


@pytest.mark.parametrize("focus", ["attention", "foreground", "anchor"])
def test_isolated_rows_have_no_position(focus: Any) -> None:
    made, seen, queries = source(focus=focus)
    queries = queries.with_isolated(torch.randn(B, 3, D))
    moved = made.refine(queries, Round(-1, prediction(torch.randn(B, Q + 3, 2, 3)), seen))
    assert moved.position is not None
    assert moved.position.shape == (B, Q + 3, D)
    assert not moved.position[:, Q:].any()
    assert moved.position[:, :Q].abs().min() > 0


def test_positions_are_never_made_in_half_precision() -> None:
    made, seen, queries = source()
    attention = torch.rand(B, Q, 24).softmax(-1)
    positions = seen.positions[1].flatten(2).mT
    told = Round(1, prediction(torch.randn(B, Q, 4, 6)), seen, 1, attention, positions)
    caught: list[Tensor] = []
    made.adapt.register_forward_pre_hook(lambda module, given: caught.append(given[0]))
    with torch.autocast("cpu", torch.bfloat16):
        made.refine(queries, told)
    assert caught[0].dtype == torch.float32
    torch.testing.assert_close(caught[0], attention @ positions + made.position, rtol=0, atol=1e-6)
