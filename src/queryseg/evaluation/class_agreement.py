"""What is compared must have the same classes: a model and a data set, and runs beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import InputError


def check_classes(known: Sequence[str], dataset: SegmentationDataset, name: str) -> None:
    """known: class names of a model. Raises: InputError if the data set's differ"""
    advice = "give the data file the model's classes and a label_map that leads to them"
    _check("The model", known, f"data set '{name}'", dataset.classes.names, advice)


def check_same_classes(known: Mapping[str, Sequence[str]]) -> None:
    """known: run → its classes. Raises: InputError if two runs differ"""
    (first, classes), *others = known.items()
    advice = "a matrix compares runs of the same classes, evaluate these one by one"
    for run, mine in others:
        _check(f"Run '{first}'", classes, f"run '{run}'", mine, advice)


def _check(one: str, known: Sequence[str], other: str, given: Sequence[str], advice: str) -> None:
    """Raises: InputError"""
    if tuple(known) == tuple(given):
        return
    if len(known) != len(given):
        difference = f"knows {len(known)} classes ({_ends(known)}), but {other} has {len(given)} ({_ends(given)})"
    else:
        label = next(i for i, (a, b) in enumerate(zip(known, given, strict=True)) if a != b)
        difference = f"knows label {label} as '{known[label]}', but {other} as '{given[label]}'"
    raise InputError(f"{one} {difference}; {advice}.")


def _ends(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} … {names[-1]}"
