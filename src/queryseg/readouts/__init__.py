from queryseg.readouts.mixture import Mixture
from queryseg.readouts.per_pixel import PerPixel

__all__ = ["Mixture", "PerPixel"]
