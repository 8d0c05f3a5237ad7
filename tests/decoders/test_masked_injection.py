"""EoMT's decoder: masks while it learns, QPrompt's graph when it answers."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.backbones import PlainViT, RotaryViT, SamViT
from queryseg.decoders import MaskedInjection, QueryInjection
from queryseg.decoders.masked_injection import mask_probability
from queryseg.errors import RecipeError
from queryseg.pixel_decoders import Identity
from queryseg.queries import LearnableQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, Segmenter, build_segmenter
from queryseg.types import Dims

TINY: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2}
SAM = {**TINY, "img_size": 64, "window_size": 3, "global_attn_indexes": (0, 2)}
FAMILIES = {
    "registers": lambda: PlainViT("vit_small_patch14_reg4_dinov2", patch_size=16, options={**TINY, "init_values": 1.0}),
    "rotary": lambda: RotaryViT("vit_small_patch16_dinov3", options={**TINY, "init_values": 1.0}),
    "sam": lambda: SamViT("samvit_base_patch16", options=SAM),
}
IMAGES = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1)).double()


def build(family: str, decoder: Any) -> Segmenter:
    """float64, six queries far apart, so that their masks differ."""
    queries = partial(LearnableQueries, num_queries=6, std=1.0)
    return build_segmenter(("a", "b"), Parts(FAMILIES[family](), Identity, queries, decoder, Mixture)).double()


@pytest.mark.parametrize(
    ("progress", "probabilities"),
    [
        (0.0, (1, 1, 1, 1)),
        (1 / 6, (1, 1, 1, 1)),
        (1 / 4, (0.5**0.9, 1, 1, 1)),  # half of block 0's sixth
        (1 / 3, (0, 1, 1, 1)),
        (0.55, (0, 0, 0.7**0.9, 1)),  # 3.3 sixths
        (5 / 6 - 1e-9, (0, 0, 0, (6e-9) ** 0.9)),
        (5 / 6, (0, 0, 0, 0)),
        (1.0, (0, 0, 0, 0)),
    ],
)
def test_masks_are_annealed_one_block_after_the_other(progress, probabilities):
    found = [mask_probability(progress, block, 4) for block in range(4)]
    assert found == pytest.approx(probabilities, abs=1e-12)


def test_published_annealing_steps_are_sixths():
    # EoMT's configurations: start of every block and end of the last, epochs, images of the training set; batch 16
    published = {
        "cityscapes": ((3317, 6634, 9951, 13268, 16585), 107, 2975),
        "ade20k": ((6520, 13040, 19560, 26080, 32600), 31, 20210),
        "coco": ((14782, 29564, 44346, 59128, 73910), 12, 118287),
    }
    for boundaries, epochs, images in published.values():
        steps = epochs * images / 16
        for block, step in enumerate(boundaries[:-1]):
            assert mask_probability(step / steps - 0.002, block, 4) == 1
            assert 0 < mask_probability(step / steps + 0.002, block, 4) < 1
        assert mask_probability(boundaries[-1] / steps + 0.002, 3, 4) == 0


def test_in_eval_mode_it_is_query_injection(monkeypatch):
    monkeypatch.setattr(QueryInjection, "upsampler_eps", MaskedInjection.upsampler_eps)
    model = build("registers", partial(MaskedInjection, num_blocks=2)).eval()
    model.decoder.schedule(0.0)
    plain = build("registers", partial(QueryInjection, num_blocks=2)).eval()
    plain.load_state_dict(model.state_dict())
    outputs = [m(IMAGES).predictions for m in (model, plain)]
    assert [len(predictions) for predictions in outputs] == [1, 1]
    assert torch.equal(outputs[0][0].mask_logits, outputs[1][0].mask_logits)
    assert torch.equal(outputs[0][0].class_logits, outputs[1][0].class_logits)
    features = model.encode(IMAGES)
    assert torch.equal(model.contents(features, model.make_queries(features)), outputs[0][0].content)


@pytest.mark.parametrize(("family", "num_blocks"), [("registers", 2), ("rotary", 3), ("sam", 1)])
def test_training_reads_before_every_late_block_and_all_of_it_learns(family, num_blocks):
    model = build(family, partial(MaskedInjection, num_blocks=num_blocks)).train()
    predictions = model(IMAGES).predictions
    assert len(predictions) == num_blocks + 1
    assert torch.equal(predictions[0].content[0], predictions[0].content[1])  # queries that have seen no image
    assert (predictions[-1].content[0] - predictions[-1].content[1]).abs().max() > 1e-3
    weights = torch.randn(predictions[0].mask_logits.shape, dtype=torch.float64)
    sum((p.mask_logits * weights).sum() + p.class_logits.sum() for p in predictions).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert missing == []


def test_after_the_annealing_training_ends_as_without_masks():
    model = build("registers", partial(MaskedInjection, num_blocks=2)).train()
    masked = model(IMAGES).final.mask_logits
    model.decoder.schedule(0.8)  # two blocks: the last mask is gone at 3/4
    free = model(IMAGES).final.mask_logits
    assert torch.equal(free, model.eval()(IMAGES).final.mask_logits)
    assert (masked - free).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_query_does_not_depend_on_the_patches_that_its_mask_leaves_out(family):
    model = build(family, partial(MaskedInjection, num_blocks=1)).train()
    features = model.encode(IMAGES)
    queries = model.make_queries(features)
    before, after = model.decode(features, queries).predictions
    hidden = F.interpolate(before.mask_logits, (4, 3), mode="bilinear") <= 0
    mixed = ~hidden.flatten(2).all(2) & hidden.flatten(2).any(2)
    image, query = (int(i) for i in mixed.nonzero()[0])
    seen, unseen = (~hidden[image, query]).nonzero()[0], hidden[image, query].nonzero()[0]

    def content(patch: Tensor) -> Tensor:
        """Of the last reading, when this patch alone is another one; the masks are those of the original patches."""
        patches = features.trunk.patches.clone()
        patches[image, patch[0], patch[1]] += torch.arange(32) / 32
        trunk = features.trunk.with_patches(patches).join(queries.content)
        trunk = model.backbone.advance(trunk, 3, model.decoder.blocked(before.mask_logits, trunk.grid, 0))
        return model.decoder.read(model.backbone, trunk, queries).content[image, query]

    assert torch.equal(content(unseen), after.content[image, query])
    assert (content(seen) - after.content[image, query]).abs().max() > 1e-6


def decoder(**options: Any) -> MaskedInjection:
    return MaskedInjection(Dims(("a",), 8, 4, (8,), (16,), 8, 8, joinable=4), **options)


def test_masks_are_resized_to_the_patch_grid_and_zero_counts_as_outside():
    logits = torch.full((1, 1, 8, 12), -1.0)
    logits[..., :4, 4:8] = 1.0  # patch (0, 1) of a 2×3 grid
    logits[..., 4:, 8:] = 0.0
    blocked = decoder().blocked(logits, (2, 3), 0)
    assert blocked is not None
    assert blocked.tolist() == [[[[True, False, True], [True, True, True]]]]


def test_queries_are_drawn_one_by_one_from_the_global_generator():
    part = decoder()
    part.schedule(1 / 4)  # block 0: 0.5^0.9
    logits = torch.full((50, 200, 4, 4), -1.0)
    logits[..., 0, 0] = 1.0
    blocked = part.blocked(logits, (4, 4), 0)
    assert blocked is not None
    rows = blocked.flatten(2).sum(2)
    assert set(rows.unique().tolist()) == {0, 15}  # a query is masked as a whole or not at all
    assert float((rows > 0).float().mean()) == pytest.approx(0.5**0.9, abs=0.02)  # 4 standard deviations
    torch.manual_seed(5)
    first = part.blocked(logits, (4, 4), 0)
    torch.manual_seed(5)
    assert torch.equal(part.blocked(logits, (4, 4), 0), first)
    assert not torch.equal(part.blocked(logits, (4, 4), 0), first)
    part.schedule(1 / 3)
    assert part.blocked(logits, (4, 4), 0) is None
    assert torch.equal(part.blocked(logits, (4, 4), 1), logits < 0)


def test_empty_masks_are_opened_unless_told_otherwise():
    logits = torch.full((1, 2, 4, 4), -1.0)
    logits[0, 1, 0, 0] = 1.0
    opened, closed = (decoder(open_empty_masks=o).blocked(logits, (4, 4), 0) for o in (True, False))
    assert opened is not None
    assert closed is not None
    assert opened.sum((2, 3)).tolist() == [[0, 15]]
    assert closed.sum((2, 3)).tolist() == [[16, 15]]


def test_a_copy_and_its_weights_carry_no_mask_state():
    model = build("registers", partial(MaskedInjection, num_blocks=2)).train()
    assert not [name for name in model.state_dict() if "prob" in name or "progress" in name]
    twin = copy.deepcopy(model)
    twin.decoder.schedule(1.0)
    assert model.decoder.progress == 0.0


def test_more_blocks_than_the_backbone_lets_queries_join_are_refused():
    with pytest.raises(RecipeError, match=r"MaskedInjection lets queries join the last 4 .* in its last 1"):
        build("sam", MaskedInjection)
    with pytest.raises(RecipeError, match="num_blocks is 0"):
        decoder(num_blocks=0)
