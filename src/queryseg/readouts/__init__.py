from queryseg.readouts.mixture import Mixture

__all__ = ["Mixture"]
