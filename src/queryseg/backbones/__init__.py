"""Backbones: timm's models behind one seam. timm is used here and nowhere else."""

from queryseg.backbones.plain_vit import PlainViT
from queryseg.backbones.pyramid import PyramidBackbone
from queryseg.backbones.rotary_vit import RotaryViT
from queryseg.backbones.sam_vit import SamViT

__all__ = ["PlainViT", "PyramidBackbone", "RotaryViT", "SamViT"]
