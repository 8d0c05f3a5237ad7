"""Every decoder with every pixel decoder that fits it makes a model that keeps the promises of `Segmenter`; found
without being listed here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from queryseg.backbones import PlainViT
from queryseg.cli.list import find_parts
from queryseg.contracts import PixelDecoder
from queryseg.decoders import BoxHeads, CrossAttention, HighResolutionCrossAttention, PixelClassifier
from queryseg.errors import RecipeError
from queryseg.inference.engine import Engine
from queryseg.pixel_decoders import Deformable, TextDeformable
from queryseg.queries import FocusAwareQueries, LearnableQueries, NoQueries, PixelSelectedQueries, TextualQueries
from queryseg.readouts import Mixture, PerPixel
from queryseg.recipe_file import options_of
from queryseg.segmenter import Parts, Segmenter, build_segmenter
from queryseg.types import Dims

TINY_VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}
SMALL = {"width": 32, "hidden": 48, "num_layers": 4, "num_heads": 4, "groups": 8, "num_blocks": 2}
ALL_LEVELS = {"num_levels": 4, "levels": (0, 1, 2, 3), "positions": "conditional"}
NAMES = ("road", "building", "sky")


class SelectedPixels(CrossAttention):
    """SimCIS's decoder, whose queries are pixels."""

    def __init__(self, dims: Dims, num_layers: int, hidden: int, num_heads: int) -> None:
        super().__init__(dims, num_layers, hidden, num_heads, order="self_first", heads=BoxHeads)


def small(part: type, more: dict[str, Any] | None = None) -> Callable[..., Any]:
    """The part at the smallest size that shows all it does."""
    options = {**SMALL, **(more or {})}
    if issubclass(part, PixelDecoder):
        options["num_layers"] = 2  # a layer's output is another one's input
    if part is HighResolutionCrossAttention:
        options["num_layers"] = 5  # its fourth is the first that reads pixels, and the fifth comes after it
    return partial(part, **{name: value for name, value in options.items() if name in options_of(part)})


def compose(pixel_decoder: type, decoder: type) -> Segmenter:
    """On a plain ViT, with one level if that fits, else four, of which queries read the coarse three if that fits and
    else all. Raises: RecipeError if nothing does."""
    torch.manual_seed(0)
    queries: Any = partial(LearnableQueries, num_queries=5, position="level_positions" in decoder.requires, std=1.0)
    readout: Any = Mixture
    if decoder is PixelClassifier:
        queries, readout = NoQueries, PerPixel
    if decoder is HighResolutionCrossAttention:
        queries = partial(FocusAwareQueries, num_queries=5)
    if decoder is SelectedPixels:
        queries = partial(PixelSelectedQueries, num_queries=5)
    vit: Any = partial(PlainViT, "vit_tiny_patch16_224", image_size=32, options=TINY_VIT)
    if "text_context" in pixel_decoder.requires:
        queries = partial(TextualQueries, tower={"embed_dim": 24, "text_cfg": {}}, tower_weights=False, dropout=0.0)
        clip = {**TINY_VIT, "num_classes": 24}
        vit = partial(PlainViT, "vit_base_patch16_clip_quickgelu_224", image_size=32, options=clip, joint=True)
    for pyramid, more in (("none", {}), ("bilinear", {}), ("bilinear", ALL_LEVELS)):
        try:
            parts = Parts(vit(pyramid=pyramid), small(pixel_decoder, more), queries, small(decoder), readout)
            return build_segmenter(NAMES, parts)
        except RecipeError as error:
            refused = error
    raise refused


PIXEL_DECODERS = find_parts("pixel_decoders")
DECODERS = {**find_parts("decoders"), f"{__name__}.{SelectedPixels.__name__}": SelectedPixels}


ONLY_WITH = {
    TextDeformable: CrossAttention,
    SelectedPixels: Deformable,
    HighResolutionCrossAttention: Deformable,
}
"""The partner of parts that are variants of others, whose own pairs show the rest."""


def fitting() -> list[tuple[str, str]]:
    """Which pairs make a model at all."""
    pairs = []
    for pixel_decoder, first in PIXEL_DECODERS.items():
        for decoder, second in DECODERS.items():
            if ONLY_WITH.get(first, second) is not second or ONLY_WITH.get(second, first) is not first:
                continue
            try:
                compose(PIXEL_DECODERS[pixel_decoder], DECODERS[decoder])
            except RecipeError:
                continue
            pairs.append((pixel_decoder, decoder))
    return pairs


PAIRS = fitting()


@pytest.fixture(params=PAIRS, ids=lambda pair: "+".join(path.rpartition(".")[2] for path in pair))
def model(request: pytest.FixtureRequest) -> Segmenter:
    return compose(PIXEL_DECODERS[request.param[0]], DECODERS[request.param[1]])


def test_every_part_belongs_to_a_model() -> None:
    assert {first for first, _ in PAIRS} == PIXEL_DECODERS.keys()
    assert {second for _, second in PAIRS} == DECODERS.keys()


@pytest.mark.parametrize("size", [(16, 16), (48, 80), (33, 61), (7, 100)])
def test_any_image_size(model: Segmenter, size: tuple[int, int]) -> None:
    model.eval()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    canvas = model.canvas(*size)
    final = model(model.normalise(images)).final
    assert final.mask_logits.shape[-2:] == (canvas[0] // 4, canvas[1] // 4)
    assert bool(final.mask_logits.isfinite().all())
    assert Engine(model)(images).shape == (2, *size)


def test_every_trainable_parameter_receives_gradient(model: Segmenter) -> None:
    predictions = model(torch.randn(2, 3, 32, 48)).predictions
    read = [(p.mask_logits, p.class_logits, *(() if p.boxes is None else (p.boxes,))) for p in predictions]
    losses = [x.square().mean() for reading in read for x in reading]
    torch.stack(losses).sum().backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_training_and_testing_end_with_the_same_reading(model: Segmenter) -> None:
    model.double()
    for part in model.parts().values():
        part.schedule(1.0)  # what is annealed is gone at the end
    images = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    trained, tested = model.train()(images), model.eval()(images)
    torch.testing.assert_close(trained.final.mask_logits, tested.final.mask_logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(trained.final.class_logits, tested.final.class_logits, rtol=0, atol=1e-10)
    if not isinstance(model.decoder, PixelClassifier):  # its rows are no queries
        contents = model.contents(tested.features, tested.queries)
        torch.testing.assert_close(contents, tested.final.content, rtol=0, atol=0)


def test_a_batch_equals_its_images_one_by_one(model: Segmenter) -> None:
    model.double().eval()
    images = torch.randn(3, 3, 32, 48, dtype=torch.float64)
    single = torch.cat([model(image[None]).final.mask_logits for image in images])
    torch.testing.assert_close(model(images).final.mask_logits, single, rtol=0, atol=1e-10)


def test_copies_and_saved_weights_give_the_same_output(model: Segmenter) -> None:
    images = torch.randn(1, 3, 32, 32)
    expected = model.eval()(images).final.mask_logits
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images).final.mask_logits, expected)


def test_bfloat16_stays_close(model: Segmenter) -> None:
    engine = Engine(model.eval())
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    expected = engine.find(images).scores()
    with torch.autocast("cpu", torch.bfloat16):
        close = (engine.find(images).scores().float() - expected).abs() < 0.1
    assert close.float().mean() > 0.95


@pytest.mark.filterwarnings("ignore")
def test_the_whole_path_exports_and_compiles_as_one_graph(model: Segmenter) -> None:
    engine = Engine(model.eval())
    images = torch.randint(0, 256, (1, 3, 40, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = engine(images)
        assert torch.equal(torch.export.export(engine, (images,)).module()(images), expected)
        torch._dynamo.reset()
        assert torch.equal(torch.compile(engine, fullgraph=True, backend="eager")(images), expected)
