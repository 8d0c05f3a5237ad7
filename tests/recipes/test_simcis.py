"""Every continual recipe splits as its name says and learns two steps on streets at the smallest size; expected.json
says what the paper reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from test_recipes import different, shrunk

from queryseg.continual.continual_plan import ContinualPlan
from queryseg.continual.continual_run import train_continually
from queryseg.data.class_table import CITYSCAPES
from queryseg.data.data_file import open_data
from queryseg.recipe_file import build_untrained, read_recipe, resolve
from queryseg.training.schedule import milestone_factor

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "simcis"
RECIPES = sorted(FOLDER.glob("*.yaml"))
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
STREETS = {"layout": "streets", "num_images": 3, "size": [64, 128]}
PUBLISHED = {
    "100-5_panoptic": (5000, (4250, 4750), 5, True, 1),
    "100-10_panoptic": (10_000, (8500, 9500), 1, False, 1),
    "100-50_panoptic": (50_000, (40_000, 45_000), 0, False, 1),
    "100-5_semantic": (5000, (4250, 4750), 3, True, 2),
    "100-10_semantic": (10_000, (8500, 9500), 1, True, 4),
    "100-50_semantic": (50_000, (42_500, 47_500), 1, False, 1),
}
"""Spec §6: steps, milestones, virtual queries, decoder distillation and its temperature."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUERYSEG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def plan_of(path: Path, out: Path) -> ContinualPlan:
    return ContinualPlan.of(resolve(read_recipe(path)), out)


def tiny(path: Path) -> dict[str, Any]:
    """Two steps, the second of which brings the last class of streets that the images show."""
    labels = open_data(STREETS)
    shown = sorted({int(label) for i in range(len(labels)) for label in labels[i].label_map.unique()} - {255})
    content = read_recipe(path) | {"classes": "cityscapes"}
    criterion = content["objectives"]["criterion"]  # of which `shrunk` leaves the class alone
    content = shrunk(content, STREETS)
    if isinstance(criterion, dict):
        options = criterion["init_args"]
        matcher = options.setdefault("matcher", {"class_path": "queryseg.objectives.FocalHungarian"})
        options["num_points"] = matcher.setdefault("init_args", {})["num_points"] = 64
        content["objectives"]["criterion"] = criterion
    if "virtual_queries" in content["objectives"]:
        content["objectives"]["virtual_queries"]["init_args"] |= {"num_virtual": 2}
    content["training"] |= {"steps": 2, "warmup": 0.0}
    first = [label for label in range(len(CITYSCAPES)) if label != shown[-1]]
    content["continual"] |= {"classes_per_step": None, "groups": {"a": first, "b": [shown[-1]]}, "steps_per_class": 2}
    return resolve(content)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_the_split_is_the_one_that_the_recipe_is_named_after(path, tmp_path):
    base, step = map(int, path.stem.split("_")[1].split("-"))
    plan = plan_of(path, tmp_path)
    sizes = [len(labels) for labels in plan.split.steps]
    assert sizes == [base] + [step] * ((len(plan.classes) - base) // step)
    assert plan.task == ("panoptic" if "panoptic" in path.stem else "semantic")


@pytest.mark.parametrize("path", different(RECIPES), ids=lambda p: p.stem)
def test_two_steps_train(path, tmp_path):
    table = train_continually(tiny(path), tmp_path / "run", accelerator="cpu", console=Console(quiet=True))
    assert [scores.step for scores in table.steps] == [1, 2]
    assert table.measures == (["pq", "miou"] if "panoptic" in path.stem else ["miou"])
    has_bank = "virtual_queries" in table_objectives(path)
    assert ("virtual queries" in table.steps[0].memory) == has_bank
    assert (tmp_path / "run" / "step_2" / "pseudo_labels.json").exists() == ("frozen" not in path.stem)


def table_objectives(path: Path) -> dict[str, Any]:
    objectives: dict[str, Any] = read_recipe(path)["objectives"]
    return objectives


@pytest.mark.parametrize(("name", "expected"), PUBLISHED.items(), ids=PUBLISHED)
def test_ade20k_recipes_have_the_published_settings_in_later_steps(name, expected, tmp_path):
    steps, milestones, virtual, distils, temperature = expected
    plan = plan_of(FOLDER / f"ade20k_{name}.yaml", tmp_path)
    recipe = plan.step_recipe(2)
    training = recipe["training"]
    assert (training["steps"], training["learning_rate"], training["batch_size"]) == (steps, 5e-5, 8)
    assert plan.step_recipe(1)["training"]["steps"] == 160_000
    for number, milestone in enumerate(milestones, 1):
        before, after = (milestone_factor(step, steps, training["milestones"]) for step in (milestone - 1, milestone))
        assert (before, after) == pytest.approx((0.1 ** (number - 1), 0.1**number))
    objectives = {key: part["init_args"] for key, part in recipe["objectives"].items()}
    assert next(iter(objectives)) == "pseudo_labels"  # the others see its targets
    assert objectives["virtual_queries"]["num_virtual"] == virtual
    assert objectives["virtual_queries"]["alpha"] == (0.25 if "100-50" in name else 0.5)
    assert objectives["virtual_queries"]["old_classes"] == list(range(100))
    assert objectives["virtual_queries"]["bank"].endswith("step_1/virtual_queries.safetensors")
    assert objectives["consistent_selection"]["decoder_kd"] is distils
    assert objectives["consistent_selection"]["decoder_temperature"] == temperature
    labelled = recipe["data"]["train"]["labelled"]
    leaky = "semantic" in name and plan.split.future(2)
    assert labelled == plan.split.current(2) + (plan.split.future(2)[:1] if leaky else [])
    weight = 2 if "semantic" in name else 4
    assert objectives["criterion"]["class_weight"] == objectives["virtual_queries"]["class_weight"] == weight


def test_parameters_at_full_size_are_mask2formers_and_little_more(tmp_path):
    """Mask2Former with ResNet-50 has 44.0 M; boxes, positions and the selection's layer add what they say."""
    plan = plan_of(FOLDER / "ade20k_100-10_panoptic.yaml", tmp_path)
    with torch.device("meta"):
        model = build_untrained(plan.step_recipe(1))
    assert 43e6 < sum(p.numel() for p in model.parameters()) < 46e6


@pytest.mark.parametrize("name", [name for name, entry in EXPECTED.items() if entry["paper"] is not None])
def test_the_paper_speaks_of_groups_that_a_run_measures(name):
    entry = EXPECTED[name]
    assert entry["recipe"] in entry["command"]
    task = read_recipe(ROOT / entry["recipe"])["data"]["task"]
    assert list(entry["paper"]) == ["pq" if task == "panoptic" else "miou"]
    for scores in entry["paper"].values():
        assert scores.keys() <= {"base", "new", "all"}
        assert all(0.2 < score < 0.6 for score in scores.values())
