"""expected.json says of every recipe what the paper reports, in the recipe's own names."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from queryseg.recipe_file import read_recipe
from queryseg.training.sweep import read_sweep

ROOT = Path(__file__).parents[2]
EXPECTED: dict[str, dict[str, Any]] = json.loads((ROOT / "recipes/qprompt_r1/expected.json").read_text())
OF_THE_PAPER = {name: entry for name, entry in EXPECTED.items() if entry["paper"] is not None}


@pytest.mark.parametrize("entry", OF_THE_PAPER.values(), ids=OF_THE_PAPER)
def test_the_paper_speaks_of_the_recipes_arms_and_validation_sets(entry):
    sets = list(read_recipe(ROOT / entry["recipe"])["data"]["validate"])
    arms = {"": entry["paper"]["mean_iou"]}
    seen = sets[:1]
    if "sweep" in entry:
        arms, sweep = entry["paper"]["mean_iou"], read_sweep(ROOT / entry["sweep"])
        assert list(arms) == [arm.name for arm in sweep.arms]
        assert entry["seed"] == sweep.seeds
        assert entry["sweep"] in entry["command"]
        assert sweep.seen == []
    assert entry["recipe"] in entry["command"]
    if "gtav" in entry["recipe"] or "ladder" in entry["recipe"]:
        seen = []
    for scores in arms.values():
        assert scores.keys() <= {*sets, "mean_unseen"}
        assert all(0.4 < score < 0.9 for score in scores.values())
        unseen = [scores[name] for name in sets if name not in seen and name in scores]
        if len(unseen) == len(sets) - len(seen) and "mean_unseen" in scores:
            assert scores["mean_unseen"] == pytest.approx(fmean(unseen), abs=0.001)  # printed to 0.1 %, some cut


def test_every_recipe_of_the_paper_has_an_entry():
    folder = ROOT / "recipes/qprompt_r1"
    ours = ("camvid", "streets")
    files = {p.relative_to(ROOT).as_posix() for p in folder.rglob("*.yaml") if not p.name.startswith(ours)}
    told = {entry.get("sweep", entry["recipe"]) for name, entry in EXPECTED.items() if name not in (*ours, "demo")}
    assert told == files
