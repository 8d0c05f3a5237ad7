"""Which classes a model learns in which step of a continual run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from queryseg.data.class_table import ClassTable
from queryseg.errors import RecipeError
from queryseg.spelling import did_you_mean

Order = Literal["table", "random"] | list[str | int]
"""Of the table; drawn; or class names or label ids."""


@dataclass(frozen=True)
class ClassSplit:
    """steps: label ids of each step, in the order in which they come; names: of the steps. Steps count from 1."""

    steps: tuple[tuple[int, ...], ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.steps)

    def current(self, step: int) -> list[int]:
        """Label ids that are new in this step, in their order, as all the following."""
        return list(self.steps[step - 1])

    def old(self, step: int) -> list[int]:
        return self._between(0, step - 1)

    def seen(self, step: int) -> list[int]:
        return self._between(0, step)

    def future(self, step: int) -> list[int]:
        return self._between(step, len(self))

    def groups(self, step: int) -> dict[str, list[int]]:
        """What scores are averaged over after this step: the first step's classes, all earlier steps' (old), this
        step's (current), those since the second step (new), and all seen. Groups without a class are empty.

        Source: the columns 1-100, 101-150 and all of the SimCIS paper's tables are base, new and all.
        """
        return {
            "base": self.current(1),
            "old": self.old(step),
            "current": self.current(step),
            "new": self._between(1, step),
            "all": self.seen(step),
        }

    def joined(self) -> ClassSplit:
        """All classes in one step, whose order no longer counts: what joint training, the upper bound, learns."""
        return ClassSplit((tuple(sorted(label for step in self.steps for label in step)),), ("joint",))

    def _between(self, first: int, end: int) -> list[int]:
        return [label for step in self.steps[first:end] for label in step]


def split_by_size(classes: ClassTable, sizes: Sequence[int], order: Order = "table", seed: int = 0) -> ClassSplit:
    """sizes: classes per step, e.g. [100, 10, 10, 10, 10, 10]; seed: of a random order.

    Raises: RecipeError if the sizes do not add up, or the order names a class twice, not at all or wrongly
    """
    if not sizes or min(sizes) < 1:
        raise RecipeError(f"continual.classes_per_step is {list(sizes)}; every step needs at least one class.")
    if sum(sizes) != len(classes):
        raise RecipeError(
            f"continual.classes_per_step {list(sizes)} adds up to {sum(sizes)} classes, but '{classes.name}' has "
            f"{len(classes)}; every class belongs to one step."
        )
    if order == "table":
        labels = list(range(len(classes)))
    elif order == "random":
        labels = np.random.default_rng(seed).permutation(len(classes)).tolist()
    else:
        labels = [_label(entry, classes, "continual.order") for entry in order]
        _check_partition([labels], ["continual.order"], classes)
    ends = np.cumsum(list(sizes)).tolist()
    steps = tuple(tuple(labels[end - size : end]) for size, end in zip(sizes, ends, strict=True))
    return ClassSplit(steps, tuple(_step_name(step, classes) for step in steps))


def split_by_name(classes: ClassTable, groups: Mapping[str, Sequence[str | int]]) -> ClassSplit:
    """groups: name of a step → its class names or label ids, in the order in which the steps come.

    Raises: RecipeError if a class is in two steps or in none, or a step is empty
    """
    steps = [[_label(entry, classes, f"continual.groups.{name}") for entry in group] for name, group in groups.items()]
    names = [f"step '{name}'" for name in groups]
    if empty := [name for name, step in zip(names, steps, strict=True) if not step]:
        raise RecipeError(f"continual.groups: {empty[0]} has no class; give it one, or leave it out.")
    _check_partition(steps, names, classes)
    return ClassSplit(tuple(map(tuple, steps)), tuple(groups))


def _label(entry: str | int, classes: ClassTable, where: str) -> int:
    if isinstance(entry, str):
        if entry not in classes.names:
            raise RecipeError(f"{where} names the unknown class '{entry}'.{did_you_mean(entry, classes.names)}")
        return classes.names.index(entry)
    if not 0 <= entry < len(classes):
        raise RecipeError(f"{where} holds {entry}, but the labels of '{classes.name}' are 0 to {len(classes) - 1}.")
    return int(entry)


def _check_partition(steps: Sequence[Sequence[int]], names: Sequence[str], classes: ClassTable) -> None:
    found: dict[int, str] = {}
    for step, name in zip(steps, names, strict=True):
        for label in step:
            if label in found:
                where = f"{found[label]} and {name}" if found[label] != name else f"{name} twice"
                raise RecipeError(f"Class '{classes.names[label]}' is in {where}; a class belongs to one step.")
            found[label] = name
    if missing := [name for label, name in enumerate(classes.names) if label not in found]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise RecipeError(f"Class '{missing[0]}'{more} is in no step; every class belongs to one step.")


def _step_name(step: Sequence[int], classes: ClassTable) -> str:
    """What fits into a table: a few classes by their names, more by their number."""
    return ", ".join(classes.names[label] for label in step) if len(step) <= 2 else f"{len(step)} classes"
