"""Multi-head attention equals torch's own.

Shape legend: B images, Q rows that look, S rows that are looked at, D width.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from queryseg.errors import RecipeError
from queryseg.ops.multi_head_attention import MultiHeadAttention

B, Q, S, D, HEADS = 2, 5, 7, 12, 3


@pytest.mark.parametrize("weights", [False, True])
def test_it_equals_torch(weights: bool) -> None:
    ours, theirs = MultiHeadAttention(D, HEADS).double(), nn.MultiheadAttention(D, HEADS, batch_first=True).double()
    nn.init.normal_(ours.in_proj_bias)
    nn.init.normal_(ours.out_proj.bias)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = (torch.randn(B, n, D, dtype=torch.float64) for n in (Q, S, S))
    blocked = torch.rand(B, Q, S) > 0.5
    blocked[..., 0] = False
    found, attention = ours(query, key, value, blocked, weights)
    expected, expected_attention = theirs(query, key, value, attn_mask=blocked.repeat_interleave(HEADS, 0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert (attention is not None) == weights
    if attention is not None:
        torch.testing.assert_close(attention, expected_attention, rtol=0, atol=1e-12)
        assert not attention[blocked].any()


def test_first_weights_are_torchs() -> None:
    torch.manual_seed(1)
    ours = MultiHeadAttention(D, HEADS)
    bound = (6 / (4 * D)) ** 0.5  # Glorot's for (3D, D)
    assert 0.9 * bound < ours.in_proj_weight.abs().max() <= bound
    assert not ours.in_proj_bias.any()
    assert not ours.out_proj.bias.any()


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(RecipeError, match="width 10 cannot be split among 4 heads"):
        MultiHeadAttention(10, 4)


def test_scores_stay_in_float32_under_mixed_precision() -> None:
    """Halved scores would make the weights of 60 against 60.1 equal."""
    ours = MultiHeadAttention(D, 1)
    query, key, value = torch.randn(B, Q, D), torch.randn(B, S, D), torch.randn(B, S, D)
    with torch.autocast("cpu", torch.bfloat16):
        out, attention = ours(query, key, value, weights=True)
        halved = [F.linear(x, w) for x, w in zip((query, key), ours.in_proj_weight.chunk(3), strict=False)]
    assert out.dtype == torch.bfloat16
    assert attention is not None
    assert attention.dtype == torch.float32
    expected = (halved[0].float() @ halved[1].float().mT * D**-0.5).softmax(-1)
    torch.testing.assert_close(attention, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(attention.sum(-1), torch.ones(B, Q), rtol=0, atol=1e-6)
