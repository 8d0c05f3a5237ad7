from queryseg.objectives.grqa import GRQA
from queryseg.objectives.grqo import GRQO
from queryseg.objectives.matching import FixedAssignment, Hungarian
from queryseg.objectives.pixel_cross_entropy import PixelCrossEntropy
from queryseg.objectives.set_criterion import SetCriterion
from queryseg.objectives.text_regularizers import TextRegularizers

__all__ = ["GRQA", "GRQO", "FixedAssignment", "Hungarian", "PixelCrossEntropy", "SetCriterion", "TextRegularizers"]
