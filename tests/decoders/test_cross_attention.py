"""Queries look at the image, masked by what they predict.

Shape legend: B images, Q queries, D width, S cells of a level.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from queryseg.backbones import PlainViT, PyramidBackbone
from queryseg.contracts import Backbone, Heads, QuerySource
from queryseg.decoders import CrossAttention
from queryseg.errors import RecipeError
from queryseg.ops.masked_attention import blocked_by
from queryseg.ops.sine_positions import sine_positions
from queryseg.pixel_decoders import Identity
from queryseg.queries import LearnableQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, build_segmenter
from queryseg.types import Dims, Features, Prediction, Queries, Round, Trunk

B, Q, D = 2, 6, 8
DIMS = Dims(("a", "b", "c"), 16, 2, (D, D), (32, 16), D, D)
NO_BACKBONE = cast(Backbone, None)


def features() -> Features:
    levels = tuple(torch.randn(B, D, *size, dtype=torch.float64) for size in ((2, 3), (4, 6)))
    mask_features = torch.randn(B, D, 8, 12, dtype=torch.float64)
    trunk = Trunk(torch.empty(B, 6, 16), (2, 3), depth=2)
    return Features(trunk, levels, mask_features, tuple(sine_positions(level) for level in levels))


def queries(isolated: int = 0) -> Queries:
    content, position = torch.randn(2, B, Q, D, dtype=torch.float64)
    made = Queries(content, position)
    return made.with_isolated(torch.randn(B, isolated, D, dtype=torch.float64)) if isolated else made


class Listener(QuerySource):
    """Remembers what it is told, and moves positions."""

    def __init__(self, needs_attention: bool = False, move: float = 0.0) -> None:
        super().__init__()
        self.needs_attention, self.move = needs_attention, move
        self.rounds: list[Round] = []

    def forward(self, features: Features, heads: Heads, like: Queries | None = None) -> Queries:
        raise NotImplementedError

    def refine(self, queries: Queries, round: Round) -> Queries:
        self.rounds.append(round)
        return queries if queries.position is None else replace(queries, position=queries.position + self.move)


def decoder(**options: Any) -> CrossAttention:
    return CrossAttention(DIMS, **{"num_layers": 3, "hidden": 16, "num_heads": 2, **options}).double()


def run(model: CrossAttention, seen: Features, asking: Queries, source: QuerySource | None = None) -> list[Prediction]:
    return list(model(NO_BACKBONE, seen, asking, source or Listener()))


def by_hand(model: CrossAttention, seen: Features, asking: Queries, order: str) -> Tensor:
    """The last contents, by torch's own attention."""
    x, position = asking.content, asking.position
    assert position is not None
    for index, layer in enumerate(model.layers):
        level = index % 2
        values = seen.levels[level].flatten(2).mT
        keys = values + seen.positions[level].flatten(2).mT
        masks = model.heads(replace(asking, content=x), seen.mask_features).mask_logits
        blocked = blocked_by(masks, tuple(seen.levels[level].shape[-2:]), model.threshold)

        def attend(name: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, layer: Any = layer) -> Tensor:
            theirs = nn.MultiheadAttention(D, 2, batch_first=True).double()
            theirs.load_state_dict(getattr(layer, name).state_dict())
            found: Tensor = theirs(q, k, v, attn_mask=None if mask is None else mask.repeat_interleave(2, 0))[0]
            return found

        for step in order.split():
            if step == "cross":
                seen_now = attend("cross_attention", x + position, keys, values, blocked)
                x = layer.cross_attention_norm(x + seen_now)
            else:
                heard = attend("self_attention", x + position, x + position, x, None)
                x = layer.self_attention_norm(x + heard)
        x = layer.feed_forward_norm(x + layer.reduce(layer.expand(x).relu()))
    return x


@pytest.mark.parametrize(("order", "steps"), [("cross_first", "cross self"), ("self_first", "self cross")])
def test_layers_in_both_orders(order: str, steps: str) -> None:
    model, seen, asking = decoder(order=order, threshold=0.4), features(), queries()
    final = run(model, seen, asking)[-1]
    torch.testing.assert_close(final.content, by_hand(model, seen, asking, steps), rtol=0, atol=1e-10)


def test_the_threshold_decides_what_is_seen() -> None:
    model, seen, asking = decoder(), features(), queries()
    before = run(model, seen, asking)[-1].content
    model.threshold = 0.15
    assert (run(model, seen, asking)[-1].content - before).abs().max() > 1e-3


def test_all_readings_are_supervised_and_one_is_returned_in_eval_mode() -> None:
    model, seen, asking = decoder(), features(), queries()
    readings = run(model.train(), seen, asking)
    assert len(readings) == 4
    assert torch.equal(readings[0].content, asking.content)
    assert all(r.mask_logits.shape == (B, Q, 8, 12) for r in readings)
    (final,) = run(model.eval(), seen, asking)
    torch.testing.assert_close(final.mask_logits, readings[-1].mask_logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(final.class_logits, readings[-1].class_logits, rtol=0, atol=1e-10)
    contents = model.contents(NO_BACKBONE, seen, asking, Listener())
    torch.testing.assert_close(contents, final.content, rtol=0, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_the_source_hears_every_round_and_may_move_queries(training: bool) -> None:
    model, seen, asking = decoder().train(training), features(), queries()
    source = Listener(needs_attention=True, move=1.0)
    moved = run(model, seen, asking, source)[-1]
    assert [(r.layer, r.level) for r in source.rounds] == [(-1, None), (0, 0), (1, 1)]
    assert source.rounds[0].attention is None
    for told, cells in zip(source.rounds[1:], (6, 24), strict=True):
        assert told.attention is not None
        assert told.attention.shape == (B, Q, cells)
        torch.testing.assert_close(told.attention.sum(-1), torch.ones(B, Q, dtype=torch.float64))
    still = run(model, seen, asking, Listener())[-1]
    assert (moved.content - still.content).abs().max() > 1e-3
    explicit = run(model, seen, asking, Listener(needs_attention=True))[-1]
    torch.testing.assert_close(explicit.content, still.content, rtol=0, atol=1e-10)


def test_attention_maps_hold_gradient() -> None:
    source = Listener(needs_attention=True)
    model = decoder()
    run(model, features(), queries(), source)
    attention = source.rounds[1].attention
    assert attention is not None
    attention.square().sum().backward()
    assert cast(Any, model.layers[0]).cross_attention.in_proj_weight.grad.abs().max() > 0


def test_isolated_rows_never_attend() -> None:
    model, seen, asking = decoder(), features(), queries(isolated=3)
    readings = run(model, seen, asking)
    attending = replace(
        asking, content=asking.content[:, :Q], position=cast(Tensor, asking.position)[:, :Q], num_isolated=0
    )
    for reading, alone in zip(readings, run(model, seen, attending), strict=True):
        assert reading.content.shape == (B, Q + 3, D)
        torch.testing.assert_close(reading.content[:, :Q], alone.content, rtol=0, atol=1e-10)
    x = asking.content[:, Q:]
    for layer in cast(Any, model.layers):
        x = layer.feed_forward_norm(x + layer.reduce(layer.expand(x).relu()))
    torch.testing.assert_close(readings[-1].content[:, Q:], x, rtol=0, atol=1e-10)


def test_queries_without_positions() -> None:
    model, seen, asking = decoder(), features(), queries()
    bare = run(model, seen, replace(asking, position=None))[-1]
    zero = run(model, seen, replace(asking, position=torch.zeros_like(asking.content)))[-1]
    assert torch.equal(bare.content, zero.content)


def test_one_level_is_read_by_every_layer() -> None:
    seen = features()
    seen = replace(seen, levels=seen.levels[1:], positions=seen.positions[1:])
    model = CrossAttention(replace(DIMS, channels=(D,), strides=(16,)), 3, 16, 2).double()
    source = Listener()
    run(model, seen, queries(), source)
    assert [r.level for r in source.rounds] == [None, 0, 0]


def test_what_does_not_fit_is_refused() -> None:
    vit = PlainViT("vit_tiny_patch16_224", options={"embed_dim": 32, "depth": 2, "num_heads": 2})
    cross = partial(CrossAttention, num_layers=1, hidden=8, num_heads=2)
    with pytest.raises(RecipeError, match=r"requires 'level_positions'.*pixel_decoder Identity"):
        # the trunk's final norm would get no gradient, which stops distributed training
        build_segmenter(["a"], Parts(vit, Identity, LearnableQueries, cross, Mixture))
    with pytest.raises(RecipeError, match=r"cannot read levels of width .*use a pixel decoder"):
        build_segmenter(["a"], Parts(PyramidBackbone("resnet18"), Identity, LearnableQueries, cross, Mixture))
    with pytest.raises(RecipeError, match="threshold is 1"):
        decoder(threshold=1.0)
    with pytest.raises(RecipeError, match="num_layers is 0"):
        decoder(num_layers=0)
    with pytest.raises(RecipeError, match="width 8 cannot be split among 0 heads"):
        decoder(num_heads=0)
