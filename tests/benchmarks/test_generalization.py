"""The comparison of arms: every arm builds, forks share their recipe, and its statistics are right."""

from __future__ import annotations

from typing import Any

import pytest
from arms import ADAPTERS, ARMS, Run, all_runs
from summary import (
    FIGURES,
    adapter_table,
    arm_table,
    class_group_table,
    difference,
    figure_table,
    query_table,
)

from queryseg.data.class_table import CITYSCAPES
from queryseg.recipe_file import build, resolve
from queryseg.segmenter import build_segmenter
from queryseg.training.step import build_objectives


@pytest.mark.parametrize("arm", ARMS)
def test_arm_builds(arm: str) -> None:
    recipe = build(resolve(Run("streets", arm, 0).content()))
    model = build_segmenter(recipe.class_table.names, recipe.model)
    assert build_objectives(model, recipe.objectives)


def test_runs_are_named_once_and_are_what_was_promised() -> None:
    runs = all_runs()
    assert len({run.name for run in runs}) == len(runs)
    for arm in ARMS.keys() - {"scratch"}:
        seeds = [run.seed for run in runs if (run.setting, run.arm, run.queries) == ("streets", arm, None)]
        assert seeds == [0, 1, 2]
    assert {run.queries for run in runs} == {None, 19, 50, 100, 200}


@pytest.mark.parametrize("arm", ["alignment", "reward", "qprompt_r1"])
def test_forks_differ_from_their_stem_in_objectives_alone(arm: str) -> None:
    run = Run("streets", arm, 1)
    assert run.stem == Run("streets", "qprompt", 1)
    fork, stem = resolve(run.content()), resolve(run.stem.content())
    assert fork["objectives"] != stem["objectives"]
    assert {k: v for k, v in fork.items() if k != "objectives"} == {k: v for k, v in stem.items() if k != "objectives"}
    assert Run("streets", "mlp_head", 0).stem is None


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_arms_of_an_adapter_fork_from_one_first_stage(adapter: str) -> None:
    """Without and with GRQA differ in when it begins to count, and in nothing else; the trunk differs from QPrompt's
    in its adapter, and in what belongs to it."""
    plain, twin = (Run("streets", f"{adapter}{end}", 2) for end in ("", "_grqa"))
    assert plain.stem == twin.stem == plain
    without, with_grqa = resolve(plain.content()), resolve(twin.content())
    assert without["objectives"]["grqa"]["init_args"].pop("start") == 1.0
    assert with_grqa["objectives"]["grqa"]["init_args"].pop("start") == pytest.approx(2 / 3)
    assert without == with_grqa
    full = resolve(Run("streets", "qprompt", 2).content())
    assert without["model"].pop("adapter")["class_path"].lower().endswith(f".{adapter}")
    full["model"].pop("adapter")
    for recipe in (without, full):
        if adapter == "rein":
            recipe["model"].pop("queries")
        if adapter in ("soma", "lora"):
            for key in ("adapter_factor", "backbone_factor", "final_weight_decay"):
                recipe["training"].pop(key)
        recipe["objectives"].pop("grqa")
    assert without == full


def row(arm: str, seed: int, clear: float, *unseen: float, **more: Any) -> dict[str, Any]:
    scores = {"clear": clear} | {f"unseen_{i}": value for i, value in enumerate(unseen)}
    figures = dict.fromkeys(FIGURES, 0.5) | {"active_queries": 20.0, "margin": None}
    found = {"setting": "streets", "queries": None, "arm": arm, "seed": seed, "mean_iou": scores}
    return found | {"figures": {} if arm == "mlp_head" else dict.fromkeys(scores, figures)} | more


def test_arms_are_compared_seed_by_seed() -> None:
    rows = [row("qprompt", 0, 0.6, 0.2, 0.4), row("qprompt", 1, 0.6, 0.4, 0.6)]
    rows += [
        row("qprompt_r1", 0, 0.6, 0.3, 0.5),
        row("qprompt_r1", 1, 0.6, 0.5, 0.7),
        row("qprompt_r1", 2, 0.6, 0.9, 0.9),
    ]
    assert difference(rows, "qprompt_r1", "qprompt") == "+10.0 ± 0.0"  # seed 2 has no partner
    assert difference(rows, "eomt", "qprompt") == ""
    table = arm_table(rows, "streets")
    assert table.splitlines()[2].startswith("| QPrompt | 2 | 60.0 ± 0.0 | 30.0 ± 127.1 |")


def test_adapters_have_a_table_of_their_own() -> None:
    rows = [row("qprompt", 0, 0.6, 0.2, 0.4), row("soma", 0, 0.5, 0.3, 0.5), row("soma_grqa", 0, 0.5, 0.4, 0.5)]
    lines = adapter_table([*rows, row("rein_grqa", 1, 0.5, 0.4, 0.5)]).splitlines()
    assert lines[0].split(" | ")[-3:] == ["against full", "unseen mean with GRQA", "GRQA against without |"]
    assert lines[2] == "| Rein | 0, 1 | – | – | – | – |  | 45.0 |  |"
    assert lines[3] == "| SoMA | 1, 1 | 50.0 | 30.0 | 50.0 | 40.0 | +10.0 | 45.0 | +5.0 |"
    assert lines[4] == "| full fine-tuning | 1, 0 | 60.0 | 20.0 | 40.0 | 30.0 |  | – |  |"
    assert len(arm_table(rows, "streets").splitlines()) == len(figure_table(rows, "streets").splitlines()) == 3


def test_missing_runs_are_named() -> None:
    """Below the table, arm by arm; nothing is said of what is there."""
    arms = [f"{adapter}{twin}" for adapter in ADAPTERS for twin in ("", "_grqa")] + ["qprompt", "qprompt_r1"]
    everything = [row(arm, seed, 0.5, 0.4) for arm in arms for seed in (0, 1, 2)]
    assert "Not measured" not in adapter_table(everything)
    assert len(adapter_table(everything).splitlines()) == 8
    some = [one for one in everything if one["arm"] != "lora" and (one["arm"], one["seed"]) != ("rein_grqa", 1)]
    assert adapter_table(some).endswith("\n\nNot measured yet: Rein, GRQA (seed 1); LoRA (seeds 0, 1, 2).")
    nothing, blank, missing = adapter_table([]).splitlines()
    assert (nothing, blank) == ("Nothing has been measured yet.", "")
    assert missing.startswith("Not measured yet: frozen (seeds 0, 1, 2); frozen, GRQA (seeds 0, 1, 2); Rein (")


def test_figures_of_queries() -> None:
    drifted = row("eomt", 0, 0.6, 0.2)
    drifted["figures"]["unseen_0"] = dict.fromkeys(FIGURES, 0.5) | {"class_mean_drift": 0.25}
    table = figure_table([row("mlp_head", 0, 0.6, 0.2), drifted], "streets").splitlines()
    assert len(table) == 3
    assert table[2] == "| EoMT | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | 0.50 | – | 0.50 | 0.25 |"


def test_number_of_queries() -> None:
    found = row("qprompt", 0, 0.6, 0.2, **{"grqa/group_size": 2.5, "grqa/classes_occupied": 9.0}) | {"queries": 50}
    table = query_table([found | {"regrouped_per_100_steps": 0.125}])
    assert table.splitlines()[-1] == "| 50, QPrompt | 60.0 | 20.0 | 20.0 | 2.5 | 9.0 | 12.5 % |"
    assert query_table([]) == arm_table([], "streets") == "Nothing has been measured yet."


def test_small_and_thin_classes_stand_apart() -> None:
    names = CITYSCAPES.names

    def scored(arm: str, seed: int, pole: float, person: float) -> dict[str, Any]:
        known = dict.fromkeys(names, 0.5) | {"pole": pole, "person": person, "train": None}
        return row(arm, seed, 0.5, 0.5) | {"iou": {"clear": known, "fog": dict.fromkeys(names, 0.25)}}

    rows = [scored("mask2former", 0, 0.3, 0.5), scored("mask2former", 1, 0.3, 0.5)]
    nothing = "Nothing has been measured yet.\n\nNot measured yet: Mask2Former (seeds 0, 1, 2); FASeg (seeds 0, 1, 2)."
    assert class_group_table([row("mask2former", 2, 0.6, 0.2)]) == nothing, "rows without classes do not count"
    first = class_group_table(rows).splitlines()
    assert first[3] == "| FASeg | 0 | – | – | – | – | – | – |"
    assert first[4:] == ["", "Not measured yet: Mask2Former (seed 2); FASeg (seeds 0, 1, 2)."]
    rows += [scored("faseg", 0, 0.4, 0.8), scored("faseg", 1, 0.4, 0.8), row("mask2former", 2, 0.6, 0.2)]
    lines = class_group_table(rows).splitlines()
    assert lines[0].startswith("| arm | seeds | source, thin | source, small | source, the rest | unseen, thin |")
    assert lines[2].startswith("| Mask2Former | 2 | 40.0 ± 0.0 | 50.0 ± 0.0 | 50.0 ± 0.0 | 25.0 ± 0.0 |")
    assert lines[4].startswith("| difference | 2 | +5.0 ± 0.0 | +5.0 ± 0.0 | +0.0 ± 0.0 |")
