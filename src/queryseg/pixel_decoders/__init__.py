from queryseg.pixel_decoders.deformable import Deformable
from queryseg.pixel_decoders.identity import Identity
from queryseg.pixel_decoders.projected import Projected
from queryseg.pixel_decoders.text_deformable import TextDeformable

__all__ = ["Deformable", "Identity", "Projected", "TextDeformable"]
