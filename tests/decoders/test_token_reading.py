"""Strips of tokens give the masks that all tokens give at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from queryseg.decoders.mask_heads import MaskHeads
from queryseg.decoders.token_reading import read_tokens
from queryseg.decoders.upsampler import Upsampler
from queryseg.types import Dims, Queries

WIDTH = 8


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    dims = Dims(("a", "b"), WIDTH, 2, (WIDTH,), (16,), WIDTH, WIDTH)
    heads = MaskHeads(dims).double()
    return heads, Upsampler(WIDTH, 16).double(), Upsampler(WIDTH, 32).double()


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 40), st.booleans())
def test_strips_equal_the_whole(parts, height, width, strip_tokens, coarse):
    """Two and three doublings; strips of one row to more rows than there are."""
    heads, fine, doubled = parts
    upsampler = doubled if coarse else fine
    tokens, queries = torch.randn(2, WIDTH, height, width).double(), Queries(torch.randn(2, 3, WIDTH).double())
    with torch.no_grad():
        whole = read_tokens(heads, upsampler, queries, tokens)
        strips = read_tokens(heads, upsampler, queries, tokens, strip_tokens)
    torch.testing.assert_close(strips.mask_logits, whole.mask_logits, rtol=0, atol=1e-12)
    assert torch.equal(strips.class_scores, whole.class_scores)
    assert strips.tokens is tokens


def test_the_largest_map_never_exists(parts):
    heads, upsampler, _ = parts
    sizes = []
    hook = upsampler.register_forward_hook(lambda *call: sizes.append(call[2].shape[2]))
    tokens, queries = torch.randn(1, WIDTH, 9, 4).double(), Queries(torch.randn(1, 3, WIDTH).double())
    with torch.no_grad():
        reading = read_tokens(heads, upsampler, queries, tokens, 4 * 4)
    hook.remove()
    assert sizes == [16, 20, 16], "three strips of 3 rows, with a row beside them, four times as large"
    assert reading.mask_features is None


def test_gradients_see_all_tokens_at_once(parts):
    heads, upsampler, _ = parts
    tokens, queries = torch.randn(1, WIDTH, 4, 4).double(), Queries(torch.randn(1, 3, WIDTH).double())
    assert read_tokens(heads, upsampler, queries, tokens, 4).mask_features is not None
