"""Later images without buses and trains: what differs, and the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import vanished
from continual_arms import ARMS, MAIN, Run
from continual_training import resolved_recipe
from vanished import ORDERS, all_runs, without_vanished
from vanished_summary import COMPARED, IMAGES, LABELS, vanished_table

from queryseg.continual.continual_plan import ContinualPlan
from queryseg.data.data_file import open_data
from queryseg.recipe_file import resolve


def test_what_vanishes_was_taught_in_the_first_step() -> None:
    for order in ORDERS:
        split = ContinualPlan.of(resolve(Run(MAIN, "simcis", order).content()), Path("work")).split
        assert set(LABELS) <= set(split.current(1))
    assert len({later.name for later in all_runs()}) == len(all_runs()) == len(ORDERS) * len(COMPARED) * len(IMAGES)


def test_gone_differs_in_the_images_of_later_steps_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanished, "NUM_RENDERED", 12)
    run = Run(MAIN, "simcis", 2)
    shown, gone = resolved_recipe(run, tmp_path), without_vanished(run, tmp_path)
    images = open_data(gone["data"]["train"])
    assert 0 < len(images) < 12
    assert not any((images[i].label_map == label).any() for i in range(len(images)) for label in LABELS)
    assert {**gone["data"], "train": shown["data"]["train"]} == shown["data"]
    assert {**gone, "data": shown["data"]} == shown


def test_the_table_is_over_both_classes_and_the_orders() -> None:
    def row(images: str, order: int, bus: list[float], train: list[float]) -> dict[str, object]:
        scores = {"bus": bus, "train": train, "base": 0.1, "all": 0.1}
        return {"arm": "simcis", "order": order, "images": images, "pq": scores, "miou": scores}

    rows = [
        row("gone", 1, [0.4, 0.1], [0.2, 0.0]),
        row("gone", 2, [0.4, 0.3], [0.2, 0.0]),
        row("shown", 1, [0.4, 0.4], [0.2, 0.2]),
    ]
    lines = vanished_table(rows).splitlines()
    assert lines[2] == f"| {ARMS['pseudo_labels'].title} |  |  |  |  |  |  |"
    assert lines[-1] == "| SimCIS | 30.0 | 30.0 | 10.0 | 30.0 | 30.0 | 10.0 |"
