from __future__ import annotations

import pytest
import torch

from queryseg.decoders import MaskHeads, QueryInjection, Upsampler
from queryseg.errors import RecipeError
from queryseg.types import Dims, Queries

DIMS = Dims(("a", "b", "c"), 8, 2, (8,), (16,), 8, 8, joinable=2)


@pytest.mark.parametrize(("stride", "factor"), [(4, 1), (8, 2), (14, 4), (16, 4), (32, 8)])
def test_upsampler_ends_at_stride_four(stride, factor):
    assert Upsampler(8, stride)(torch.randn(2, 8, 3, 5)).shape == (2, 8, 3 * factor, 5 * factor)


def test_upsampler_refuses_other_strides():
    with pytest.raises(RecipeError, match="stride is 20"):
        Upsampler(8, 20)


def test_upsampler_stage_is_what_the_specification_says():
    stage = Upsampler(8, 8)[0].double()
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64)
    expanded = torch.nn.functional.conv_transpose2d(x, stage.expand.weight, stage.expand.bias, stride=2)
    smoothed = torch.nn.functional.conv2d(
        torch.nn.functional.gelu(expanded), stage.smooth.weight, padding=1, groups=8
    ).permute(0, 2, 3, 1)
    normed = torch.nn.functional.layer_norm(smoothed, (8,), stage.norm.weight, stage.norm.bias, eps=1e-5)
    assert torch.allclose(stage(x), normed.permute(0, 3, 1, 2), atol=1e-12)


def test_heads_compare_embeddings_with_features():
    heads = MaskHeads(DIMS, norm=False, activation="gelu").double()
    content = torch.randn(2, 4, 8, dtype=torch.float64)
    features = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    p = heads(Queries(content), features)
    assert torch.allclose(p.mask_logits[1, 2, 0, 4], p.mask_embeddings[1, 2] @ features[1, :, 0, 4], atol=1e-12)
    assert torch.allclose(p.class_scores, p.class_logits.softmax(-1)[..., :-1])
    assert p.class_logits.shape == (2, 4, 4)
    assert torch.equal(heads.classify(content), p.class_logits)


def test_sigmoid_heads_know_no_object_by_silence():
    heads = MaskHeads(DIMS, classes="sigmoid")
    p = heads(Queries(torch.randn(1, 4, 8)), torch.randn(1, 8, 3, 5))
    assert p.class_logits.shape == (1, 4, 3)
    assert torch.equal(p.class_scores, p.class_logits.sigmoid())
    assert heads.provides == {"sigmoid_classes"}


def test_a_pyramid_is_refused():
    dims = Dims(("a",), 8, 2, (8, 8), (16, 8), 8, 8, joinable=2)
    with pytest.raises(RecipeError, match="2 feature levels"):
        QueryInjection(dims)
