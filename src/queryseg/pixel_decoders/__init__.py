from queryseg.pixel_decoders.identity import Identity

__all__ = ["Identity"]
