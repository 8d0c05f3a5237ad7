"""tqdm's recipes have the sizes of the authors' models; twins differ in the traps alone, which do what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipes import shrunk
from torch import Tensor

from queryseg.benchmarking.arithmetic import FlopCount
from queryseg.contracts import Step
from queryseg.data.protocol import Protocol, find_preset
from queryseg.errors import RecipeError
from queryseg.inference.score_strips import window_boxes
from queryseg.objectives import TextRegularizers
from queryseg.pixel_decoders import Deformable
from queryseg.recipe import TrainingSettings
from queryseg.recipe_file import build, build_untrained, read_recipe, resolve
from queryseg.segmenter import Segmenter, build_segmenter
from queryseg.training.parameter_groups import parameter_groups
from queryseg.training.references import References
from queryseg.training.schedule import learning_rate
from queryseg.training.step import build_objectives
from queryseg.training.sweep import read_sweep
from queryseg.types import Target

TQDM = Path(__file__).parents[2] / "recipes" / "tqdm"
PAIRS = ["gtav_clip_b", "gtav_eva02_l", "cityscapes_clip_b", "cityscapes_eva02_l"]


def content(recipe: str) -> dict[str, Any]:
    return resolve(read_recipe(TQDM / f"{recipe}.yaml"))


def on_meta(recipe: str) -> Segmenter:
    with torch.device("meta"):
        return build_untrained(content(recipe))


def millions(*modules: torch.nn.Module) -> float:
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


@pytest.mark.parametrize(("recipe", "backbone", "head"), [("gtav_clip_b", 93.9, 25.3), ("gtav_eva02_l", 317.8, 25.7)])
def test_sizes_are_those_of_the_authors_models(recipe: str, backbone: float, head: float) -> None:
    model = on_meta(recipe)
    assert millions(model.backbone) == pytest.approx(backbone, abs=0.1)
    source: Any = model.queries
    own = millions(source.project) + source.position.numel() / 1e6  # theirs keeps these in its head
    assert millions(model.pixel_decoder, model.decoder) + own == pytest.approx(head, abs=0.1)


@pytest.mark.parametrize("name", PAIRS)
def test_the_twin_differs_in_the_traps_alone(name: str) -> None:
    parity, fixed = content(name), content(f"{name}_fixed")
    assert (parity["data"].pop("rare_class_temperature"), fixed["data"].pop("rare_class_temperature")) == (100.0, 0.01)
    defaults = vars(TrainingSettings())
    for trap in ("undecayed", "min_learning_rate", "schedule", "backbone_scope"):
        assert parity["training"].pop(trap) != defaults[trap]
        assert fixed["training"].pop(trap) == defaults[trap]
    assert parity == fixed


@pytest.mark.parametrize("twin", ["open", "grqa"])
def test_other_twins_differ_in_what_they_are_named_for(twin: str) -> None:
    base, other = content("gtav_eva02_l_fixed"), content(f"gtav_eva02_l_{twin}")
    if twin == "open":
        assert (base["model"].pop("class_vectors"), other["model"].pop("class_vectors")) == ("per_class", "shared")
    else:
        assert "grqa" not in base["objectives"]
        del other["objectives"]["grqa"]
    assert base == other


def test_ablations_fit_their_recipe() -> None:
    """Every arm builds, with objectives that fit, and no two are the same."""
    sweep = read_sweep(TQDM / "sweeps" / "ablations.yaml")
    seen = set()
    for arm in sweep.arms:
        values = {**arm.overrides, "model.backbone.pretrained": False}
        resolved = resolve(read_recipe(TQDM / "gtav_clip_b_fixed.yaml", values=values))
        with torch.device("meta"):
            model = build_untrained(resolved)
            recipe = build(resolved)
        objectives = build_objectives(model, recipe.objectives)
        seen.add(repr(model) + repr([objective.weights for objective in objectives.values()]))
    assert len(seen) == len(sweep.arms) == 7


def test_the_regularizers_of_the_image_need_a_trunk_that_has_finished() -> None:
    values = {
        "objectives.regularizers.vision_weight": 1,
        "model.backbone.joint": True,
        "model.backbone.pretrained": False,
    }
    resolved = resolve(read_recipe(TQDM / "gtav_clip_b_injection.yaml", values=values))
    with torch.device("meta"):
        model, recipe = build_untrained(resolved), build(resolved)
    with pytest.raises(RecipeError, match=r"TextRegularizers requires 'complete_trunk'"):
        build_objectives(model, recipe.objectives)


def groups(recipe: str) -> dict[str, dict[str, Any]]:
    """Parameter → its group."""
    model, settings = on_meta(recipe), TrainingSettings(**content(recipe)["training"])
    return {name: group for group in parameter_groups(model, {}, settings) for name in group["names"]}


def test_what_decays_is_what_decays_there() -> None:
    gtav, cityscapes, fixed = (groups(name) for name in ("gtav_clip_b", "cityscapes_clip_b", "gtav_clip_b_fixed"))
    spared = {name for name, group in gtav.items() if not group["decays"]}
    assert all("norm" in name and not name.startswith("backbone.") for name in spared)
    # two tensors in each: 3 per exchange and decoder layer, 1 behind each of these, 3 per context layer
    assert len(spared) == 2 * (3 * 6 + 1 + 3 * 9 + 1 + 3 * 3)
    tables = {name for name, group in cityscapes.items() if not group["decays"]} - spared
    assert tables == {"pixel_decoder.decoder_level_embed", "queries.position"}
    for name in (
        "queries.gamma",
        "pixel_decoder.encoder_level_embed",
        "backbone.norm.weight",
        "pixel_decoder.inputs.0.1.weight",
    ):
        assert gtav[name]["decays"]
        assert not fixed[name]["decays"]


def test_rates_of_the_backbone() -> None:
    parity, fixed = groups("gtav_clip_b"), groups("gtav_clip_b_fixed")
    for name in ("backbone.pyramid.up2.weight", "backbone.project.weight", "backbone.blocks.3.mlp.fc1.weight"):
        assert parity[name]["factor"] == 0.1
    assert fixed["backbone.pyramid.up2.weight"]["factor"] == 1
    settings = {name: TrainingSettings(**content(name)["training"]) for name in ("gtav_clip_b", "gtav_clip_b_fixed")}
    rates = {name: [learning_rate(s, one, 0.1) for s in (1500, 19_000)] for name, one in settings.items()}
    assert rates["gtav_clip_b"] == pytest.approx([1e-6, 1e-6])
    assert rates["gtav_clip_b_fixed"] == pytest.approx([1e-6, 1e-6 * (1000 / 18_500) ** 0.9])


def test_text_to_pixel_attention_is_a_small_part_of_the_pixel_decoder() -> None:
    """By PyTorch's counter, of one 512² crop; the time: benchmarks/text_to_pixel.py."""
    model = on_meta("gtav_clip_b")
    images = torch.zeros(1, 3, 512, 512, device="meta")
    cost = []
    with torch.no_grad():
        features = model.eval().backbone(images, model.backbone.dims.depth)
        features = replace(features, context=model.queries.context(features))
        with torch.device("meta"):
            plain = Deformable(replace(model.backbone.dims, class_names=model.dims.class_names), hidden=2048)
        for decoder in (plain, model.pixel_decoder):
            with FlopCount() as count:
                decoder(features)
            cost.append(count.total)
    assert cost[1] / cost[0] == pytest.approx(1.08, abs=0.01)


def test_the_frozen_copy_stays_what_the_backbone_was_and_has_no_drop_path() -> None:
    content = shrunk(read_recipe(TQDM / "gtav_clip_b.yaml"), {})
    content["model"]["backbone"]["init_args"]["drop_path_rate"] = 0.5
    recipe = build(resolve(content))
    model = build_segmenter(recipe.class_table.names, recipe.model).train()
    model.begin_training()
    decay = {name: g["decays"] for g in parameter_groups(model, {}, TrainingSettings()) for name in g["names"]}
    assert not decay["queries.prompt"], "a table of the package's rule"
    references, objective = References(model), TextRegularizers(model.dims)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = [Target.semantic(torch.zeros(64, 64, dtype=torch.int64))] * 2

    def vision() -> Tensor:
        step = Step(0, 1, images, model, references.at(images, None))
        return objective.losses(model(images), targets, step)["vision"]

    torch.manual_seed(0)
    assert vision() > 1e-6, "of the learning backbone paths are dropped"
    model.eval()
    assert vision() == 0, "of the copy none was"
    with torch.no_grad():
        model.backbone.blocks[0].mlp.fc2.weight *= 10  # type: ignore[index, union-attr]
    assert vision() > 1e-6, "the copy did not move"


@pytest.mark.parametrize(("layout", "size", "windows"), [("cityscapes", (1024, 2048), 18), ("bdd100k", (720, 1280), 8)])
def test_windows_of_the_test_protocol(layout: str, size: tuple[int, int], windows: int) -> None:
    protocol = find_preset("full-res").protocol(layout)
    assert protocol.fit == size[::-1]
    assert protocol.window is not None
    assert len(window_boxes(*size, protocol.window, protocol.stride)) == windows
    recorded = Protocol(**content("gtav_eva02_l")["data"]["protocol"])
    assert recorded == Protocol(fit=(2048, 1024), window=512, stride=341)
