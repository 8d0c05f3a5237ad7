"""Levels exchange what they know, and every pixel looks at the texts of the classes.

Shape legend: B images, K classes, J width of an image–text space, D width, S cells of the levels that take part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from queryseg.errors import RecipeError
from queryseg.ops.deformable_attention import Cells
from queryseg.ops.multi_head_attention import MultiHeadAttention
from queryseg.pixel_decoders.deformable import Deformable, DeformableLayer
from queryseg.types import ClassChange, Dims, Features


class TextDeformableLayer(DeformableLayer):
    """Deformable attention, text-to-pixel attention, feed-forward layer; each adds to its input and is normed after.

    In text-to-pixel attention pixels are queries, texts keys and values: every pixel divides its attention among the
    classes. Texts stay as they are.

    Source: tqdm (ECCV 2024) §3.2, spec §3.
    """

    def __init__(self, width: int, hidden: int, num_heads: int, num_points: int) -> None:
        super().__init__(width, hidden, num_heads, num_points)
        self.text_attention = MultiHeadAttention(width, num_heads)
        self.text_attention_norm = nn.LayerNorm(width)
        for layer in (self.text_attention.out_proj, self.expand, self.reduce):  # as torch begins, not as DETR does
            layer.reset_parameters()
        nn.init.zeros_(self.text_attention.out_proj.bias)

    def forward(  # type: ignore[override]
        self, x: Tensor, position: Tensor, cells: Cells, keys: Tensor, texts: Tensor
    ) -> Tensor:
        """x (B, S, D), position (1 or B, S, D), keys and texts (B, K, D) → (B, S, D)"""
        x = self.look_around(x, position, cells)
        read, _ = self.text_attention(x + position, keys, texts)
        return self.think(self.text_attention_norm(x + read))


class TextDeformable(Deformable):
    """tqdm's pixel decoder: Mask2Former's with text-to-pixel attention in every layer and a norm after the last one.
    Reads `features.context`, which is projected once; keys get a learned position per class.

    width       D
    num_layers  M of the paper
    hidden      width of the feed-forward layers
    num_heads   of deformable and of text-to-pixel attention
    num_points  of deformable attention, per head and level
    groups      of GroupNorm after every convolution

    With `class_vectors: shared`, one position stands for all classes.
    Source: tqdm (ECCV 2024) §3.2, initialisation included; the authors' configuration says hidden 1024, their code runs
    2048 (spec §8.4).
    """

    provides = frozenset({"level_positions"})
    requires = frozenset({"text_context"})
    layer = TextDeformableLayer

    def __init__(
        self,
        dims: Dims,
        width: int = 256,
        num_layers: int = 6,
        hidden: int = 2048,
        num_heads: int = 8,
        num_points: int = 4,
        groups: int = 32,
    ) -> None:
        super().__init__(dims, width, num_layers, hidden, num_heads, num_points, groups)
        if not dims.joint:
            raise RecipeError(
                "TextDeformable reads texts in the image–text space of the backbone, which has none; set the "
                "backbone's `joint` to true (CLIP models only)."
            )
        self.text_projection = nn.Linear(dims.joint, width)
        num_rows = 1 if dims.class_vectors == "shared" else dims.num_classes
        self.text_position = nn.Parameter(torch.randn(num_rows, width))
        self.final_norm = nn.LayerNorm(width)
        for module in [*self.inputs.modules(), *self.lateral.modules(), *self.smooth.modules()]:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.mask_projection.reset_parameters()

    def undecayed(self) -> frozenset[str]:
        return super().undecayed() | {"text_position"}

    def change_classes(self, change: ClassChange) -> None:
        self.text_position = nn.Parameter(change.carried(self.text_position.detach()))

    def run_layers(self, x: Tensor, position: Tensor, cells: Cells, features: Features) -> Tensor:
        assert features.context is not None, "the query source provides 'text_context'"
        texts = self.text_projection(features.context)
        keys = texts + self.text_position
        for layer in self.layers:
            x = layer(x, position, cells, keys, texts)
        return self.final_norm(x)  # type: ignore[no-any-return]
