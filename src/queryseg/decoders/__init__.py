from queryseg.decoders.mask_heads import MaskHeads
from queryseg.decoders.query_injection import QueryInjection
from queryseg.decoders.upsampler import Upsampler

__all__ = ["MaskHeads", "QueryInjection", "Upsampler"]
