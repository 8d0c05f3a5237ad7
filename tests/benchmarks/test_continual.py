"""The comparison of ways to learn class by class: every arm builds, shares what it should, and its tables are right."""

from __future__ import annotations

from pathlib import Path

import pytest
from continual_arms import ARMS, MAIN, SETTINGS, Run, all_runs
from continual_summary import missing_runs, setting_table, summary
from pretrain import BACKBONE

from queryseg.continual.continual_plan import ContinualPlan
from queryseg.recipe_file import build, resolve
from queryseg.segmenter import build_segmenter
from queryseg.training.step import build_objectives

OBJECTIVES = {
    "fine_tuning": ["criterion", "virtual_queries"],
    "pseudo_labels": ["pseudo_labels", "criterion", "virtual_queries"],
    "without_selection": ["pseudo_labels", "criterion", "virtual_queries"],
    "without_csl": ["pseudo_labels", "criterion", "virtual_queries"],
    "without_virtual": ["pseudo_labels", "consistent_selection", "criterion", "virtual_queries"],
    "simcis": ["pseudo_labels", "consistent_selection", "criterion", "virtual_queries"],
}


def plan(run: Run) -> ContinualPlan:
    return ContinualPlan.of(resolve(run.content()), Path("work"))


@pytest.mark.parametrize("arm", OBJECTIVES)
def test_the_second_step_of_an_arm(arm: str) -> None:
    values = plan(Run(MAIN, arm, 1)).step_recipe(2)
    assert list(values["objectives"]) == OBJECTIVES[arm]
    replays = values["objectives"]["virtual_queries"]["init_args"]["num_virtual"]
    assert replays == (0 if arm in ("fine_tuning", "pseudo_labels", "without_virtual") else 5)
    for objective in values["objectives"].values():  # files that a run would have by then
        objective["init_args"] |= {name: None for name in ("bank", "distribution") if name in objective["init_args"]}
    recipe = build(values)
    model = build_segmenter(recipe.class_table.names, recipe.model)
    assert build_objectives(model, recipe.objectives, frozenset({"previous_task"}), recipe.data.task)


@pytest.mark.parametrize("setting", SETTINGS)
def test_arms_of_one_architecture_share_their_first_step(setting: str) -> None:
    runs = [run for run in all_runs() if run.setting == setting and run.order == 2 and run.stem is not None]
    for run in runs:
        stem, own = (plan(each).step_recipe(1) for each in (run.stem, run))
        assert stem["model"] == own["model"]
        assert stem["data"] == own["data"]
        assert stem["training"] == own["training"]
    assert {run.stem.arm for run in runs} == {"selected", "learnable"}


def test_runs_are_named_once_and_are_what_was_promised() -> None:
    runs = all_runs()
    assert len({run.name for run in runs}) == len(runs) == 29 + 18 + 18
    assert {run.arm for run in runs if run.setting == MAIN} == set(ARMS)
    long = Run(MAIN, "simcis_long", 0)
    assert [plan(run).step_recipe(1)["training"]["steps"] for run in (long, long.stem)] == [3200, 3200]
    assert plan(long).step_recipe(2) == plan(Run(MAIN, "simcis", 0)).step_recipe(2)
    for arm in ("simcis", "pseudo_labels"):
        short, longer = (plan(Run(MAIN, name, 1)).step_recipe(2) for name in (arm, f"{arm}_longer_steps"))
        assert longer == {**short, "training": {**short["training"], "steps": 4 * short["training"]["steps"]}}
    orders = [plan(Run(MAIN, "simcis", order)).split.steps for order in (0, 1, 2)]
    assert orders[0][0] == tuple(range(11))
    assert len(set(orders)) == 3
    assert plan(Run("camvid_8-3_semantic", "simcis", 0)).split.steps[1] == (8, 9, 10)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if ARMS[arm].joint])
def test_joint_training_is_the_same_for_all_orders(arm: str) -> None:
    """Labels, images and steps, whatever is called base: one training is measured as all of them."""
    runs = [Run(MAIN, arm, order) for order in (0, 1, 2)]
    first, *others = [plan(run).step_recipe(1) for run in runs]
    assert first["training"]["steps"] == 1600 + 8 * 80
    assert others == [first, first]
    assert {run.shared for run in runs} == {runs[0]}
    recipe = build(plan(runs[0]).step_recipe(1))
    model = build_segmenter(recipe.class_table.names, recipe.model)
    assert build_objectives(model, recipe.objectives, frozenset(), recipe.data.task)


def test_tables_say_how_much_the_order_matters() -> None:
    def row(arm: str, order: int, score: float) -> dict[str, object]:
        groups = dict.fromkeys(("base", "new", "all", "average"), score)
        scores = {**groups, "forgetting_matrix": [[0.4, score], [None, score]]}
        return {"setting": MAIN, "arm": arm, "order": order, "scores": {"pq": scores}}

    rows = [row("simcis", 0, 0.30), row("simcis", 1, 0.34), row("fine_tuning", 0, 0.1), row("joint", 0, 0.5)]
    lines = setting_table(rows, MAIN, "pq").splitlines()
    assert lines[2] == "| fine-tuning | 1 | 40.0 | 10.0 | 10.0 | 10.0 | 10.0 | 10.0 |"
    assert lines[3] == "| SimCIS | 2 | 40.0 ± 0.0 | 32.0 ± 2.8 | 32.0 ± 2.8 | 32.0 ± 2.8 | 32.0 ± 2.8 | 30.0 |"
    assert lines[4] == "| joint training, selected queries | 1 |  | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |"
    assert summary([{**row, "run": "one"} for row in rows], 3).startswith("### streets 11-2 panoptic, PQ in %")
    assert summary([]) == missing_runs([])
    assert missing_runs([]).startswith("Runs not measured yet: 29 of 29 of streets 11-2 panoptic, 6 of 6")


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_run_begins_with_the_pretrained_trunk(setting: str) -> None:
    backbone = Run(setting, "simcis", 0).content()["model"]["backbone"]["init_args"]
    assert {key: backbone[key] for key in BACKBONE} == {**BACKBONE, "image_size": [*BACKBONE["image_size"]]}
