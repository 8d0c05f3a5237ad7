"""Four maps of one stride become four strides.

Shape legend: B images, C channels, h×w the grid of patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class FeaturePyramid(nn.Module):
    """Maps f1…f4 (B, C, h, w), shallow → deep, to (f4 · ½, f3, f2 · 2, f1 · 4), coarse → fine.

    learned: transposed convolutions and a max pool instead of bilinear interpolation.

    Source: ViTDet (arXiv 2203.16527) in the form that tqdm (ECCV 2024) uses; bilinear: Mask2Former on DINOv2 as Rein
    (CVPR 2024) runs it.
    """

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.up2 = nn.ConvTranspose2d(channels, channels, 2, 2) if learned else None
        self.up4 = (
            nn.Sequential(
                nn.ConvTranspose2d(channels, channels, 2, 2),
                nn.BatchNorm2d(channels),
                nn.GELU(),
                nn.ConvTranspose2d(channels, channels, 2, 2),
            )
            if learned
            else None
        )

    def forward(self, taps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        f1, f2, f3, f4 = taps
        if self.up2 is not None and self.up4 is not None:
            return F.max_pool2d(f4, 2), f3, self.up2(f2), self.up4(f1)
        h, w = f3.shape[-2:]

        def resize(tap: Tensor, height: int, width: int) -> Tensor:
            return F.interpolate(tap, (height, width), mode="bilinear", align_corners=False)

        return resize(f4, max(1, h // 2), max(1, w // 2)), f3, resize(f2, 2 * h, 2 * w), resize(f1, 4 * h, 4 * w)
