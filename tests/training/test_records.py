from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from queryseg.data.class_table import class_table
from queryseg.evaluation.evaluation import Example
from queryseg.training.meter import PACE, Meter
from queryseg.training.pictures import prediction_picture
from queryseg.training.records import Records

COLUMNS = ["step", "loss", "miou/city"]


def write(folder: Path, step: int, *rows: dict[str, float]) -> str:
    records = Records(folder, COLUMNS, step)
    for row in rows:
        records.row(row)
    records.flush()
    records.close()
    return (folder / "metrics.csv").read_text()


def test_rows(tmp_path: Path) -> None:
    text = write(tmp_path, 0, {"step": 10, "loss": 1 / 3}, {"step": 20, "loss": 0.25, "miou/city": 0.5})
    assert text == "step,loss,miou/city\n10,0.3333333333333333,\n20,0.25,0.5\n"
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("miou/city")] == [(20, 0.5)]


def test_rows_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    write(tmp_path, 0, {"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}, {"step": 30, "loss": 3.0})
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("4")  # a process was killed in the middle of a row
    assert write(tmp_path, 20, {"step": 30, "loss": 4.0}) == "step,loss,miou/city\n10,1.0,\n20,2.0,\n30,4.0,\n"


def test_a_new_run_starts_a_new_file(tmp_path: Path) -> None:
    write(tmp_path, 0, {"step": 10, "loss": 1.0})
    assert write(tmp_path, 0) == "step,loss,miou/city\n"


def test_validation_sets_may_change_when_a_run_resumes(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("step,miou/town,loss\n10,0.5,1.0\n")
    assert write(tmp_path, 10) == "step,loss,miou/city\n10,1.0,\n"


def test_picture(tmp_path: Path) -> None:
    classes = class_table(["a", "b"])
    image = np.full((20, 40, 3), 128, np.uint8)
    example = Example("x", image, np.full((20, 40), 255, np.uint8), np.ones((20, 40), np.uint8))
    picture = prediction_picture([example, example], classes, width=20)
    assert picture.shape == (3, 10 + 4 + 10, 20 + 4 + 20 + 4 + 20)
    assert picture[:, 0, 0].tolist() == [128] * 3
    assert picture[:, 0, 30].tolist() == [0] * 3
    assert picture[:, 0, 60].tolist() == list(classes.colors[1])
    assert picture[:, 0, 21].tolist() == [255] * 3
    records = Records(tmp_path, COLUMNS, 0)
    records.picture(500, picture)
    records.close()
    assert Image.open(tmp_path / "pictures" / "step_000500.png").size == (68, 24)


def test_meter() -> None:
    meter = Meter(["loss", "rare", "never"], torch.device("cpu"))
    table = meter.table([{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(4.0), "rare": torch.tensor(2.0)}])
    assert table.tolist() == [[5.0, 2.0, 0.0], [2.0, 1.0, 0.0]]
    meter.add(table)
    meter.add(table + table)
    means, pace = meter.take()
    assert means == {"loss": 2.5, "rare": 2.0}
    assert tuple(pace) == PACE
    assert meter.take()[0] == {}


def test_meter_knows_how_long_it_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 8.0])  # start, asked, answered, stop
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    meter = Meter([], torch.device("cpu"))
    meter.start()
    meter.next(iter([None]))  # type: ignore[list-item]
    meter.stop(images=4)
    assert (meter.waiting, meter.seconds, meter.images) == (2.0, 8.0, 4)
