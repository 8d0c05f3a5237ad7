from queryseg.objectives.consistent_selection import ConsistentSelection
from queryseg.objectives.focal_hungarian import FocalHungarian
from queryseg.objectives.focal_set_criterion import FocalSetCriterion
from queryseg.objectives.grqa import GRQA
from queryseg.objectives.grqo import GRQO
from queryseg.objectives.matching import FixedAssignment, Hungarian
from queryseg.objectives.pixel_cross_entropy import PixelCrossEntropy
from queryseg.objectives.pseudo_labels import PseudoLabels
from queryseg.objectives.set_criterion import SetCriterion
from queryseg.objectives.text_regularizers import TextRegularizers
from queryseg.objectives.virtual_queries import VirtualQueries

__all__ = [
    "GRQA",
    "GRQO",
    "ConsistentSelection",
    "FixedAssignment",
    "FocalHungarian",
    "FocalSetCriterion",
    "Hungarian",
    "PixelCrossEntropy",
    "PseudoLabels",
    "SetCriterion",
    "TextRegularizers",
    "VirtualQueries",
]
