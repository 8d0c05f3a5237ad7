"""What every family of vision transformers promises."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from queryseg.backbones import PlainViT, RotaryViT
from queryseg.backbones.vision_transformer import VisionTransformer
from queryseg.errors import InputError, RecipeError
from queryseg.types import Trunk

from .conftest import FAMILIES

NUM_QUERIES = 5


def run(
    backbone: VisionTransformer, images: Tensor, queries: Tensor | None = None, blocked: Tensor | None = None
) -> Trunk:
    """All blocks; queries join before the last one."""
    depth = backbone.dims.depth
    trunk = backbone.advance(backbone.begin(images), depth - 1)
    trunk = trunk if queries is None else trunk.join(queries)
    return backbone.advance(trunk, depth, blocked)


def hide_queries(trunk: Trunk, blocked: Tensor | None) -> Tensor:
    """An attention mask under which class tokens and patches attend to no query."""
    length = trunk.tokens.shape[1]
    visible = torch.ones(len(trunk.tokens), 1, length, length, dtype=torch.bool)
    visible[:, :, trunk.extra :, : trunk.extra] = False
    return visible


@pytest.mark.parametrize("grid", [(4, 6), (7, 3)])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_timm_block_by_block(family: str, grid: tuple[int, int], make: Any, timm_twin: Any) -> None:
    backbone = make(family)
    images = torch.randn(2, 3, grid[0] * backbone.patch, grid[1] * backbone.patch)
    model = timm_twin(family, backbone)
    with torch.no_grad():
        trunk = run(backbone, images)
        expected = model.forward_features(images)
        if family == "sam":
            expected = expected.flatten(2).transpose(1, 2)
        ends_with_norm = family not in ("sam", "eva02")
        tokens = backbone.finish(trunk).tokens if ends_with_norm else trunk.tokens
        start = backbone.begin(images).tokens
    assert trunk.grid == grid
    assert (expected - tokens).abs().max() <= 1e-6 * max(1.0, float(expected.std()))
    assert (trunk.tokens - start).std() > 0.1 * start.std()  # the blocks did something


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_queries_leave_the_image_alone_and_seen_ones_do_not(family: str, make: Any) -> None:
    backbone = make(family).double()
    images = torch.randn(2, 3, 4 * backbone.patch, 6 * backbone.patch, dtype=torch.double)
    queries = torch.randn(2, NUM_QUERIES, 32, dtype=torch.double)
    with torch.no_grad():
        alone = run(backbone, images)
        seen = run(backbone, images, queries)
        backbone.visible = hide_queries
        hidden = run(backbone, images, queries)
    assert hidden.tokens.shape[1] == alone.tokens.shape[1] + NUM_QUERIES
    torch.testing.assert_close(hidden.tokens[:, NUM_QUERIES:], alone.tokens, rtol=1e-6, atol=1e-6)
    assert (seen.tokens[:, NUM_QUERIES:] - alone.tokens).abs().max() > 1e-2
    assert (hidden.queries - seen.queries).abs().max() < 1e-6  # queries see the image either way


@pytest.mark.parametrize("family", FAMILIES)
def test_blocked_patches_do_not_reach_the_query(family: str, make: Any) -> None:
    backbone = make(family).double()
    images = torch.randn(1, 3, 4 * backbone.patch, 4 * backbone.patch, dtype=torch.double)
    trunk = backbone.advance(backbone.begin(images), backbone.dims.depth - 1)
    queries = torch.randn(1, 2, 32, dtype=torch.double)
    blocked = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    blocked[0, 0, 1, 2] = True
    patches = trunk.patches.clone()
    patches[0, 1, 2] += torch.randn(32)
    with torch.no_grad():
        before, after = (
            backbone.advance(t.join(queries), backbone.dims.depth, blocked).queries
            for t in (trunk, trunk.with_patches(patches))
        )
    assert torch.equal(before[0, 0], after[0, 0])
    assert (before[0, 1] - after[0, 1]).abs().max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_everything_that_trains(family: str, make: Any) -> None:
    backbone = make(family).train()
    images = torch.randn(2, 3, 4 * backbone.patch, 4 * backbone.patch)
    queries = torch.randn(2, NUM_QUERIES, 32, requires_grad=True)
    backbone.finish(run(backbone, images, queries)).tokens.square().sum().backward()
    missing = [n for n, p in backbone.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert missing == []
    assert queries.grad is not None
    assert queries.grad.any()


@pytest.mark.parametrize("family", ["dinov2-registers", "dinov3", "rope-mixed", "sam"])
def test_copies_saves_and_runs_in_half_precision(family: str, make: Any) -> None:
    backbone = make(family)
    images = torch.randn(1, 3, 4 * backbone.patch, 6 * backbone.patch)
    with torch.inference_mode():
        expected = run(backbone, images).tokens
    twin = deepcopy(backbone)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    twin.load_state_dict(backbone.state_dict())
    again = run(twin, images).tokens  # tables built in inference mode must serve training, too
    again.sum().backward()
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)
    queries = torch.randn(1, NUM_QUERIES, 32, dtype=torch.bfloat16)
    half = run(deepcopy(backbone).bfloat16(), images.bfloat16(), queries)
    assert half.tokens.dtype == torch.bfloat16
    assert half.tokens.isfinite().all()


class Late(nn.Module):
    """One forward pass with queries and a mask, as an exporter sees it."""

    def __init__(self, backbone: VisionTransformer) -> None:
        super().__init__()
        self.backbone = backbone
        self.queries = nn.Parameter(torch.randn(NUM_QUERIES, 32))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        depth = self.backbone.dims.depth
        features = self.backbone(images, depth - 1)
        blocked = images.new_zeros(len(images), NUM_QUERIES, *features.trunk.grid, dtype=torch.bool)
        blocked[:, :2, 0] = True
        trunk = features.trunk.join(self.queries.expand(len(images), -1, -1))
        return self.backbone.finish(self.backbone.advance(trunk, depth, blocked)).tokens, features.levels[-1]


@pytest.mark.parametrize(
    ("family", "warm"), [("dinov2-registers", False), ("dinov3", False), ("dinov3", True), ("sam", False)]
)
def test_exports_and_compiles(family: str, warm: bool, make: Any) -> None:
    backbone = make(family)
    images = torch.randn(2, 3, 4 * backbone.patch, 6 * backbone.patch)
    module = Late(backbone).eval()
    expected = deepcopy(module)(images)
    if warm:
        module(images)
    exported = torch.export.export(module, (images,)).module()(images)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")(images)
    for tokens in (exported, compiled):
        torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["dinov2", "eva02", "sam"])
def test_set_image_size_changes_no_result_and_leaves_no_resampling_in_the_graph(family: str, make: Any) -> None:
    backbone = make(family)
    patch = backbone.patch
    images = torch.randn(1, 3, 5 * patch, 7 * patch)
    with torch.no_grad():
        expected = run(backbone, images).tokens
        backbone.set_image_size(5 * patch, 7 * patch - 3)
        assert torch.equal(run(backbone, images).tokens, expected)
    graph = str(torch.export.export(Late(backbone).eval(), (images,)).graph)
    assert "upsample" not in graph


def test_patch_and_image_size_set_the_grid(make: Any) -> None:
    backbone = make("dinov2", patch_size=16, image_size=(64, 100))
    assert backbone.stem.patch_embed.grid_size == (4, 7)
    assert backbone.stem.pos_embed.shape[1] == 1 + 28
    assert backbone.canvas(65, 96) == (80, 96)
    assert backbone.begin(torch.randn(1, 3, 64, 112)).grid == (4, 7)
    assert make("dinov2", image_size=64, remainder="cut").stem.patch_embed.grid_size == (4, 4)


def test_cut_drops_the_remainder(make: Any) -> None:
    backbone = make("eva02", remainder="cut")
    images = torch.randn(1, 3, 64, 75)
    assert backbone.canvas(64, 75) == (64, 75)
    trunk = backbone.begin(images)
    assert trunk.grid == (4, 5)
    assert torch.equal(trunk.tokens, backbone.begin(images[..., :56, :70]).tokens)
    with pytest.raises(InputError, match="holds no patch"):
        backbone.begin(images[..., :10, :])


@pytest.mark.parametrize("pyramid", ["bilinear", "learned"])
def test_pyramid_of_taps(pyramid: str, make: Any) -> None:
    backbone = make("vit", pyramid=pyramid)
    features = backbone(torch.randn(2, 3, 64, 96), 3)
    assert [tuple(level.shape) for level in features.levels] == [(2, 32, 2 * 2**i, 3 * 2**i) for i in range(4)]
    assert backbone.dims.strides == (32, 16, 8, 4)
    assert backbone.requires == {"complete_trunk"}
    assert not any(parameter.requires_grad for parameter in backbone.norm.parameters())
    assert torch.equal(features.trunk.taps[-1], features.trunk.patches.permute(0, 3, 1, 2))
    assert backbone.taps == (0, 0, 1, 2)


def test_taps_are_kept_without_a_pyramid(make: Any) -> None:
    backbone = make("dinov3", taps=[0, 2])
    trunk = run(backbone, torch.randn(1, 3, 32, 48))
    assert [tuple(tap.shape) for tap in trunk.taps] == [(1, 32, 2, 3)] * 2


def test_default_taps_are_those_of_the_literature() -> None:
    deep = {"embed_dim": 12, "depth": 24, "num_heads": 1}
    assert PlainViT("vit_small_patch16_224", pyramid="bilinear", options=deep).taps == (7, 11, 15, 23)
    assert PlainViT("vit_small_patch16_224", pyramid="learned", options={**deep, "depth": 12}).taps == (3, 5, 7, 11)


def test_frozen_backbone_has_no_gradient_and_no_randomness(make: Any) -> None:
    backbone = make("eva02", frozen=True, drop_path_rate=0.5, pyramid="learned").train()
    trainable = {name.partition(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trainable == {"pyramid"}
    assert backbone.num_frozen() == 3
    images = torch.randn(1, 3, 28, 28)
    assert torch.equal(run(backbone, images).tokens, run(backbone, images).tokens)
    assert any(p.requires_grad for p in make("eva02", frozen=True).norm.parameters())  # new, so it must learn


@pytest.mark.parametrize("family", FAMILIES)
def test_undecayed_names_exist_and_projections_cover_the_linear_layers(family: str, make: Any) -> None:
    backbone = make(family)
    names = dict(backbone.named_parameters())
    assert backbone.undecayed() <= names.keys()
    tables = {n for n in names if n.endswith(("pos_embed", "cls_token", "reg_token", "rel_pos_h", "freqs"))}
    assert tables <= backbone.undecayed()
    stacked = [(linear.in_features, linear.out_features // number) for linear, number, _ in backbone.projections(1)]
    assert stacked.count((32, 32)) == (4 if family == "eva02-clip" else 2)  # q, k, v, out; or qkv and out
    assert len(stacked) == {"eva02-clip": 7}.get(family, 4)


@pytest.mark.parametrize("family", ["clip", "eva02-clip"])
def test_joint_embeddings_are_timms_projection(family: str, make: Any, timm_twin: Any) -> None:
    backbone = make(family, joint=True)
    images = torch.randn(2, 3, 4 * backbone.patch, 6 * backbone.patch)
    with torch.no_grad():
        features = backbone(images, 3)
        expected = backbone.project(timm_twin(family, backbone).forward_features(images))
    assert backbone.provides == {"joint_embeddings"}
    assert backbone.dims.joint == 16
    torch.testing.assert_close(features.joint.whole, expected[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(features.joint.dense.flatten(2).transpose(1, 2), expected[:, 1:], rtol=0, atol=1e-6)
    assert backbone(images, 2).joint is None
    assert make(family)(images, 3).joint is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"taps": [0, 3]}, r"taps: \[0, 3\] must be block numbers from 0 to 2"),
        ({"taps": [1, 0]}, "in ascending order"),
        ({"taps": [0, 1], "pyramid": "learned"}, "a pyramid is made of 4"),
        ({"joint": True}, "has no projection into an image–text space"),
        ({"options": {"num_heds": 2}}, "num_heds"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    options = {"embed_dim": 32, "depth": 3, **arguments.pop("options", {"num_heads": 2})}
    with pytest.raises(RecipeError, match=sentence):
        PlainViT("vit_small_patch16_224", options=options, **arguments)
    with pytest.raises(RecipeError, match="no projection"):  # fine-tuned: its head names classes
        PlainViT("vit_base_patch16_clip_224.openai_ft_in1k", joint=True)
    with pytest.raises(RecipeError, match=r"use queryseg\.backbones\.PlainViT"):
        RotaryViT("vit_small_patch16_224")


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("dinov3", "rope-mixed")])
def test_resampled_positions_are_kept_until_the_table_changes(family: str, make: Any) -> None:
    """Only without gradients; in-place changes, as an optimiser or a loaded checkpoint makes them, are noticed."""
    backbone = make(family)
    with torch.no_grad():
        first = backbone._positions((5, 3))
        assert backbone._positions((5, 3)) is first
        backbone.stem.pos_embed.mul_(2)
        torch.testing.assert_close(backbone._positions((5, 3)), 2 * first)
    assert backbone._positions((5, 3)) is not backbone._positions((5, 3)), "gradients must reach the table"


def test_eva02_clip_rotates_as_tqdm_does() -> None:
    """Crops of 512² are 36×36 patches at positions 0 … 16 of the pretraining grid: per axis 16 frequencies, each for an
    adjacent pair, rows before columns. Source: tqdm spec §1."""
    options = {"embed_dim": 128, "depth": 1, "num_heads": 2}
    backbone = RotaryViT("eva02_large_patch14_clip_336", image_size=512, remainder="cut", options=options)
    trunk = backbone.begin(torch.zeros(1, 3, 512, 512))
    assert trunk.grid == (36, 36)
    assert trunk.rotary is not None
    place = torch.arange(36) / 36 * 16
    angles = place[:, None] * 10000 ** (-2 * torch.arange(16) / 32)
    angles = angles.repeat_interleave(2, -1)
    both = torch.cat((angles[:, None].expand(-1, 36, -1), angles[None].expand(36, -1, -1)), -1).flatten(0, 1)
    torch.testing.assert_close(trunk.rotary, torch.cat((both.sin(), both.cos()), -1), rtol=0, atol=1e-5)
