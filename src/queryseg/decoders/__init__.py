from queryseg.decoders.box_heads import BoxHeads
from queryseg.decoders.cross_attention import CrossAttention
from queryseg.decoders.high_resolution_cross_attention import HighResolutionCrossAttention
from queryseg.decoders.mask_heads import MaskHeads
from queryseg.decoders.masked_injection import MaskedInjection
from queryseg.decoders.pixel_classifier import ClassVectors, PixelClassifier
from queryseg.decoders.query_injection import QueryInjection
from queryseg.decoders.staged_heads import StagedHeads
from queryseg.decoders.upsampler import Upsampler

__all__ = [
    "BoxHeads",
    "ClassVectors",
    "CrossAttention",
    "HighResolutionCrossAttention",
    "MaskHeads",
    "MaskedInjection",
    "PixelClassifier",
    "QueryInjection",
    "StagedHeads",
    "Upsampler",
]
