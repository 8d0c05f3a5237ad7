"""Queries that are the names of the classes; their numbers are compared with the authors' in tests/parity."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from queryseg.backbones import PlainViT, RotaryViT
from queryseg.decoders import CrossAttention, MaskHeads, QueryInjection
from queryseg.errors import RecipeError
from queryseg.pixel_decoders import Identity, TextDeformable
from queryseg.queries import TextualQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, build_segmenter
from queryseg.types import ClassChange, Dims, Features, Joint, Queries, Trunk

NAMES = ("road", "traffic light", "sky")
DIMS = Dims(NAMES, 16, 2, (16,), (16,), 16, 16, joinable=2, joint=24)
TOWER: dict[str, Any] = {
    "embed_dim": 24,
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
SMALL: dict[str, Any] = {"tower": TOWER, "tower_weights": False, "context_width": 8, "context_heads": 2}


def features(batch: int = 2) -> Features:
    level = torch.randn(batch, 16, 3, 5)
    joint = Joint(torch.randn(batch, 24), torch.randn(batch, 24, 3, 5))
    return Features(Trunk(level.flatten(2).transpose(1, 2), (3, 5)), (level,), level, joint=joint)


@pytest.fixture
def learning() -> TextualQueries:
    pytest.importorskip("open_clip", reason="the extra `text` is not installed")
    source = TextualQueries(DIMS, **SMALL)
    source.begin_training()
    return source


def test_the_image_moves_texts_and_only_while_it_differs(learning: TextualQueries) -> None:
    given = features()
    learning.eval()
    texts = learning.context(given)
    assert texts.shape == (2, 3, 24)
    assert (texts[0] - texts[1]).abs().max() > 1e-3
    same = Joint(given.joint.whole[:1].expand(2, -1), given.joint.dense[:1].expand(2, -1, -1, -1))  # type: ignore[union-attr]
    alike = learning.context(replace(given, joint=same))
    torch.testing.assert_close(alike[0], alike[1])
    assert learning.gamma is not None
    nn.init.zeros_(learning.gamma)
    torch.testing.assert_close(learning.context(given), learning.texts().expand(2, -1, -1))


def test_gradients_reach_the_prompt_and_not_the_encoder(learning: TextualQueries) -> None:
    queries = learning(replace(features(), context=learning.context(features())), MaskHeads(DIMS))
    queries.content.square().sum().backward()
    assert {name for name, p in learning.named_parameters() if p.grad is None} == {"position"}
    assert learning.prompt is not None
    assert learning.prompt.shape == (5, 16)
    assert "prompt" in learning.state_dict()
    assert "embeddings" not in learning.state_dict()
    assert all(len(p) < 49408 for p in learning.parameters()), "the encoder is no part of the model"


def test_what_is_stored_predicts_alike(learning: TextualQueries) -> None:
    kept, aside = learning.fold(learning.state_dict())
    assert aside.keys() == {"prompt", "tower_sha256"}
    stored = TextualQueries(DIMS, **SMALL)
    stored.load_state_dict(kept)
    given = features()
    torch.testing.assert_close(stored.eval().context(given), learning.eval().context(given), rtol=0, atol=1e-6)
    assert stored.fold(kept)[1] == {}
    average = {**learning.state_dict(), "prompt": -learning.prompt.detach()}  # type: ignore[union-attr]
    assert (learning.fold(average)[0]["embeddings"] - kept["embeddings"]).abs().max() > 0.01


def test_names_in_a_template(learning: TextualQueries) -> None:
    found = learning.encode_names("a clean origami of a {class}")
    assert found.shape == (3, 24)
    assert not found.requires_grad
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    tower = learning._tower
    assert tower is not None
    one = tower.encode(tower.tokenize(["a clean origami of a traffic light"]))[0]
    torch.testing.assert_close(found[1], one / one.norm(), rtol=0, atol=1e-5)
    assert copy.deepcopy(learning).encode_names("a clean origami of a {class}").equal(found)
    with pytest.raises(RecipeError, match="no place for the name"):
        learning.encode_names("a clean origami")
    with pytest.raises(RecipeError, match="only there while a model learns"):
        TextualQueries(DIMS, **SMALL).encode_names("a {class}")


def test_unconditioned_texts_join_any_trunk() -> None:
    """Without an image–text space, too; conditioned ones need all blocks before the decoder, which is said."""
    vit = {"image_size": 32, "options": {"embed_dim": 32, "depth": 3, "num_heads": 2}}

    def build(joint: bool = False, **options: Any) -> Any:
        name = "vit_base_patch16_clip_quickgelu_224" if joint else "vit_tiny_patch16_224"
        sizes = {**vit, "options": {**vit["options"], "num_classes": 24}} if joint else vit  # type: ignore[dict-item]
        backbone = PlainViT(name, joint=joint, **sizes)
        return build_segmenter(
            NAMES, Parts(backbone, Identity, lambda d: TextualQueries(d, **SMALL, **options), QueryInjection, Mixture)
        )

    model = build(conditioned=False, position=False).eval()
    final = model(torch.randn(2, 3, 32, 48)).final
    assert final.mask_logits.shape == (2, 3, 8, 12)
    with pytest.raises(RecipeError, match="TextualQueries requires 'complete_trunk'"):
        build(joint=True)
    with pytest.raises(RecipeError, match="TextualQueries requires '"):
        build()


def test_shared_vectors_treat_classes_alike() -> None:
    """Swap two texts, and everything that is said of the two classes is swapped."""
    dims = replace(DIMS, channels=(16, 12, 8, 4), strides=(32, 16, 8, 4), class_vectors="shared")
    pixel_decoder = TextDeformable(dims, width=16, num_layers=2, hidden=8, num_heads=2, groups=4).double().eval()
    source = TextualQueries(pixel_decoder.dims, **SMALL, conditioned=False).double().eval()
    decoder = CrossAttention(pixel_decoder.dims, num_layers=3, hidden=8, num_heads=2).double().eval()
    assert len(source.position) == len(pixel_decoder.text_position) == 1  # type: ignore[arg-type]
    assert decoder.heads.class_embed.out_features == 2  # type: ignore[union-attr]
    levels = tuple(torch.randn(1, c, 2 << k, 3 << k, dtype=torch.float64) for k, c in enumerate(dims.channels))
    trunk: Any = None
    texts = torch.randn(1, 3, 24, dtype=torch.float64)

    def said(texts: torch.Tensor) -> Any:
        given = pixel_decoder(Features(trunk, levels, levels[-1], context=texts))
        (final,) = decoder(trunk, given, source(given, decoder.heads), source)
        return final

    one, two = said(texts), said(texts[:, [1, 0, 2]])
    torch.testing.assert_close(two.mask_logits, one.mask_logits[:, [1, 0, 2]], rtol=0, atol=1e-9)
    own = [p.class_scores.diagonal(dim1=1, dim2=2) for p in (one, two)]
    torch.testing.assert_close(own[1], own[0][:, [1, 0, 2]], rtol=0, atol=1e-12)
    assert float(one.class_scores.detach().sum()) == pytest.approx(float(own[0].detach().sum()))


def test_shared_vectors_need_rows_that_stand_for_classes() -> None:
    from queryseg.queries import LearnableQueries

    vit = PlainViT("vit_tiny_patch16_224", image_size=32, options={"embed_dim": 32, "depth": 2, "num_heads": 2})
    with pytest.raises(RecipeError, match="MaskHeads requires 'class_rows'"):
        build_segmenter(NAMES, Parts(vit, Identity, LearnableQueries, QueryInjection, Mixture, class_vectors="shared"))
    with pytest.raises(RecipeError, match="needs classes 'softmax'"):
        MaskHeads(replace(DIMS, class_vectors="shared"), classes="sigmoid")
    heads = MaskHeads(DIMS, classes="sigmoid")
    with pytest.raises(RecipeError, match="have no 'no object'"):
        heads.change_classes(ClassChange(("a",), (None,), torch.empty(1, 24)))


def test_rows_of_shared_heads_learn_by_cross_entropy() -> None:
    """What is out of reach has no probability, no gradient and no infinity."""
    heads = MaskHeads(replace(DIMS, class_vectors="shared"))
    logits = heads(Queries(torch.randn(2, 3, 16)), torch.randn(2, 16, 4, 4)).class_logits
    assert logits.shape == (2, 3, 4)
    target = torch.tensor([[0, 3, 2], [3, 1, 3]])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())
    loss.backward()
    assert bool(loss.isfinite())
    assert heads.class_embed.weight.grad is not None
    assert bool(heads.class_embed.weight.grad.isfinite().all() and heads.class_embed.weight.grad.any())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tower": "ViT-B-16-quickgelu"}, "embeds texts into 512 numbers, but the backbone images into 24"),
        ({"prompt_length": 0}, "prompt_length is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"tower_weights": True}, "on the hub is not known here"),
    ],
)
def test_wrong_options_are_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        TextualQueries(DIMS, **{**SMALL, **options})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


CLIP = (PlainViT, "vit_base_patch16_clip_quickgelu_224.openai", "ViT-B-16-quickgelu", {"taps": [3, 5, 7, 11]})
EVA = (
    RotaryViT,
    "eva02_large_patch14_clip_336.merged2b",
    "EVA02-L-14-336",
    {"taps": [7, 11, 15, 23], "remainder": "cut"},
)


@pytest.mark.parametrize(
    ("made", "backbone_size", "head_size", "sizes"),
    [(CLIP, 93.9, 25.3, (16, 32, 64, 128)), (EVA, 317.8, 25.7, (18, 36, 72, 144))],
    ids=["CLIP-B", "EVA02-L"],
)
def test_the_papers_models_have_their_sizes(made: Any, backbone_size: float, head_size: float, sizes: Any) -> None:
    """Millions of parameters of spec §9, and the pyramid of spec §1 for crops of 512²."""
    kind, name, tower, options = made
    with torch.device("meta"):
        backbone = kind(name, image_size=512, pyramid="learned", joint=True, **options)
        dims = replace(backbone.dims, class_names=tuple(map(str, range(19))))
        pixel_decoder = TextDeformable(dims)
        source = TextualQueries(pixel_decoder.dims, tower)
        decoder = CrossAttention(pixel_decoder.dims)
        found = backbone(torch.empty(1, 3, 512, 512), backbone.dims.depth)

    def millions(*modules: nn.Module) -> float:
        return sum(p.numel() for module in modules for p in module.parameters()) / 1e6

    assert round(millions(backbone), 1) == backbone_size
    assert source.position is not None
    positions = nn.ParameterList([source.position])
    assert round(millions(pixel_decoder, decoder, source.project, positions), 1) == head_size
    assert tuple(level.shape[-1] for level in found.levels) == sizes
    assert found.joint is not None
    assert found.joint.dense.shape == (1, dims.joint, sizes[1], sizes[1])
    assert len(pixel_decoder.layers) == 6
    assert len(decoder.layers) == 9
