"""Vision transformers whose positions are added once, before the first block."""

from __future__ import annotations

from typing import Any, Literal

from queryseg.backbones.convolutional_stem import ConvolutionalStem
from queryseg.backbones.vision_transformer import VisionTransformer
from queryseg.errors import RecipeError


class PlainViT(VisionTransformer):
    """ViT, DINOv2 (with and without registers), DeiT, AugReg, CLIP, hybrids of ResNet and ViT.

    OpenAI's CLIP weights need the names with `quickgelu`; the others run with them, wrongly.

    stem  "convolution": a stack of small convolutions embeds the patches (patch size 4, 8 or 16), to train from scratch

    Other arguments: see `VisionTransformer`.
    """

    family = "PlainViT"

    def __init__(
        self,
        name: str,
        stem: Literal["patch", "convolution"] = "patch",
        options: dict[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        options = dict(options or {})
        if stem == "convolution":
            if shared.get("pretrained"):
                raise RecipeError("stem: convolution has no pretrained weights; use stem: patch, or pretrained: false.")
            options["embed_layer"] = ConvolutionalStem
        super().__init__(name, options=options, **shared)
