"""Shape legend: B images, K classes, J width of the image–text space, h×w the grid of patches."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Step
from queryseg.errors import RecipeError
from queryseg.objectives import TextRegularizers
from queryseg.objectives.text_regularizers import language_loss, vision_language_loss
from queryseg.types import Dims, Features, Joint, Output, Queries, Target, Trunk

B, K, J = 2, 4, 8
DIMS = Dims(tuple("abcd"), 0, 0, (), (), 0, 0)


def basis(scale: float = 1.0) -> Tensor:
    """(B, K, J) one axis for each class"""
    return scale * torch.eye(K, J).expand(B, -1, -1)


def test_texts_are_told_apart_by_direction_alone() -> None:
    """Orthogonal encodings, met exactly: softmax of 1 against K − 1 zeros; no temperature sharpens it."""
    expected = math.log(1 + (K - 1) / math.e)
    assert language_loss(basis(7.0), basis()[0]).item() == pytest.approx(expected)
    swapped = basis()[:, [1, 0, 2, 3]]
    worse = (2 * math.log(math.e + K - 1) + 2 * expected) / 4
    assert language_loss(swapped, basis()[0]).item() == pytest.approx(worse)


def test_ignored_pixels_add_nothing_and_count() -> None:
    dense = basis()[:, :1].mT[..., None].expand(-1, -1, 3, 3)  # every patch lies on the axis of class 0
    labels = torch.zeros(B, 6, 6, dtype=torch.int64)
    whole = vision_language_loss(dense, basis(), labels, 0.5)
    assert whole.item() == pytest.approx(math.log(1 + (K - 1) * math.exp(-2)))
    labels[:, :, 3:] = 255
    assert vision_language_loss(dense, basis(), labels, 0.5).item() == pytest.approx(whole.item() / 2)
    labels[:] = 255
    assert vision_language_loss(dense, basis(), labels, 0.5).item() == 0


def losses(dtype: torch.dtype, **options: float) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    texts, dense, whole, initial, encodings = (
        torch.randn(shape, generator=draw).to(dtype) for shape in ((B, K, J), (B, J, 3, 3), (B, J), (B, J), (K, J))
    )
    features = Features(cast(Trunk, None), (), dense, joint=Joint(whole, dense), context=texts)
    output = Output(features, Queries(texts), ())

    class Texts:
        def encode_names(self, template: str) -> Tensor:
            assert template == "a clean origami of a {class}"
            return encodings

    class Model:
        queries = Texts()

    class Frozen:
        joint = Joint(initial, dense)

    targets = [Target.semantic(torch.arange(36).view(6, 6) % K)] * B
    step = Step(0, 1, dense, cast(Any, Model()), cast(Any, lambda name: Frozen()))
    return TextRegularizers(DIMS, **options).losses(output, targets, step)


def test_half_precision_is_computed_in_float32() -> None:
    exact = losses(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses(torch.float32)
        rough = losses(torch.bfloat16)
    for name, value in exact.items():
        assert torch.equal(mixed[name], value)
        assert rough[name].dtype == torch.float32
        assert rough[name].item() == pytest.approx(value.item(), rel=0.05)


def test_the_image_is_compared_as_it_is() -> None:
    draw = torch.Generator().manual_seed(0)
    _, _, whole, initial = (torch.randn(s, generator=draw) for s in ((B, K, J), (B, J, 3, 3), (B, J), (B, J)))
    terms = losses(torch.float32)
    torch.testing.assert_close(terms["vision"], ((whole - initial) ** 2).mean())
    assert terms["vision"] != F.mse_loss(F.normalize(whole, dim=-1), F.normalize(initial, dim=-1))


def test_what_it_needs_of_a_model() -> None:
    objective = TextRegularizers(DIMS)
    assert objective.requires == {"text_context", "joint_embeddings", "complete_trunk"}
    assert objective.references == {"frozen"}
    assert not list(objective.parameters())
    texts_alone = TextRegularizers(DIMS, vision_language_weight=0, vision_weight=0)
    assert (texts_alone.requires, texts_alone.references) == ({"text_context"}, frozenset())
    assert TextRegularizers(DIMS, language_weight=0, vision_language_weight=0).requires == {
        "joint_embeddings",
        "complete_trunk",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, "temperature of TextRegularizers is 0"),
        ({"template": "a photo"}, "where the name goes: {class}"),
        ({"vision_weight": -1}, "at least 0"),
    ],
)
def test_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        TextRegularizers(DIMS, **options)
