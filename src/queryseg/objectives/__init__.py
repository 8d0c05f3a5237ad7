from queryseg.objectives.matching import FixedAssignment, Hungarian
from queryseg.objectives.set_criterion import SetCriterion

__all__ = ["FixedAssignment", "Hungarian", "SetCriterion"]
