"""Swin's windows on maps that they do not divide.

Shape legend: B images, h×w a map, C channels.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from torch import Tensor, nn


class _PaddedFirst:
    """timm shifts a map and pads it after; its masks expect the reverse, so that at sizes that no window divides the
    upper rows see the lower ones. Swin's own code for detection and segmentation pads first.

    Source: Swin Transformer (arXiv 2103.14030) §3.2; Hugging Face's Swin agrees (tests/parity).
    """

    window_size: tuple[int, int]

    def _attn(self, x: Tensor) -> Tensor:
        """(B, h, w, C) → (B, h, w, C)"""
        height, width = x.shape[1:3]
        padded = F.pad(x, (0, 0, 0, -width % self.window_size[1], 0, -height % self.window_size[0]))
        attended: Tensor = super()._attn(padded)  # type: ignore[misc]
        return attended[:, :height, :width]


class PaddedSwinBlock(_PaddedFirst, SwinTransformerBlock):
    """Of Swin."""


class PaddedSwinV2Block(_PaddedFirst, SwinTransformerV2Block):
    """Of Swin V2."""


_PADDED: dict[type, type] = {SwinTransformerBlock: PaddedSwinBlock, SwinTransformerV2Block: PaddedSwinV2Block}


def pad_before_shift(network: nn.Module) -> Any:
    """The network itself, with every Swin block padding its map before it shifts it."""
    for module in network.modules():
        module.__class__ = _PADDED.get(type(module), type(module))
    return network
