"""Every shipped recipe builds with a tiny ViT and trains three steps on streets; every sweep fits its recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file

from queryseg.cli.demo import RECIPE
from queryseg.data.class_table import class_table
from queryseg.data.streets import Streets
from queryseg.data.writer import write_cityscapes
from queryseg.recipe_file import build, build_untrained, read_recipe, resolve
from queryseg.segmenter import Segmenter
from queryseg.training.launch import train
from queryseg.training.sweep import read_sweep, train_sweep

ROOT = Path(__file__).parents[2]
QPROMPT_R1 = ROOT / "recipes" / "qprompt_r1"
JOINT = 24
"""Width of the image–text space."""
TOWER = {
    "embed_dim": JOINT,
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}
"""A text encoder with the tokens of CLIP's."""
CONTINUAL = "simcis"
"""Whose recipes train in steps: tests/recipes/test_simcis.py."""
RECIPES = [RECIPE, *sorted(path for path in ROOT.glob("recipes/*/*.yaml") if path.parent.name != CONTINUAL)]


def composition(content: Any) -> Any:
    """What a recipe is made of: its keys, parts, names and switches, without numbers."""
    if isinstance(content, dict):
        return frozenset((key, composition(value)) for key, value in content.items())
    if isinstance(content, list):
        return frozenset(map(composition, content))
    return content if isinstance(content, str | bool) else None


def different(paths: list[Path]) -> list[Path]:
    """The first of each group of recipes that differ in numbers and data sets alone and so train the same code."""
    found: dict[Any, Path] = {}
    for path in paths:
        content = read_recipe(path)
        told = {key: content[key] for key in ("model", "objectives", "training")}
        tasks = {key: value for key, value in content["data"].items() if key not in ("root", "train", "validate")}
        steps = {key: value for key, value in content.get("continual", {}).items() if key == "objectives"}
        found.setdefault(composition({**told, "data": tasks, "continual": steps}), path)
    return list(found.values())


def shrunk(content: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """The same composition at the smallest size."""
    backbone = content["model"]["backbone"]
    options: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2}
    sizes: dict[str, Any] = {"image_size": 64}
    if backbone["class_path"].endswith("SamViT"):
        options |= {"window_size": 3, "global_attn_indexes": [2]}
    elif backbone["class_path"].endswith("PyramidBackbone"):
        sizes, options = {}, {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
        if backbone["init_args"]["name"].startswith("resnet"):
            options = {"layers": [1, 1, 1, 1], "channels": [8, 16, 24, 32], "stem_width": 8}
    if backbone["init_args"].get("joint"):
        options["num_classes"] = JOINT
    backbone["init_args"] |= {"pretrained": False, "options": options, **sizes}
    if "criterion" in content["objectives"]:
        criterion = content["objectives"]["criterion"]
        criterion = {"class_path": criterion} if isinstance(criterion, str) else criterion
        criterion["init_args"] = {**criterion.get("init_args", {}), "num_points": 64}
        content["objectives"]["criterion"] = criterion
    content["data"] |= {"train": data, "validate": {"seen": data}, "crop": [64, 64], "short_sides": [64]}
    content["data"] |= {"num_workers": 0, "protocol": eighth(content["data"].get("protocol", {}))}
    fewer = {"rare_class_min_pixels": 30, "rare_class_crop_pixels": 15}
    content["data"] |= {key: pixels for key, pixels in fewer.items() if key in content["data"]}
    content["training"] |= {"steps": 3, "batch_size": 2, "validate_every": 0}  # the last one is in GRQA's stage
    tapped = content["model"]["backbone"]["init_args"]
    if "taps" in tapped:  # one block for each third of the depth
        tapped["taps"] = [tap // 8 for tap in tapped["taps"]]
    for role in ("pixel_decoder", "queries", "decoder"):
        content["model"][role] = small(content["model"][role])
    return content


def eighth(protocol: dict[str, Any]) -> dict[str, Any]:
    """The same with shorter sides, windows and steps: streets for tests are small."""
    return {key: [side // 8 for side in value] if key == "fit" else value // 8 for key, value in protocol.items()}


def small(part: str | dict[str, Any]) -> dict[str, Any]:
    """The same part with narrow layers, where it has widths of its own."""
    part = {"class_path": part} if isinstance(part, str) else part
    widths = {
        "TextDeformable": {"width": 32, "num_layers": 2, "hidden": 48, "num_heads": 4, "groups": 8},
        "TextualQueries": {"tower": TOWER, "tower_weights": False, "context_width": 16},
        "Deformable": {"width": 32, "num_layers": 2, "hidden": 48, "num_heads": 4, "groups": 8},
        "Projected": {"width": 32},
        "CrossAttention": {"num_layers": 3, "hidden": 48, "num_heads": 4},
        "HighResolutionCrossAttention": {"num_layers": 5, "hidden": 48, "num_heads": 4},
    }
    given = part.get("init_args", {})
    blocks = {"num_blocks": 2} if "num_blocks" in given else {}
    return part | {"init_args": {**given, **widths.get(part["class_path"].rpartition(".")[2], blocks)}}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streets")
    return write_cityscapes(Streets("clear", 2, 0, (64, 128)), root, "train")


def tiny(path: Path, street: Path) -> dict[str, Any]:
    """A shipped recipe at the smallest size, with streets for data."""
    content = read_recipe(path)
    classes = class_table(content["classes"])
    data = yaml.safe_load(street.read_text()) | {"root": str(street.parent), "classes": content["classes"]}
    if classes.name != "cityscapes":  # streets' ids, folded onto whatever classes the recipe knows
        groups: dict[str, list[int]] = {name: [] for name in classes.names}
        for value in range(34):
            groups[classes.names[value % len(classes)]].append(value)
        data["label_map"] = groups | {"ignore": [255]}
    if content["data"].get("task", "semantic") != "semantic":  # objects, which layout folders does not tell apart
        data = {"layout": "streets", "num_images": 2, "size": [64, 128]}
    return resolve(shrunk(content, data))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_recipe_is_understood_as_it_is_written(path):
    assert resolve(read_recipe(path))["model"].keys() >= {"backbone", "decoder"}


@pytest.mark.parametrize("path", different(RECIPES), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_recipe_builds_and_trains(path, street, tmp_path):
    resolved = tiny(path, street)
    result = train(build(resolved), resolved, tmp_path / "run", accelerator="cpu")
    assert result.steps == 3
    assert 0 <= result.mean_iou["seen"] <= 1


# ───────────────────────────── sweeps ─────────────────────────────


@pytest.mark.parametrize(("name", "num_arms"), [("table4", 5), ("table5", 9), ("table6", 4)])
def test_sweep_fits_its_recipe(name, num_arms, street, tmp_path):
    recipe = tmp_path / "gtav.yaml"
    recipe.write_text(yaml.safe_dump(tiny(QPROMPT_R1 / "gtav.yaml", street)))
    sweep = read_sweep(QPROMPT_R1 / "sweeps" / f"{name}.yaml")
    runs = sweep.plan(recipe, [], tmp_path / "out")
    assert [run.seed for run in runs] == sorted([0, 1, 2] * num_arms)
    assert sweep.table(runs).unseen == ["seen"]  # nothing is of GTAV's domain
    by_arm = {run.arm: run.recipe["objectives"] for run in runs}
    grqa = [objectives["grqa"]["init_args"] for objectives in by_arm.values() if "grqa" in objectives]
    weights = {(a["clip"], a["kl_weight"], a["image_weight"], a["group_weight"]) for a in grqa}
    if name == "table5":
        by_loss = {(0.05, 1e-3), (0.1, 1e-3), (0.15, 1e-3), (0.1, 1e-2), (0.1, 1e-4)}
        by_weight = {(1, 1), (5, 1), (10, 1), (10, 5), (10, 10)}
        assert weights == {(*pair, 10, 5) for pair in by_loss} | {(0.1, 1e-3, *pair) for pair in by_weight}
    else:
        assert {w[2:] for w in weights} == {(10, 5)}


@pytest.mark.parametrize("backbone", ["gtav", "gtav_clip", "gtav_sam"])
def test_every_method_of_table_8_trains_on_every_backbone(backbone, street, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny(QPROMPT_R1 / f"{backbone}.yaml", street)))
    sweep = replace(read_sweep(QPROMPT_R1 / "sweeps" / "table8.yaml"), seeds=[0])
    runs = sweep.plan(recipe, [], tmp_path / "out")
    table = train_sweep(sweep, runs, tmp_path / "out", accelerator="cpu", console=Console(quiet=True))
    assert {arm: len(scores) for arm, scores in table.scores.items()} == {"mlp_head": 1, "qprompt": 1, "grqa": 1}
    weights = {run.arm: load_file(run.folder / "model.safetensors") for run in runs}
    assert weights["qprompt"].keys() == weights["grqa"].keys() != weights["mlp_head"].keys()
    # one seed: what differs is the third step, the first one with GRQA
    assert any(not torch.equal(value, weights["grqa"][key]) for key, value in weights["qprompt"].items())
    if backbone == "gtav":  # arms and recipes of the same table row are the same
        for arm, name in (("qprompt", "gtav_qprompt"), ("mlp_head", "ladder_mlp_head"), ("grqa", "gtav")):
            resolved = tiny(QPROMPT_R1 / f"{name}.yaml", street)
            train(build(resolved), resolved, tmp_path / name, accelerator="cpu", console=Console(quiet=True))
            alone = load_file(tmp_path / name / "model.safetensors")
            assert all(torch.equal(value, alone[key]) for key, value in weights[arm].items()), arm


# ───────────────────────────── full size ─────────────────────────────


def full_size(recipe: str, *overrides: str) -> Segmenter:
    with torch.device("meta"):
        return build_untrained(resolve(read_recipe(QPROMPT_R1 / f"{recipe}.yaml", overrides)))


def millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize(("recipe", "expected"), [("gtav", 315), ("gtav_qprompt", 315), ("ladder_mlp_head", 312)])
def test_parameters_are_those_of_table_7(recipe, expected):
    assert millions(full_size(recipe)) == pytest.approx(expected, abs=1)


def test_clip_l_has_its_own_activation_norm_and_class_token():
    backbone = full_size("gtav_clip").backbone
    assert millions(backbone) == pytest.approx(304.15, abs=0.01)
    assert {type(block.mlp.act).__name__ for block in backbone.blocks} == {"QuickGELU"}
    assert isinstance(backbone.stem.norm_pre, torch.nn.LayerNorm)
    assert (backbone.patch, backbone.prefix, backbone.mean[0]) == (16, 1, pytest.approx(0.4815, abs=1e-4))


def test_sam_h_takes_queries_in_its_last_block_only():
    backbone = full_size("gtav_sam").backbone
    # 637.03 M as published, without the neck (0.92 M) and with positions of 32×32 instead of 64×64 (3.97 M less)
    assert millions(backbone) == pytest.approx(637.03 - 0.92 - 3.97, abs=0.02)
    assert (backbone.dims.depth, backbone.dims.joinable, backbone.prefix) == (32, 1, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        "{name: vit_large_patch16_dinov3.lvd1689m, pretrained: true, image_size: 512}",
        "{name: eva02_large_patch14_224.mim_m38m, pretrained: true, patch_size: 16, image_size: 512}",
    ],
)
def test_other_backbones_are_overrides(arguments):
    override = f"{{class_path: queryseg.backbones.RotaryViT, init_args: {arguments}}}"
    model = full_size("gtav", "--model.backbone", override)
    assert model.backbone.patch == 16
    assert millions(model) == pytest.approx(315, abs=1)
