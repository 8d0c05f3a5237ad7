"""Row-column attention equals its definition, written as loops."""

from __future__ import annotations

import torch
from torch import nn

from queryseg.ops.row_column_attention import RowColumnAttention

B, Q, H, W, D, HEADS = 2, 3, 4, 5, 12, 3


def test_weights_are_products_of_rows_and_columns() -> None:
    layer = RowColumnAttention(D, HEADS).double()
    nn.init.normal_(layer.in_proj_bias)
    query = torch.randn(B, Q, D, dtype=torch.float64)
    key, value = torch.randn(2, B, H, W, D, dtype=torch.float64)
    (wq, wk, wv), (bq, bk, bv) = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    q, v = query @ wq.T + bq, value @ wv.T + bv
    by_column, by_row = key.mean(1) @ wk.T + bk, key.mean(2) @ wk.T + bk
    out = torch.zeros(B, Q, D, dtype=torch.float64)
    for head in range(HEADS):
        part = slice(head * 4, head * 4 + 4)
        columns = torch.einsum("bqd,bwd->bqw", q[..., part], by_column[..., part]).div(2).softmax(-1)
        rows = torch.einsum("bqd,bhd->bqh", q[..., part], by_row[..., part]).div(2).softmax(-1)
        out[..., part] = torch.einsum("bqhw,bhwd->bqd", rows[..., None] * columns[:, :, None], v[..., part])
    found, weights = layer(query, key, value)
    torch.testing.assert_close(found, layer.out_proj(out), rtol=0, atol=1e-12)
    assert weights is None
