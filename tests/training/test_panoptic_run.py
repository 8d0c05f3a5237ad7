"""Training on objects: what reaches the loss, and what is refused before it starts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from queryseg.cli.main import main
from queryseg.data.batch import collate
from queryseg.data.class_table import CITYSCAPES
from queryseg.errors import RecipeError
from queryseg.objectives import SetCriterion
from queryseg.objectives.matching import Segments
from queryseg.recipe_file import build, read_recipe, resolve
from queryseg.training import train
from queryseg.training.loading import open_checked, training_loader
from queryseg.types import Dims, Output, Prediction, Sample

RECIPE = Path(__file__).parents[2] / "recipes" / "qprompt_r1" / "streets_panoptic.yaml"
STREETS = {"layout": "streets", "num_images": 3, "size": [48, 96]}


def settings(*overrides: str, **values: Any) -> dict[str, Any]:
    """The shipped recipe at the smallest size."""
    small = {
        "model.backbone.options": {"depth": 2, "embed_dim": 32, "num_heads": 2},
        "model.backbone.image_size": [48, 96],
        "data.train": STREETS,
        "data.validate": {},
        "data.crop": [48, 96],
        "data.short_sides": [48],
        "data.num_workers": 0,
        "training.steps": 2,
        "training.batch_size": 2,
        **values,
    }
    return resolve(read_recipe(RECIPE, overrides, small))


@pytest.mark.parametrize("task", ["panoptic", "instance"])
def test_loaders_bring_objects(task: str, tmp_path: Path) -> None:
    """Per image as many segments as the street has objects (and classes of stuff), each with its own pixels."""
    recipe = build(settings(f"data.task={task}", "data.flip=0"))
    dataset = open_checked(recipe.data.train, recipe.data, recipe.class_table, "data.train")
    batch = next(iter(training_loader(recipe, dataset, tmp_path, 0, 0, 1, False)))
    for name, target in zip(batch.names, batch.targets(), strict=True):
        sample = dataset[int(name.rpartition("_")[2])]
        assert sample.instance_map is not None
        objects = set(sample.instance_map.unique().tolist()) - {0}
        stuff = set(sample.label_map.unique().tolist()) - CITYSCAPES.things
        assert len(target.labels) == len(objects) + (len(stuff) if task == "panoptic" else 0)
        is_thing = torch.isin(target.labels, torch.tensor(sorted(CITYSCAPES.things)))
        assert int(is_thing.sum()) == len(objects) > len(set(target.labels[is_thing].tolist()))
        assert (target.masks.sum(0) <= 1).all()
        assert target.masks.flatten(1).any(1).all()


def test_the_criterion_tells_two_objects_of_a_class_apart() -> None:
    """Queries that show one car each cost nothing; one that shows both costs, though the classes are right."""
    torch.manual_seed(0)
    label_map = torch.zeros(64, 128, dtype=torch.uint8)
    instances = torch.zeros(64, 128, dtype=torch.int32)
    for number, columns in enumerate((slice(8, 48), slice(64, 112)), 1):
        label_map[16:48, columns], instances[16:48, columns] = 1, number
    sample = Sample(torch.zeros(3, 64, 128, dtype=torch.uint8), label_map, "a", instances)
    targets = collate([sample], "panoptic", frozenset({1})).targets()
    assert Segments.of(targets).labels.tolist() == [0, 1, 1]
    criterion = SetCriterion(Dims(("road", "car"), 8, 1, (8,), (4,), 8, 8), num_points=4096, importance_ratio=0)
    road, left, right = (mask.float() * 40 - 20 for mask in targets[0].masks)
    classes = torch.full((1, 3, 3), -20.0)
    classes[0, 0, 0] = classes[0, 1:, 1] = 20

    def losses(*masks: torch.Tensor) -> dict[str, float]:
        empty = torch.zeros(1, 3, 1)
        stacked = torch.stack(masks)[None]
        reading = Prediction(classes, classes.softmax(-1)[..., :-1], stacked, empty, None, empty)
        output = Output(None, None, [reading])  # type: ignore[arg-type]
        found = criterion.losses(output, targets, None)  # type: ignore[arg-type]
        return {name: float(value) for name, value in found.items()}

    assert losses(road, right, left)["dice"] < 0.03  # in any order; what is left is at borders
    both = torch.maximum(left, right)
    assert losses(road, both, both)["dice"] > 0.2


def test_a_run_on_objects_trains(tmp_path: Path) -> None:
    resolved = settings(**{"data.validate": {"seen": STREETS}})
    console = Console(quiet=True, record=True)
    result = train(build(resolved), resolved, tmp_path / "run", accelerator="cpu", console=console)
    assert result.steps == 2
    assert 0 <= result.mean_iou["seen"] <= 1
    with (tmp_path / "run" / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert 0 <= float(last["pq/seen"]) <= 1
    table = tmp_path / "table.json"
    data = tmp_path / "seen.yaml"
    data.write_text(yaml.safe_dump(STREETS))
    arguments = ["evaluate", str(tmp_path / "run"), "--data", f"seen={data}", "--device", "cpu", "--workers", "0"]
    assert main([*arguments, "--measures", "panoptic", "--json", str(table)]) == 0
    found = json.loads(table.read_text())["data"]["seen"]["measures"]["panoptic"]
    assert found["scores"]["pq"]["value"] == pytest.approx(float(last["pq/seen"]))
    assert found["settings"]["segments"] == "the model's own"
    assert main([*arguments, "--measures", "panoptic", "--task", "semantic", "--json", str(table)]) == 0
    found = json.loads(table.read_text())["data"]["seen"]["measures"]["panoptic"]
    assert found["settings"]["segments"] == "connected components of the labels"


def test_what_tells_no_objects_apart_is_refused(tmp_path: Path) -> None:
    """Rows that stand for classes, tables without things, before a run begins."""
    rows = settings(
        **{
            "model.queries": "queryseg.queries.NoQueries",
            "model.decoder": "queryseg.decoders.PixelClassifier",
            "model.readout": "queryseg.readouts.PerPixel",
            "objectives": {"pixel": {"class_path": "queryseg.objectives.PixelCrossEntropy"}},
        }
    )
    with pytest.raises(RecipeError, match=r"ClassVectors has one row per class.*data\.task panoptic"):
        train(build(rows), rows, tmp_path / "rows", accelerator="cpu", console=Console(quiet=True))
    windows = settings(**{"data.protocol": {"window": 48, "stride": 24}})
    with pytest.raises(RecipeError, match="windows 48/24"):
        train(build(windows), windows, tmp_path / "windows", accelerator="cpu", console=Console(quiet=True))
    names = {**settings(), "classes": list(CITYSCAPES.names)}
    with pytest.raises(RecipeError, match="no class of 'custom' is a thing"):
        train(build(names), names, tmp_path / "names", accelerator="cpu", console=Console(quiet=True))
