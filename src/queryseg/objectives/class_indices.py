"""Classes that a recipe names by their index."""

from __future__ import annotations

from collections.abc import Sequence

from queryseg.errors import RecipeError
from queryseg.types import Dims


def check_classes(option: str, classes: Sequence[int], dims: Dims) -> None:
    """option: as the error calls it. Raises: RecipeError if these are no class indices, each once"""
    wrong = [c for c in classes if not 0 <= c < dims.num_classes]
    if wrong or len(set(classes)) < len(classes):
        what = f"names {wrong[0]}" if wrong else "names a class twice"
        raise RecipeError(f"{option} {what}; give class indices from 0 to {dims.num_classes - 1}, each once.")
