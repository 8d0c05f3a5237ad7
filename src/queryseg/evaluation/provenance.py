"""Whether a score can be trusted as one on unknown images: which data sets a run was trained on or watched, and how its
checkpoint was chosen.

What is compared is the data sets' identity (layout, place on the disk, split and whatever else chooses samples), never
their names in tables.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from queryseg.data.data_identity import DataIdentity, sample_names
from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import QuerysegError

LAST_STEP = "last step, never chosen on a target"
UNRECORDED = "not recorded: the weights come from outside"

_ANYWHERE = ("folders",)
"""Layouts that any data can have: equal options under another root say nothing."""


def names_hash(names: frozenset[str]) -> str:
    """sha256 of a list of samples, whatever its order."""
    return hashlib.sha256("\0".join(sorted(names)).encode()).hexdigest()


def provenance_warnings(
    recipe: Mapping[str, Any],
    sources: Mapping[str, str | Path],
    datasets: Mapping[str, SegmentationDataset],
) -> list[str]:
    """One sentence for every data set that the run has already seen in some way.

    recipe    of the run
    sources   name → data file of what is evaluated
    datasets  the same, opened
    """
    data = recipe.get("data") or {}
    if not data.get("train"):
        return []
    used = {"train": data["train"], **{f"validate.{name}": one for name, one in (data.get("validate") or {}).items()}}
    known: dict[str, DataIdentity] = {}
    warnings: list[str] = []
    for role, source in used.items():
        try:
            known[role] = DataIdentity.of(source, data.get("root") if isinstance(source, dict) else None)
        except QuerysegError:
            warnings.append(
                f"The run's data.{role} ('{source}') cannot be read here, so nothing tells whether its images are "
                "among those evaluated."
            )
    for name, source in sources.items():
        mine = DataIdentity.of(source)
        found = (_sentence(name, mine, datasets[name], role, other) for role, other in known.items())
        warnings += [sentence for sentence in found if sentence is not None][:1]  # training is named before validation
    return warnings


def _sentence(
    name: str, mine: DataIdentity, dataset: SegmentationDataset, role: str, other: DataIdentity
) -> str | None:
    shared = _shared(mine, dataset, other)
    if shared is None:
        return None
    if role == "train":
        return (
            f"'{name}' {shared} training data of this run (data.train): its score does not tell how the model does on "
            "new images."
        )
    return (
        f"'{name}' {shared} validation data that was watched while this run was trained (data.{role}): settings may "
        "have been chosen by its score, though the checkpoint was not."
    )


def _shared(mine: DataIdentity, dataset: SegmentationDataset, other: DataIdentity) -> str | None:
    """How a data set relates to one that the run has used; None if they have no image in common."""
    if mine.same(other):
        return "is the"
    if mine.layout != other.layout:
        return None
    if mine.root == other.root:  # another split, another list of files, or more of what is generated
        common = len(sample_names(dataset) & (other.names or frozenset()))
        return f"shares {common:,} of its {len(dataset):,} images with the" if common else None
    if not other.names:
        alike = mine.options == other.options and mine.layout not in _ANYWHERE
        return "seems to be (same layout and split in another place) the" if alike else None
    same_names = names_hash(sample_names(dataset)) == names_hash(other.names)
    return "has the same image names as (and may be a copy of) the" if same_names else None


def checkpoint_choice(folder: Path, recipe: Mapping[str, Any]) -> str:
    """How the weights in a run's folder were chosen: queryseg keeps the last step, but a run may have been stopped."""
    steps = (recipe.get("training") or {}).get("steps")
    if steps is None:
        return UNRECORDED
    try:
        with open(folder / "metrics.csv", newline="") as file:
            done = max((int(row["step"]) for row in csv.DictReader(file)), default=0)
    except (OSError, ValueError, KeyError, TypeError):
        return LAST_STEP
    return LAST_STEP if done >= steps else f"{LAST_STEP}; the run was stopped about step {done:,} of {steps:,}"
