"""Adapters: few trained weights in, or behind, the blocks of a frozen vision transformer."""

from queryseg.adapters.fada import FADA
from queryseg.adapters.frozen import Frozen
from queryseg.adapters.lora import LoRA
from queryseg.adapters.rein import Rein
from queryseg.adapters.soma import SoMA

__all__ = ["FADA", "Frozen", "LoRA", "Rein", "SoMA"]
