"""Matrix products resize as torch's antialiased bicubic does."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from queryseg.ops.resampling import cubic_weights, resample_table

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(SIDES, SIDES)
def test_equals_torch(size, new_size):
    """Enlarged, reduced, stretched, down to one entry."""
    table = torch.randn(1, *size, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(table.permute(0, 3, 1, 2), new_size, mode="bicubic", antialias=True)
    found = resample_table(table, new_size)
    assert found.shape == (1, *new_size, 3)
    assert torch.allclose(found, expected.permute(0, 2, 3, 1), rtol=0, atol=1e-12)


def test_types_come_back():
    """Half precision is resized in float32."""
    table = torch.randn(1, 4, 4, 2, dtype=torch.bfloat16)
    found = resample_table(table, (8, 6))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, resample_table(table.float(), (8, 6)).bfloat16())


@pytest.mark.parametrize("new_length", [1, 3, 14, 37])
def test_rows_sum_to_one(new_length):
    weights = cubic_weights(14, new_length, torch.zeros(1, dtype=torch.float64))
    assert weights.shape == (new_length, 14)
    assert torch.allclose(weights.sum(1), torch.ones(new_length, dtype=torch.float64), atol=1e-14)
