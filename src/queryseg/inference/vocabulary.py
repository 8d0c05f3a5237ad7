"""Which classes a model was trained on and which it knows by name alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Of the classes that a run was asked for, in their order.

    trained  those it was trained on
    named    those it knows by their names alone
    origin   where the embeddings of these names came from, "" without any
    """

    trained: tuple[str, ...]
    named: tuple[str, ...]
    origin: str = ""

    def __str__(self) -> str:
        seen = f"trained on {', '.join(self.trained)}" if self.trained else "trained on none of these classes"
        return seen + (f"; by name alone, {self.origin}: {', '.join(self.named)}" if self.named else "")

    def to_json(self) -> dict[str, list[str]]:
        """Plain values."""
        return {"trained": list(self.trained), "named": list(self.named)}
