"""FASeg as its authors save it becomes a run that answers alike; see also `tests/parity/test_faseg_fixture.py`."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.cli.main import main
from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.layout import read_layout
from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import read_model
from queryseg.recipe_file import build_untrained, read_recipe, resolve
from queryseg.segmenter import Segmenter

from .official_faseg import official
from .random_weights import randomised, rebuilt

RECIPES = Path(__file__).parents[2] / "recipes" / "faseg"
TRUNKS: dict[str, dict[str, Any]] = {
    "resnet": {"name": "resnet50", "options": {"layers": [1, 2, 1, 1]}},
    "swin": {
        "name": "swin_tiny_patch4_window7_224",
        "norms": True,
        "options": {
            "embed_dim": 8, "depths": [1, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window_size": 4,
            "always_partition": True,
        },
    },
}  # fmt: skip
HEAD: dict[str, Any] = {
    "Q": 100, "D": 256, "L": 13, "K": 150, "F": 2048, "E": 6, "G": 1024, "S": 96, "C5": 2048, "C4": 1024, "C3": 512,
    "C2": 256,
}  # fmt: skip


def random_faseg(trunk: str) -> Segmenter:
    """Float64 of float32 values, all random, batch norms with statistics of their own; 13 layers, 3 classes."""
    model: dict[str, Any] = {
        "backbone": {"class_path": "queryseg.backbones.PyramidBackbone", "init_args": TRUNKS[trunk]},
        "pixel_decoder": {
            "class_path": "queryseg.pixel_decoders.Deformable",
            "init_args": {"positions": "conditional", "num_levels": 4, "width": 32, "hidden": 24, "num_layers": 2},
        },
        "queries": {"class_path": "queryseg.queries.FocusAwareQueries", "init_args": {"num_queries": 5}},
        "decoder": {
            "class_path": "queryseg.decoders.HighResolutionCrossAttention",
            "init_args": {"hidden": 48},
        },
        "readout": "queryseg.readouts.Mixture",
    }
    built = build_untrained({"classes": ["road", "building", "sky"], "model": model}).eval()
    return randomised(built)


def readings(model: Segmenter, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    model.decoder.train()  # all readings, while batch norms stay as they are
    with torch.no_grad():
        return [(p.mask_logits, p.class_logits) for p in model(images).predictions]


@pytest.mark.parametrize("trunk", TRUNKS)
def test_a_random_checkpoint_answers_as_the_model_with_its_tensors(trunk: str, tmp_path: Path) -> None:
    """From a detectron2 file; 6×8 coarse cells, so that HRCA chooses one of 48."""
    theirs = random_faseg(trunk)
    arrays = {name: value.detach().numpy() for name, value in official(theirs, trunk).items()}
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "iteration": 159999}))
    ours, converted = rebuilt(PublishedCheckpoint.read(path))
    assert converted.layout.lower().startswith(f"faseg with {trunk},")
    assert not converted.verified
    assert converted.unexpected == ()
    assert {name.rpartition(".")[2] for name in converted.left_over} <= {"relative_position_index", "empty_weight"}
    images = torch.randn(2, 3, 192, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected, found = readings(theirs, images), readings(ours, images)
    assert len(found) == 14
    for pair, other in zip(found, expected, strict=True):
        for value, wanted in zip(pair, other, strict=True):
            assert float(wanted.std()) > 1e-3
            assert torch.equal(value, wanted)
    masks = expected[-1][0]
    assert float((masks - expected[-2][0]).abs().max()) > 1e-3 * float(masks.std())  # layers do change the answer


@pytest.mark.parametrize(
    ("layout", "recipe", "sizes", "millions"),
    [
        ("faseg_resnet", "ade20k_r50", {"B2": 3, "B3": 4, "B4": 6, "B5": 3}, 50.56),
        ("faseg_resnet", "cityscapes_r50", {"K": 19, "B2": 3, "B3": 4, "B4": 6, "B5": 3}, 50.53),
        ("faseg_swin", "ade20k_swin_t", {"C": 96, "H": 3, "T": 169, "B": {0: 2, 1: 2, 2: 6, 3: 2}}, 53.92),
        ("faseg_swin", "ade20k_swin_b", {"C": 128, "H": 4, "T": 529, "B": {0: 2, 1: 2, 2: 18, 3: 2}}, 113.41),
        ("faseg_swin", "ade20k_swin_l", {"C": 192, "H": 6, "T": 529, "B": {0: 2, 1: 2, 2: 18, 3: 2}}, 222.00),
    ],
)
def test_published_sizes_become_the_recipes_model(
    layout: str, recipe: str, sizes: dict[str, Any], millions: float
) -> None:
    """A file of the published sizes takes the place of what the recipe trains: the same tensors, the same options."""
    width = sizes.get("C")
    widths = {} if width is None else {f"C{i + 2}": width * 2**i for i in range(4)}
    known = read_layout(layout)
    filled = {**HEAD, **widths, **sizes}
    tensors = {name: torch.empty(shape, device="meta") for name, shape in known.expected(filled).items()}
    counted = sum(t.numel() for name, t in tensors.items() if "running" not in name)
    assert counted / 1e6 == pytest.approx(millions, abs=0.01)
    assert known.sizes_of(tensors) == filled
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors, {}))
    with torch.device("meta"):
        ours = build_untrained(converted.recipe)
        trained = build_untrained(resolve(read_recipe(RECIPES / f"{recipe}.yaml")))
    assert {name: t.shape for name, t in ours.state_dict().items()} == {
        name: t.shape for name, t in trained.state_dict().items()
    }
    assert converted.recipe["classes"] == recipe.partition("_")[0]
    for part in ("queries", "decoder"):
        assert options_of(getattr(ours, part)) == options_of(getattr(trained, part))
    assert [type(e) for e in ours.pixel_decoder.encodings] == [type(e) for e in trained.pixel_decoder.encodings]  # type: ignore[union-attr]


def options_of(part: torch.nn.Module) -> dict[str, Any]:
    """Plain values that a part keeps."""
    plain = (int, float, str, frozenset, type(None))
    return {name: value for name, value in vars(part).items() if isinstance(value, plain)}


def test_a_run_with_named_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three classes that nothing names are asked for; with names the file becomes a run, and all that is left over is
    told."""
    state = {
        name.replace("query_feat", "static_query"): t for name, t in official(random_faseg("swin"), "swin").items()
    }
    torch.save({"model": {**state, "aux.weight": torch.ones(2)}, "iteration": 3}, tmp_path / "model_final.pth")
    arguments = ["convert", str(tmp_path / "model_final.pth"), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "has 3 classes and does not say what they are; name them with --classes" in capsys.readouterr().err
    assert main([*arguments, "--classes", "road,building,sky", "--json", str(tmp_path / "told.json")]) == 0
    told = capsys.readouterr().out
    assert "is FASeg with Swin, as its authors train it (detectron2), unverified" in told
    assert "HighResolutionCrossAttention on queryseg.backbones.PyramidBackbone" in told
    assert "unexpected: aux.weight" in told
    assert "criterion.empty_weight" in told
    account = json.loads((tmp_path / "told.json").read_text())
    assert "queries.adapt.layers.1.bias" in account["matched"]
    assert read_model(tmp_path / "run").classes.names == ("road", "building", "sky")


@pytest.mark.parametrize(
    "name",
    [
        "sem_seg_head.predictor.adapt_pos2d.2.bias",
        "sem_seg_head.pixel_decoder.pos_linear.3.weight",
        "sem_seg_head.pixel_decoder.input_proj.3.0.weight",
        "sem_seg_head.predictor.transformer_cross_attention_layers.3.multihead_attn.in_proj_weight",
        "backbone.norm0.weight",
    ],
)
def test_what_is_missing_or_misshapen_is_told(name: str) -> None:
    state = official(random_faseg("swin"), "swin")
    with pytest.raises(CheckpointError, match=rf"^x is FASeg with Swin.* not whole \(1 missing: {name}\)"):
        convert_checkpoint(PublishedCheckpoint("x", {k: v for k, v in state.items() if k != name}, {}))
    with pytest.raises(CheckpointError, match=rf"of another shape: {name} \(7, 7\) instead of"):
        convert_checkpoint(PublishedCheckpoint("x", {**state, name: torch.ones(7, 7)}, {}))
