"""Two tasks of SimCIS after each other: what the second begins with, and that it can stop and go on."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import read_model
from queryseg.objectives import PseudoLabels
from queryseg.objectives.pseudo_distribution import PSEUDO_DISTRIBUTION_FILE, PseudoDistribution
from queryseg.objectives.query_bank import BANK_FILE
from queryseg.recipe_file import build, resolve
from queryseg.training import train
from queryseg.training.checkpoint import read_checkpoint
from queryseg.training.loading import open_checked, training_loader
from queryseg.training.pseudo_label_count import count_pseudo_labels

CLASSES = ["left", "right", "disc"]
OLD, CURRENT = [0, 1], [2]
MATCHER = {"class_path": "queryseg.objectives.FocalHungarian", "init_args": {"num_points": 32}}


def recipe(data: Path, later: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The first task, or, with the options that its objectives get, the second one."""
    objectives: dict[str, Any] = {
        "criterion": {
            "class_path": "queryseg.objectives.FocalSetCriterion",
            "init_args": {"num_points": 32, "matcher": MATCHER},
        },
        "virtual_queries": {
            "class_path": "queryseg.objectives.VirtualQueries",
            "init_args": {"num_virtual": 2, "length": 4, "matcher": MATCHER},
        },
    }
    if later is not None:
        objectives["virtual_queries"]["init_args"] |= {"old_classes": OLD, **later}
        objectives = {
            "pseudo_labels": {
                "class_path": "queryseg.objectives.PseudoLabels",
                "init_args": {"current_classes": CURRENT, "task": "semantic"},
            },
            "consistent_selection": {
                "class_path": "queryseg.objectives.ConsistentSelection",
                "init_args": {"old_classes": OLD},
            },
        } | objectives
    source = {"layout": "folders", "root": str(data), "classes": CLASSES}
    return resolve(
        {
            "classes": CLASSES,
            "model": {
                "backbone": {
                    "class_path": "queryseg.backbones.PlainViT",
                    "init_args": {
                        "name": "vit_tiny_patch16_224",
                        "image_size": 32,
                        "pyramid": "bilinear",
                        "options": {"embed_dim": 32, "depth": 2, "num_heads": 2},
                    },
                },
                "pixel_decoder": {
                    "class_path": "queryseg.pixel_decoders.Deformable",
                    "init_args": {"width": 32, "num_layers": 1, "hidden": 32, "num_heads": 2, "groups": 8},
                },
                "queries": {"class_path": "queryseg.queries.PixelSelectedQueries", "init_args": {"num_queries": 6}},
                "decoder": {
                    "class_path": "queryseg.decoders.CrossAttention",
                    "init_args": {
                        "num_layers": 3,
                        "hidden": 32,
                        "num_heads": 2,
                        "order": "self_first",
                        "heads": "queryseg.decoders.BoxHeads",
                    },
                },
                "readout": "queryseg.readouts.Mixture",
                **changes,
            },
            "objectives": objectives,
            "data": {"train": source, "crop": [32, 32], "short_sides": [32], "num_workers": 0},
            "training": {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "save_every": 2, "log_every": 1},
        }
    )


@cache
def first_task(data: Path, folder: Path) -> Path:
    resolved = recipe(data)
    train(build(resolved), resolved, folder, accelerator="cpu", console=Console(quiet=True))
    return folder


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_task(data, tmp_path_factory.mktemp("tasks") / "first")


def second_task(first: Path, data: Path, out: Path, later: dict[str, Any], **options: Any) -> str:
    """What the console said."""
    resolved = recipe(data, later)
    console = Console(file=open(out.with_suffix(".log"), "w"), width=400)  # noqa: SIM115
    previous = read_model(first).model
    train(build(resolved), resolved, out, previous=previous, accelerator="cpu", console=console, **options)
    console.file.close()
    return out.with_suffix(".log").read_text()


def test_the_first_task_leaves_a_bank(first: Path) -> None:
    bank = load_file(first / BANK_FILE)
    assert bank["rows"].dtype == torch.float16
    assert bank["counts"].tolist() == [4, 4, 4]
    assert bank["rows"].shape == (12, 32)
    state = read_checkpoint(first / "last.ckpt")["objectives"]
    assert state["virtual_queries.bank.added"].tolist() == [8, 8, 8], "two images of three classes in four steps"


def test_the_second_task_learns_from_all_of_it(first: Path, data: Path, tmp_path: Path) -> None:
    resolved = recipe(data, {})
    made = build(resolved)
    dataset = open_checked(made.data.train, made.data, made.class_table, "data.train")
    loader = training_loader(made, dataset, tmp_path, 0, 0, 1, False)
    labels = PseudoLabels(read_model(first).model.dims, CURRENT, "semantic", threshold=-1.0, overlap=0.0)
    batches = [next(iter(loader)) for _ in range(2)]
    for batch in batches:
        batch.label_maps[batch.label_maps < 2] = 255  # what this task does not label
        batch.labels = [one[one == 2] for one in batch.labels]
    counted = count_pseudo_labels(read_model(first).model, labels, batches)
    assert counted.counts[2] == 0
    assert counted.counts.sum() > 0
    counted.write(tmp_path / PSEUDO_DISTRIBUTION_FILE, CLASSES)
    assert PseudoDistribution.read(tmp_path / PSEUDO_DISTRIBUTION_FILE, CLASSES).counts.equal(counted.counts)
    later = {"bank": str(first / BANK_FILE), "distribution": str(tmp_path / PSEUDO_DISTRIBUTION_FILE)}
    said = second_task(first, data, tmp_path / "second", later)
    assert "has no entry" not in said
    rows = (tmp_path / "second" / "metrics.csv").read_text().splitlines()
    last = dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))
    terms = ["criterion/class", "criterion/box", "criterion/giou", "virtual_queries/class"]
    for term in (*terms, "consistent_selection/selection", "consistent_selection/decoder"):
        assert float(last[term]) > 0, term
    assert (tmp_path / "second" / BANK_FILE).exists()


def test_an_interrupted_task_ends_with_the_same_bank_and_weights(first: Path, data: Path, tmp_path: Path) -> None:
    later = {"bank": str(first / BANK_FILE)}
    second_task(first, data, tmp_path / "whole", later)
    second_task(first, data, tmp_path / "parts", later, until=2)
    assert not (tmp_path / "parts" / BANK_FILE).exists(), "the run is not complete"
    second_task(first, data, tmp_path / "parts", later, resume=True)
    for name in ("model.safetensors", BANK_FILE):
        whole, parts = (load_file(tmp_path / run / name) for run in ("whole", "parts"))
        assert whole.keys() == parts.keys()
        assert all(torch.equal(whole[key], parts[key]) for key in whole), name


def test_classes_that_were_never_kept_are_named(first: Path, data: Path, tmp_path: Path) -> None:
    said = second_task(first, data, tmp_path / "second", {}, until=1)
    assert "the bank has no entry of 2 of 2 old classes" in said
    assert "left, right" in said


def test_a_bank_of_another_width_is_refused(first: Path, data: Path, tmp_path: Path) -> None:
    resolved = recipe(data, {"bank": str(first / BANK_FILE)})
    resolved["model"]["pixel_decoder"]["init_args"]["width"] = 16
    with pytest.raises(CheckpointError, match=r"holds queries of width 32, but this model's are 16 wide; ") as caught:
        train(build(resolved), resolved, tmp_path / "run", previous=read_model(first).model, accelerator="cpu")
    assert "\n" not in str(caught.value)


def test_on_a_frozen_vision_transformer_with_an_adapter(data: Path, tmp_path: Path) -> None:
    adapter = {"class_path": "queryseg.adapters.Rein", "init_args": {"num_tokens": 4, "rank": 2, "link": False}}
    resolved = recipe(data, adapter=adapter)
    resolved["training"]["steps"] = 1
    console = Console(file=open(tmp_path / "log", "w"), width=400)  # noqa: SIM115
    train(build(resolved), resolved, tmp_path / "run", accelerator="cpu", console=console)
    console.file.close()
    assert "No gradient reached" not in (tmp_path / "log").read_text()
