from queryseg.readouts.mixture import Mixture
from queryseg.readouts.per_pixel import PerPixel
from queryseg.readouts.region_assembly import RegionAssembly

__all__ = ["Mixture", "PerPixel", "RegionAssembly"]
