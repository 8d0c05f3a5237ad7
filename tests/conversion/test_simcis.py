"""SimCIS as its authors save it becomes a run that answers alike; see also `tests/parity/test_simcis_fixture.py`."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from queryseg.cli.main import main
from queryseg.continual.continual_run import train_continually
from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.layout import read_layout
from queryseg.data.class_table import CITYSCAPES
from queryseg.errors import CheckpointError
from queryseg.inference.predictor import recorded_task
from queryseg.inference.run_folder import MODEL, read_model, read_run_recipe
from queryseg.objectives.query_bank import BANK_FILE, QueryBank
from queryseg.queries import PixelSelectedQueries
from queryseg.readouts import RegionAssembly
from queryseg.recipe_file import build_untrained, read_recipe, resolve
from queryseg.segmenter import Segmenter
from queryseg.types import Output

from . import official_mask2former, official_simcis
from .official_simcis import official
from .random_weights import randomised, rebuilt
from .test_layout import HEAD, filled

RECIPES = Path(__file__).parents[2] / "recipes" / "simcis"
NAMES = ["road", "building", "sky"]
BOX = "sem_seg_head.predictor.{}bbox_embed.{}layers.2.weight"


def random_simcis(layers: int = 4, classes: Any = NAMES) -> Segmenter:
    """Float64, all random, batch norms with statistics of their own; a box MLP that moves boxes."""
    model: dict[str, Any] = {
        "backbone": {
            "class_path": "queryseg.backbones.PyramidBackbone",
            "init_args": {"name": "resnet50", "options": {"layers": [1, 2, 1, 1]}},
        },
        "pixel_decoder": {
            "class_path": "queryseg.pixel_decoders.Deformable",
            "init_args": {"width": 32, "hidden": 24, "num_layers": 2},
        },
        "queries": "queryseg.queries.PixelSelectedQueries",
        "decoder": {
            "class_path": "queryseg.decoders.CrossAttention",
            "init_args": {
                "num_layers": layers, "hidden": 48, "order": "self_first", "heads": "queryseg.decoders.BoxHeads",
            },
        },
        "readout": "queryseg.readouts.RegionAssembly",
    }  # fmt: skip
    built = build_untrained({"classes": classes, "model": model}).eval()
    return randomised(built)


def all_readings(model: Segmenter, images: Tensor) -> Output:
    model.decoder.train()  # while batch norms stay as they are
    with torch.no_grad():
        return model(images)


def test_a_random_checkpoint_answers_as_the_model_with_its_tensors(tmp_path: Path) -> None:
    """From a file of detectron2's checkpointer; 252 pixels of which 100 are chosen."""
    theirs = random_simcis()
    state = {name: tensor.detach() for name, tensor in official(theirs).items()}
    torch.save({"model": state, "iteration": 159999}, tmp_path / "model_final.pth")
    ours, converted = rebuilt(PublishedCheckpoint.read(tmp_path / "model_final.pth"))
    assert converted.layout.startswith("SimCIS with ResNet")
    assert not converted.verified
    assert converted.unexpected == ()
    aliases = {name for name in state if ".bbox_embed." in name}
    assert len(aliases) == 4 * 6
    assert set(converted.left_over) == aliases | {"criterion.empty_weight"}
    images = torch.randn(2, 3, 64, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, found = all_readings(theirs, images), all_readings(ours, images)
    assert torch.equal(found.queries.extras["selected_indices"], expected.queries.extras["selected_indices"])
    assert len(found.predictions) == 5
    for reading, wanted in zip(found.predictions, expected.predictions, strict=True):
        assert reading.boxes is not None
        assert wanted.boxes is not None
        pairs = [(reading.class_logits, wanted.class_logits), (reading.mask_logits, wanted.mask_logits)]
        for value, gold in [*pairs, (reading.boxes, wanted.boxes)]:
            assert float(gold.std()) > 1e-3
            assert torch.equal(value, gold)
    last, before = expected.predictions[-1], expected.predictions[-2]
    assert last.boxes is not None
    assert before.boxes is not None
    assert float((last.boxes - before.boxes).abs().max()) > 1e-3  # layers do move boxes


def test_trunk_and_pixel_decoder_equal_hugging_faces() -> None:
    """Their names are Mask2Former's: those tensors of a file come from another implementation."""
    pytest.importorskip("transformers")
    from .test_official_mask2former import hugging_face

    other = hugging_face("resnet")
    state = official_mask2former.detectron2_head(other)
    state = {name: t for name, t in state.items() if ".pixel_decoder." in name}
    state |= official_mask2former.detectron2_resnet(other) | official_simcis.predictor(random_simcis())
    ours, _ = rebuilt(PublishedCheckpoint("x", state, {}))
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = ours.pixel_decoder(ours.backbone(images, 1))
        pixels = other.model.pixel_level_module(images)
    embedding = state["sem_seg_head.predictor.level_embed.weight"].detach()
    wanted = [m + e[:, None, None] for m, e in zip(pixels.decoder_hidden_states, embedding, strict=True)]
    wanted.append(pixels.decoder_last_hidden_state)
    for value, gold in zip([*features.levels, features.mask_features], wanted, strict=True):
        assert float(gold.std()) > 1e-3
        torch.testing.assert_close(value, gold, rtol=0, atol=1e-9 * float(gold.std()))


@pytest.mark.parametrize(
    ("recipe", "blocks", "millions"), [("ade20k_100-5_panoptic", 6, 44.52), ("ade20k_100-5_semantic", 23, 63.51)]
)
def test_published_sizes_become_the_recipes_model(recipe: str, blocks: int, millions: float) -> None:
    """A file of the published sizes takes the place of what the recipe trains: the same tensors, the same options."""
    layout = read_layout("simcis")
    sizes = {name: size for name, size in HEAD.items() if name != "Q"}
    sizes |= {"K": 150, "B2": 3, "B3": 4, "B4": blocks, "B5": 3}
    tensors = filled(layout, sizes)
    assert layout.sizes_of(tensors) == sizes
    counted = sum(t.numel() for name, t in tensors.items() if "running" not in name)
    assert counted / 1e6 == pytest.approx(millions, abs=0.01)
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors, {}))
    shipped = resolve(read_recipe(RECIPES / f"{recipe}.yaml"))
    with torch.device("meta"):
        ours, trained = build_untrained(converted.recipe), build_untrained(shipped)
    for model in (ours, trained):
        assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in converted.weights.items()}
    assert "options" not in converted.recipe["model"]["backbone"]["init_args"]
    for part in ("queries", "decoder"):
        assert options_of(getattr(ours, part)) == options_of(getattr(trained, part))
    assert [layer.cross_first for layer in ours.decoder.layers] == [False] * 9  # type: ignore[union-attr]
    assert len(ours.backbone._kept) == len(trained.backbone._kept) > 50  # type: ignore[arg-type]
    assert isinstance(ours.readout, RegionAssembly)
    assert isinstance(trained.readout, RegionAssembly)
    task = recorded_task(shipped)
    threshold = "object_threshold" if task == "panoptic" else "semantic_threshold"
    for name in (threshold, "overlap_threshold", "temperature"):
        assert ours.readout.options[name] == trained.readout.options[name]
    assert (converted.recipe["classes"], recorded_task(converted.recipe)) == ("ade20k", task)
    assert converted.recipe["data"]["protocol"]["short_side"] == shipped["data"]["protocol"]["short_side"]


def options_of(part: torch.nn.Module) -> dict[str, Any]:
    """Plain values that a part keeps."""
    return {name: v for name, v in vars(part).items() if isinstance(v, int | float | str | frozenset | type(None))}


def saved(tmp_path: Path, **more: Tensor) -> str:
    state = {name: tensor.detach().float() for name, tensor in official(random_simcis(1)).items()}
    torch.save({"model": {**state, **more}}, tmp_path / "model_final.pth")
    return str(tmp_path / "model_final.pth")


def test_a_run_with_named_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three classes that nothing names are asked for. With things they are a panoptic model's, as every ResNet-50's."""
    arguments = ["convert", saved(tmp_path, **{"aux.weight": torch.ones(2)}), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "has 3 classes and does not say what they are; name them with --classes" in capsys.readouterr().err
    told = tmp_path / "told.json"
    assert main([*arguments, "--classes", ",".join(NAMES), "--things", "building", "--json", str(told)]) == 0
    said = capsys.readouterr().out
    assert "is SimCIS with ResNet, as its authors train it (detectron2), unverified" in said
    assert (
        "not in the weights, taken as published: 100 queries, panoptic, as its authors train resnet50, object_t" in said
    )
    assert "unexpected: aux.weight" in said
    assert "predicts panoptic" in said
    account = json.loads(told.read_text())
    assert "queries.position_scale.layers.1.bias" in account["matched"]
    assert BOX.format("", "0.") in account["left_over"]
    assert account["virtual_queries"] is None
    loaded = read_model(tmp_path / "run")
    assert loaded.classes.names == tuple(NAMES)
    assert loaded.classes.things == {1}
    assert isinstance(loaded.model.queries, PixelSelectedQueries)

    arguments[-1] = str(tmp_path / "stuff")
    assert main([*arguments, "--classes", ",".join(NAMES)]) == 0
    assert "predicts semantic" in capsys.readouterr().out
    recipe = read_run_recipe(tmp_path / "stuff")
    assert recorded_task(recipe) == "semantic"
    assert recipe["data"]["protocol"]["short_side"] == 640


def test_the_next_step_goes_on_from_a_converted_run(tmp_path: Path) -> None:
    """With its bank: the shipped recipe's second task on generated streets, its model that of the checkpoint."""
    state = {name: tensor.detach().float() for name, tensor in official(random_simcis(3, "cityscapes")).items()}
    torch.save({"model": state}, tmp_path / "model_final.pth")
    rows = torch.randn(19, 5, 32, generator=torch.Generator().manual_seed(2))
    torch.save({label: deque(row.tolist(), maxlen=80) for label, row in enumerate(rows[:15])}, tmp_path / "bank.pkl")
    first = tmp_path / "first"
    files = [str(tmp_path / "model_final.pth"), "--bank", str(tmp_path / "bank.pkl")]
    assert main(["convert", *files, "--out", str(first)]) == 0

    content = read_recipe(RECIPES / "streets_15-4_panoptic.yaml")
    content["model"] = read_run_recipe(first)["model"]
    shown = {"layout": "streets", "domain": "clear", "num_images": 8, "seed": 0, "size": [64, 128]}
    content["data"] |= {"train": shown, "validate": {"streets": shown}, "crop": [64, 128], "short_sides": [64]}
    content["data"] |= {"num_workers": 0}
    content["training"] |= {"batch_size": 2, "save_every": 1}
    content["continual"] |= {"steps_per_class": 1}
    quiet = Console(quiet=True)
    train_continually(
        resolve(content), tmp_path / "out", steps=(2, 2), first_step=first, accelerator="cpu", console=quiet
    )
    before, after = (load_file(folder / MODEL) for folder in (first, tmp_path / "out" / "step_2"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "queries.project.weight" in changed
    assert not any(".bn" in name for name in changed)  # frozen, as in detectron2
    bank = QueryBank(19, 80, 32)
    bank.read(tmp_path / "out" / "step_2" / BANK_FILE, CITYSCAPES.names)
    assert int(bank.counts.sum()) > 15 * 5  # what was converted, and what step 2 added
    for label in range(15):
        assert torch.equal(bank.entries(label)[:5], rows[label].half())


def test_class_tables_keep_the_task_of_the_trunk() -> None:
    state = official(random_simcis(1))
    for name in ("weight", "bias"):
        key = f"sem_seg_head.predictor.class_embed.{name}"
        state[key] = state[key][:1].expand(150, *state[key].shape[1:])
    converted = convert_checkpoint(PublishedCheckpoint("x", state, {}))
    assert converted.recipe["classes"] == "ade20k"
    assert recorded_task(converted.recipe) == "panoptic"
    names = {"id2label": {"0": "a", "1": "b", "2": "c"}}
    named = convert_checkpoint(PublishedCheckpoint("x", official(random_simcis(1)), names))
    assert named.recipe["classes"] == ["a", "b", "c"]
    assert recorded_task(named.recipe) == "semantic"  # nothing tells things


def test_boxes_of_every_layer_must_be_one_mlp() -> None:
    state = official(random_simcis(1))
    other = {**state, BOX.format("", "0."): torch.zeros(4, 32, dtype=torch.float64)}
    with pytest.raises(
        CheckpointError, match=r"In this SimCIS .*\.bbox_embed\.0\.layers\.2\.weight is not .*\._bbox_e"
    ):
        convert_checkpoint(PublishedCheckpoint("x", other, {}))
    without = {name: tensor for name, tensor in state.items() if ".bbox_embed." not in name}
    assert convert_checkpoint(PublishedCheckpoint("x", without, {})).left_over == ("criterion.empty_weight",)


@pytest.mark.parametrize(
    "name",
    [
        "sem_seg_head.predictor.encoder_norm.bias",
        "sem_seg_head.predictor.ref_point_head.layers.1.weight",
        BOX.format("_", ""),
        "sem_seg_head.pixel_decoder.input_proj.2.0.weight",
        "backbone.res3.1.conv1.norm.running_var",
    ],
)
def test_what_is_missing_or_misshapen_is_told(name: str) -> None:
    state = official(random_simcis(1))
    with pytest.raises(CheckpointError, match=rf"^x is SimCIS with ResNet.* not whole \(1 missing: {name}\)"):
        convert_checkpoint(PublishedCheckpoint("x", {k: v for k, v in state.items() if k != name}, {}))
    with pytest.raises(CheckpointError, match=rf"of another shape: {name} \(7, 7\) instead of"):
        convert_checkpoint(PublishedCheckpoint("x", {**state, name: torch.ones(7, 7)}, {}))
