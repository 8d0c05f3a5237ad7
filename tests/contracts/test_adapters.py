"""Every adapter, found without being listed here, keeps the promises of `Adapter` on every family of vision
transformers and with every decoder."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from backbones.conftest import FAMILIES, shake
from torch import Tensor, nn

from queryseg.backbones import PlainViT
from queryseg.backbones.vision_transformer import VisionTransformer
from queryseg.cli.list import find_parts
from queryseg.contracts import Adapter
from queryseg.decoders import CrossAttention, PixelClassifier, QueryInjection
from queryseg.inference.engine import Engine
from queryseg.pixel_decoders import Deformable, Identity
from queryseg.queries import LearnableQueries, LinkedQueries, NoQueries
from queryseg.readouts import Mixture, PerPixel
from queryseg.recipe_file import options_of
from queryseg.segmenter import Parts, Segmenter, build_segmenter

ADAPTERS: dict[str, Any] = {path.rpartition(".")[2]: part for path, part in find_parts("adapters").items()}
MERGING = ("Frozen", "LoRA", "SoMA")
SMALL = {"rank": 3, "num_tokens": 6}
DEPTH = 3


@pytest.fixture(params=ADAPTERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def small(name: str, **options: Any) -> Any:
    """A maker of the adapter at its smallest, without a link to queries."""
    known = options_of(ADAPTERS[name])
    given = {**SMALL, "link": False, **options}
    return partial(ADAPTERS[name], **{key: value for key, value in given.items() if key in known})


def make_backbone(family: str, **arguments: Any) -> VisionTransformer:
    kind, model, options = FAMILIES[family]
    backbone = kind(model, options=options, **arguments)
    shake(backbone)
    return backbone.eval()


def adapted(family: str, name: str, **options: Any) -> tuple[VisionTransformer, VisionTransformer, Adapter]:
    """A bare backbone in float64, and the same with an adapter that was moved a little."""
    bare = make_backbone(family).double()
    backbone = copy.deepcopy(bare)
    adapter = small(name, **options)(bare.dims).double()
    backbone.attach(adapter)
    return bare, backbone, adapter


def move(backbone: VisionTransformer, seed: int = 1) -> None:
    """Every trained weight somewhere else, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def tokens_of(backbone: VisionTransformer, images: Tensor) -> Tensor:
    return backbone.finish(backbone(images, DEPTH).trunk).tokens


def images_for(backbone: VisionTransformer, rows: int = 3, columns: int = 5) -> Tensor:
    return torch.randn(2, 3, rows * backbone.patch, columns * backbone.patch, dtype=torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_trained_weight_learns_and_the_rest_is_frozen(family: str, name: str) -> None:
    bare, backbone, _ = adapted(family, name)
    move(backbone)
    images = images_for(backbone)  # an odd grid
    tokens = tokens_of(backbone, images)
    assert tokens.shape == tokens_of(bare, images).shape
    learned = {key: p for key, p in backbone.named_parameters() if p.requires_grad}
    if learned:
        tokens.square().sum().backward()
    assert [key for key, p in learned.items() if p.grad is None or not p.grad.any()] == []
    own = set(backbone.brought())
    still = {id(p) for p in backbone.base().values()}
    for key, p in backbone.named_parameters():
        if p not in own and not key.endswith("bias"):
            new = family in ("eva02", "sam") and key.startswith("norm.")  # the network came without a norm of tokens
            assert (id(p) not in still) if new else (id(p) in still), key
    assert bool(learned.keys() - {"norm.weight", "norm.bias"}) == (name != "Frozen")
    assert (tokens - tokens_of(bare, images)).abs().max() > (1e-6 if name != "Frozen" else -1)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_updates_the_backbone_is_bare(family: str, name: str) -> None:
    bare, backbone, _ = adapted(family, name, scale=0.0)
    images = images_for(backbone)
    # DINOv3 and EVA-02 add a fused layer's bias apart, and another order of memory adds in another order
    exact = name in MERGING and family not in ("dinov3", "eva02")
    atol = 0 if exact else 1e-12
    with torch.no_grad():  # the kernel of attention depends on whether gradients are wanted
        torch.testing.assert_close(tokens_of(backbone, images), tokens_of(bare, images), rtol=0, atol=atol)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_merging_changes_nothing_and_leaves_no_trace(family: str, name: str) -> None:
    bare, backbone, adapter = adapted(family, name)
    move(backbone)
    images = images_for(backbone)
    for precision, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        merged = copy.deepcopy(backbone).to(precision)
        before = tokens_of(merged, images.to(precision))
        assert merged.adapter is not None
        merged.adapter.merge(merged)
        after = tokens_of(merged, images.to(precision))
        scale = float(before.abs().max())
        torch.testing.assert_close(after, before, rtol=0, atol=tolerance * max(1.0, scale))
        if name in MERGING:
            assert merged.adapter is None
            assert merged.state_dict().keys() == bare.state_dict().keys()
            assert [type(m) for m in merged.modules()] == [type(m) for m in bare.modules()]
    assert backbone.adapter is adapter, "of a copy"


def test_what_comes_before_the_first_adapted_block_is_untouched_and_keeps_no_graph(name: str) -> None:
    known = options_of(ADAPTERS[name])
    bare, backbone, adapter = adapted("dinov2", name, start=0.7)
    first = 2 if "start" in known else DEPTH
    assert adapter.starts_at == backbone.num_frozen() == first
    move(backbone)
    images = images_for(backbone)
    trunk = backbone.advance(backbone.begin(images), first)
    assert torch.equal(trunk.tokens, bare.advance(bare.begin(images), first).tokens)
    assert trunk.tokens.grad_fn is None
    if first < DEPTH:
        end = backbone.advance(trunk, DEPTH).tokens
        assert end.grad_fn is not None
        assert not torch.equal(end, bare.advance(trunk, DEPTH).tokens)


def test_class_register_and_query_tokens_pass_unchanged(name: str) -> None:
    """`after_block` never sees them, so that behind the last block they are what the block made of them."""
    bare, backbone, _ = adapted("dinov2-registers", name, start=0.7)
    move(backbone)
    trunk = bare.advance(bare.begin(images_for(bare)), DEPTH - 1)
    trunk = trunk.join(torch.randn(2, 4, 32, dtype=torch.float64))
    own, plain = backbone.advance(trunk, DEPTH), bare.advance(trunk, DEPTH)
    if name in ("Rein", "FADA"):
        assert torch.equal(own.tokens[:, : 4 + 1 + 4], plain.tokens[:, : 4 + 1 + 4])
        assert not torch.equal(own.patches, plain.patches)
    elif name != "Frozen":
        assert not torch.equal(own.queries, plain.queries)  # these change the blocks themselves


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 2), (5, 7)])
def test_any_grid(name: str, size: tuple[int, int]) -> None:
    _, backbone, _ = adapted("vit", name)
    tokens = tokens_of(backbone, images_for(backbone, *size))
    assert bool(tokens.isfinite().all())


def compose(name: str, decoder: str) -> Segmenter:
    """A whole model; with the link where the adapter has one."""
    torch.manual_seed(0)
    pyramid = "bilinear" if decoder == "CrossAttention" else "none"
    options = {"embed_dim": 32, "depth": DEPTH, "num_heads": 2}
    backbone = PlainViT("vit_tiny_patch16_224", image_size=32, options=options, pyramid=pyramid)
    adapter = small(name, link=True)
    queries: Any = partial(LearnableQueries, num_queries=5, position=decoder == "CrossAttention")
    if "linked_positions" in adapter(backbone.dims).requires:
        queries = LinkedQueries
    pixel_decoder: Any = partial(Deformable, width=32, hidden=48, num_layers=1, num_heads=4, groups=8)
    parts = {
        "QueryInjection": (Identity, queries, QueryInjection, Mixture),
        "CrossAttention": (
            pixel_decoder,
            queries,
            partial(CrossAttention, num_layers=2, hidden=48, num_heads=4),
            Mixture,
        ),
        "PixelClassifier": (Identity, NoQueries, PixelClassifier, PerPixel),
    }[decoder]
    if decoder == "PixelClassifier":
        adapter = small(name)
    model = build_segmenter(("road", "sky"), Parts(backbone, *parts, adapter=adapter))
    return model.train()


@pytest.mark.parametrize("decoder", ["QueryInjection", "CrossAttention", "PixelClassifier"])
def test_every_decoder(name: str, decoder: str) -> None:
    model = compose(name, decoder)
    predictions = model(torch.randn(1, 3, 48, 80)).predictions
    torch.stack([p.mask_logits.square().mean() + p.class_logits.square().mean() for p in predictions]).sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.filterwarnings("ignore")
def test_the_whole_path_exports_and_compiles_as_one_graph(name: str) -> None:
    model = compose(name, "QueryInjection").eval()
    engine, images = Engine(model), torch.randint(0, 256, (1, 3, 48, 80), dtype=torch.uint8)
    with torch.no_grad():
        expected = engine(images)
        assert torch.equal(torch.export.export(engine, (images,)).module()(images), expected)
        torch._dynamo.reset()
        assert torch.equal(torch.compile(engine, fullgraph=True, backend="eager")(images), expected)
        reading = engine.find(images).scores()
        with torch.autocast("cpu", torch.bfloat16):
            assert ((engine.find(images).scores().float() - reading).abs() < 0.1).float().mean() > 0.95


def test_weights_reload_without_first_values(name: str) -> None:
    """What was trained loads into an adapter that has not looked at the trunk."""
    bare, backbone, _ = adapted("eva02", name)
    move(backbone)
    other = copy.deepcopy(bare)
    other.attach(small(name)(bare.dims).double(), initialise=False)
    assert other.base().keys() == backbone.base().keys()
    trained = {key: value for key, value in backbone.state_dict().items() if key not in backbone.base()}
    missing, unexpected = other.load_state_dict(trained, strict=False)
    assert set(missing) == backbone.base().keys()
    assert not unexpected
    images = images_for(backbone)
    assert torch.equal(tokens_of(other, images), tokens_of(backbone, images))
    assert isinstance(other.norm, nn.LayerNorm)
