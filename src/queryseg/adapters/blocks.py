"""Where in a trunk an adapter works."""

from __future__ import annotations

from queryseg.errors import RecipeError


def first_block(start: float, depth: int, adapter: str) -> int:
    """Index of the first adapted block; start: share of the depth that stays as it is, so that one recipe fits trunks
    of any depth.

    Raises: RecipeError
    """
    if not 0 <= start < 1:
        raise RecipeError(f"{adapter}: start is {start}, but is a share of the trunk's depth: 0 ≤ start < 1.")
    return int(start * depth + 1e-9)
