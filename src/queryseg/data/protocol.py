"""How a test image is shown to a model: its size, and whether whole or in windows."""

from __future__ import annotations

from dataclasses import dataclass

from queryseg.errors import RecipeError


@dataclass(frozen=True)
class Protocol:
    """Test protocol, printed beside every score because papers differ in it.

    short_side  resize the image, keeping its ratio, so that its short side has so many pixels; None: native size
    window      side (pixels) of square sliding windows; None: the whole image in one forward pass
    stride      of the windows; overlapping scores are averaged

    Scores are always compared at the label's native size. Source: protocols.md §6 (512/341 is the field's window).
    """

    short_side: int | None = None
    window: int | None = None
    stride: int = 341

    def __post_init__(self) -> None:
        if self.short_side is not None and self.short_side < 1:
            raise RecipeError(f"short_side is {self.short_side}, but an image side has at least 1 pixel.")
        if self.window is not None and not 0 < self.stride <= self.window:
            raise RecipeError(
                f"Sliding windows of {self.window} pixels cannot move by {self.stride}: choose a stride between 1 and "
                "the window, or pixels stay unseen."
            )

    def __str__(self) -> str:
        size = "native size" if self.short_side is None else f"short side {self.short_side}"
        return f"{size}, " + ("whole image" if self.window is None else f"windows {self.window}/{self.stride}")
