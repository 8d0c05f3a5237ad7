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
FOLDERS = sorted(path.parent.name for path in ROOT.glob("recipes/*/expected.json"))
EXPECTED: dict[str, dict[str, dict[str, Any]]] = {
    folder: json.loads((ROOT / "recipes" / folder / "expected.json").read_text()) for folder in FOLDERS
}
OF_THE_PAPER = {
    f"{folder}/{name}": entry
    for folder, entries in EXPECTED.items()
    for name, entry in entries.items()
    if entry["paper"] is not None and folder != "simcis"  # continual: tests/recipes/test_simcis.py
}


@pytest.mark.parametrize("entry", OF_THE_PAPER.values(), ids=OF_THE_PAPER)
def test_the_paper_speaks_of_the_recipes_arms_and_validation_sets(entry):
    sets = list(read_recipe(ROOT / entry["recipe"])["data"]["validate"])
    arms = {"": entry["paper"]["mean_iou"]}
    shifted = "gtav" in entry["recipe"] or "ladder" in entry["recipe"]
    seen = [] if shifted else sets[:1]
    if "sweep" in entry:
        arms, sweep = entry["paper"]["mean_iou"], read_sweep(ROOT / entry["sweep"])
        assert list(arms) == [arm.name for arm in sweep.arms]
        assert entry["seed"] == sweep.seeds
        assert entry["sweep"] in entry["command"]
        assert sweep.seen == ([] if shifted else None)
    assert entry["recipe"] in entry["command"]
    for scores in arms.values():
        assert scores.keys() <= {*sets, "mean_unseen"}
        assert all(0.4 < score < 0.9 for score in scores.values())
        unseen = [scores[name] for name in sets if name not in seen and name in scores]
        if len(unseen) == len(sets) - len(seen) and "mean_unseen" in scores:
            assert scores["mean_unseen"] == pytest.approx(fmean(unseen), abs=0.001)  # printed to 0.1 %, some cut


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_recipe_of_the_paper_has_an_entry(folder):
    ours = ("camvid", "streets")
    files = {p for p in (ROOT / "recipes" / folder).rglob("*.yaml") if not p.name.startswith(ours)}
    entries = {name: entry for name, entry in EXPECTED[folder].items() if name not in (*ours, "demo")}
    told = {entry.get("sweep", entry["recipe"]) for entry in entries.values()}
    assert told == {path.relative_to(ROOT).as_posix() for path in files}
    for entry in entries.values():
        seed = read_recipe(ROOT / entry["recipe"]).get("seed", 0)
        assert "sweep" in entry or entry["seed"] == seed


def test_adapters_read_the_data_of_qprompt_r1_and_have_a_twin_with_grqa():
    for folder in ("rein", "soma", "fada"):
        for source in ("gtav", "cityscapes"):
            plain = read_recipe(ROOT / f"recipes/{folder}/{source}.yaml")
            data, reference = plain["data"], read_recipe(ROOT / f"recipes/qprompt_r1/{source}.yaml")
            assert data["train"] == reference["data"]["train"]
            assert data["validate"] == reference["data"]["validate"]
            twin = read_recipe(ROOT / f"recipes/{folder}/{source}_grqa.yaml")
            assert twin["objectives"].pop("grqa") == reference["objectives"]["grqa"]
            assert twin == plain
