"""Texts look at the image.

Shape legend: B images, K classes, J width of an image–text space, C width of this decoder, T embeddings of one image.
"""

from __future__ import annotations

from torch import Tensor, nn

from queryseg.ops.multi_head_attention import MultiHeadAttention


class ContextLayer(nn.Module):
    """Texts look at each other, at the image, and pass a feed-forward layer; every step is normed before and adds to
    its input. `dropout` follows each of them, and the hidden layer."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(width), MultiHeadAttention(width, num_heads, bias=False)
        self.cross_norm, self.cross_attention = nn.LayerNorm(width), MultiHeadAttention(width, num_heads, bias=False)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.expand, self.reduce = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.activation, self.dropout = nn.GELU(), nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """x (B, K, C), memory (B, T, C) → (B, K, C)"""
        normed = self.self_norm(x)
        x = x + self.dropout(self.self_attention(normed, normed, normed)[0])
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, memory)[0])
        hidden = self.dropout(self.activation(self.expand(self.feed_forward_norm(x))))
        return x + self.dropout(self.reduce(hidden))  # type: ignore[no-any-return]


class ContextDecoder(nn.Module):
    """What an image adds to the texts of the classes.

    joint       J
    width       C
    num_layers, num_heads, dropout  of its layers

    Source: DenseCLIP (CVPR 2022) §3.3, as tqdm's code uses it (spec §2; the paper's figures leave it out).
    """

    def __init__(self, joint: int, width: int, num_layers: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.memory = nn.Sequential(nn.LayerNorm(joint), nn.Linear(joint, width), nn.LayerNorm(width))
        self.texts = nn.Sequential(nn.LayerNorm(joint), nn.Linear(joint, width))
        self.layers = nn.ModuleList(ContextLayer(width, num_heads, dropout) for _ in range(num_layers))
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, joint))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, MultiHeadAttention):
                nn.init.trunc_normal_(module.in_proj_weight, std=0.02)

    def forward(self, texts: Tensor, embeddings: Tensor) -> Tensor:
        """texts (B, K, J), embeddings (B, T, J) of the whole image and its patches → (B, K, J)"""
        memory, x = self.memory(embeddings), self.texts(texts)
        for layer in self.layers:
            x = layer(x, memory)
        return self.out(x)  # type: ignore[no-any-return]
