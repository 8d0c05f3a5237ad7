"""Every shipped recipe builds with a tiny ViT and trains three steps on streets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from queryseg.cli.demo import RECIPE
from queryseg.data.class_table import class_table
from queryseg.data.streets import Streets
from queryseg.data.writer import write_cityscapes
from queryseg.recipe_file import build, read_recipe, resolve
from queryseg.training.launch import train

ROOT = Path(__file__).parents[2]
RECIPES = [RECIPE, *sorted(ROOT.glob("recipes/*/*.yaml"))]


def shrunk(content: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The same composition at the smallest size."""
    arguments = content["model"]["backbone"]["init_args"]
    arguments |= {"pretrained": False, "image_size": 64, "options": {"embed_dim": 32, "depth": 3, "num_heads": 2}}
    if "criterion" in content["objectives"]:
        content["objectives"]["criterion"]["init_args"] = {"num_points": 64}
    content["data"] |= {"train": data, "validate": {"seen": data}, "crop": [64, 64], "short_sides": [64]}
    content["data"] |= {"num_workers": 0}
    content["training"] |= {"steps": 3, "batch_size": 2, "validate_every": 0}  # the last one is in GRQA's stage
    tapped = content["model"]["backbone"]["init_args"]
    if "taps" in tapped:  # one block for each third of the depth
        tapped["taps"] = [tap // 8 for tap in tapped["taps"]]
    for role in ("pixel_decoder", "decoder"):
        content["model"][role] = small(content["model"][role])
    return content


def small(part: str | dict[str, Any]) -> dict[str, Any]:
    """The same part with narrow layers, where it has widths of its own."""
    part = {"class_path": part} if isinstance(part, str) else part
    widths = {
        "Deformable": {"width": 32, "num_layers": 2, "hidden": 48, "num_heads": 4, "groups": 8},
        "Projected": {"width": 32},
        "CrossAttention": {"num_layers": 3, "hidden": 48, "num_heads": 4},
    }
    given = part.get("init_args", {})
    blocks = {"num_blocks": 2} if "num_blocks" in given else {}
    return part | {"init_args": {**given, **widths.get(part["class_path"].rpartition(".")[2], blocks)}}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    return write_cityscapes(Streets("clear", 2, 0, (64, 128)), root, "train")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_recipe_builds_and_trains(path, street, tmp_path):
    content = read_recipe(path)
    resolve(content)  # as it is written
    classes = class_table(content["classes"])
    data = yaml.safe_load(street.read_text()) | {"root": str(street.parent), "classes": content["classes"]}
    if classes.name != "cityscapes":  # streets' ids, folded onto whatever classes the recipe knows
        groups: dict[str, list[int]] = {name: [] for name in classes.names}
        for value in range(34):
            groups[classes.names[value % len(classes)]].append(value)
        data["label_map"] = groups | {"ignore": [255]}
    resolved = resolve(shrunk(content, data))
    result = train(build(resolved), resolved, tmp_path / "run", accelerator="cpu")
    assert result.steps == 3
    assert 0 <= result.mean_iou["seen"] <= 1
