"""What pixel decoders need of a backbone."""

from __future__ import annotations

from queryseg.errors import RecipeError
from queryseg.types import Dims


def check_pyramid(part: str, dims: Dims, width: int) -> None:
    """Raises: RecipeError unless four levels arrive and sine positions of this width exist."""
    if len(dims.channels) != 4:
        raise RecipeError(
            f"{part} reads four feature levels, but the backbone gives {len(dims.channels)}; set the backbone's "
            "pyramid to 'bilinear' or 'learned', or use a PyramidBackbone."
        )
    if width < 4 or width % 4:
        raise RecipeError(f"{part}: width is {width}, but sine positions need a multiple of 4.")
