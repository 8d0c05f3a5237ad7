"""Attention over a map, first along its rows and then along its columns.

Shape legend: B images, Q rows that look, h×w a map, D width, G heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.ops.multi_head_attention import MultiHeadAttention


class RowColumnAttention(MultiHeadAttention):
    """One softmax over columns and one over rows instead of one over all pixels: weights are their product. Keys of a
    column are the mean of its pixels' keys, and of a row likewise; Q·(h + w) scores instead of Q·h·w.

    Source: Anchor DETR (arXiv 2109.07107) §3.4, Eq. 6–7 (RCDA). Deviation: rows and columns share one query and one key
    projection, so that it has as many parameters as the attention that it stands beside.
    """

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """query (B, Q, D), key and value (B, h, w, D) → (B, Q, D), None: it knows no mask and gives no weights"""
        assert blocked is None, "row-column attention takes no mask"
        (to_query, bias_query), (to_key, bias_key), (to_value, bias_value) = self.projections()

        def split(x: Tensor) -> Tensor:
            """(B, …, D) → (B, G, …, D/G)"""
            return x.view(*x.shape[:-1], self.num_heads, -1).movedim(-2, 1)

        looking = split(F.linear(query, to_query, bias_query))
        scale = looking.shape[-1] ** -0.5

        def along(axis: int) -> Tensor:
            keys = split(F.linear(key.mean(axis), to_key, bias_key))
            weights: Tensor = (looking @ keys.transpose(2, 3) * scale).softmax(-1)
            return weights

        columns, rows = along(1), along(2)  # (B, G, Q, w), (B, G, Q, h)
        values = split(F.linear(value, to_value, bias_value))  # (B, G, h, w, D/G)
        by_row = columns[:, :, None] @ values  # (B, G, h, Q, D/G)
        out = torch.einsum("bgqh,bghqd->bgqd", rows, by_row)
        return self.out_proj(out.transpose(1, 2).flatten(2)), None
