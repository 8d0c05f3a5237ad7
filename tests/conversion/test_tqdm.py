"""Published checkpoints of tqdm become runs that see and read what the authors' models see and read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.cli.main import main
from queryseg.conversion import Converted, PublishedCheckpoint, convert_checkpoint, tqdm
from queryseg.conversion.layout import read_layout
from queryseg.data.class_table import CITYSCAPES
from queryseg.errors import CheckpointError
from queryseg.inference.open_vocabulary import with_classes
from queryseg.inference.run_folder import load_weights, read_model
from queryseg.recipe_file import build_untrained, read_recipe, resolve
from queryseg.segmenter import Segmenter

from . import official_tqdm as official
from .test_layout import PUBLISHED, filled

open_clip = pytest.importorskip("open_clip", reason="the extra `text` is not installed")
LAYOUTS = ["tqdm_clip", "tqdm_eva02"]


def rebuilt(tensors: dict[str, Tensor], config: dict[str, Any] | None = None) -> tuple[Segmenter, Converted]:
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors, config or {}))
    model = build_untrained(converted.recipe).double()
    load_weights(model, converted.weights, "converted")
    return model.eval(), converted


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-9) -> None:
    assert float(wanted.std()) > 0.05
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance * float(wanted.std()))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_trunk_pyramid_and_joint_embeddings(layout: str) -> None:
    state = official.random_checkpoint(layout)
    model, _ = rebuilt(state)
    clip = layout == "tqdm_clip"
    side = 64 if clip else 63  # with EVA-02 7 rows and columns are cut
    images = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    tokens = (official.clip_tokens if clip else official.eva_tokens)(state, images)
    with torch.no_grad():
        features = model.backbone(images, model.backbone.dims.depth)
        assert model(images).final.mask_logits.shape == (2, 19, 16, 16)
    tolerance = 1e-9 if clip else 1e-6  # timm's table of rotations is float32
    for level, wanted in zip(features.levels, official.pyramid(state, tokens), strict=True):
        close(level, wanted, tolerance)
    embeddings = official.joint(state, tokens[-1])
    assert features.joint is not None
    close(features.joint.whole, embeddings[:, 0], tolerance)
    close(features.joint.dense.flatten(2).mT, embeddings[:, 1:], tolerance)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_texts_are_read_once_and_kept(layout: str) -> None:
    state = official.random_checkpoint(layout)
    model, converted = rebuilt(state)
    tokenizer = open_clip.SimpleTokenizer()
    rows = [[tokenizer.sot_token_id, *tokenizer.encode(n), tokenizer.eot_token_id] for n in CITYSCAPES.names]
    assert max(map(len, rows)) <= 5
    ids = torch.tensor([row + [0] * (5 - len(row)) for row in rows])
    close(model.queries.embeddings, official.texts(state, ids))  # type: ignore[arg-type]
    torch.testing.assert_close(converted.aside["queries.prompt"], state["contexts"][0])
    assert len(converted.aside["queries.tower_sha256"]) == 32


@pytest.mark.parametrize(("layout", "names"), [("tqdm_clip", 42), ("tqdm_eva02", 55)])
def test_what_is_left_over_is_the_initial_backbone_and_the_encoder(layout: str, names: int) -> None:
    state = official.random_checkpoint(layout)
    _, converted = rebuilt(state)
    assert converted.unexpected == ()
    assert converted.verified
    left = set(converted.left_over)
    copied = {name for name in state if name.startswith("reg_E0.")}
    encoder = {name for name in state if name.startswith("text_encoder.")}
    assert left == copied | encoder | {"contexts"} | {name for name in state if "rope" in name}
    assert len({name for name in copied if "rope" not in name}) >= names
    arguments = converted.recipe["model"]["queries"]["init_args"]
    assert arguments["tower"]["text_cfg"]["context_length"] == official.SIZES[layout]["N"]
    assert converted.recipe["data"]["protocol"] == {"fit": [2048, 1024], "window": 512, "stride": 341}
    assert converted.recipe["classes"] == "cityscapes"


class FullTower:
    """Stands for the text encoder at full size, whose tensors hold nothing here."""

    sha256 = "00" * 32

    def __init__(self, width: int) -> None:
        self.width = width

    def tokenize(self, names: Sequence[str], prompt_length: int) -> Sequence[str]:
        return names

    def encode(self, names: Sequence[str], prompt: Tensor) -> Tensor:
        return torch.empty(len(names), self.width, device="meta")


@pytest.mark.parametrize(("layout", "recipe"), [("tqdm_clip", "gtav_clip_b"), ("tqdm_eva02", "cityscapes_eva02_l")])
def test_the_shipped_recipe_takes_every_tensor_of_a_published_checkpoint(
    layout: str, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and shapes at full size, without content."""
    sizes, _, _ = PUBLISHED[layout]
    monkeypatch.setattr(tqdm, "_tower", lambda tensors, quick_gelu: FullTower(sizes["J"]))
    converted = tqdm.convert(filled(read_layout(layout), sizes), {})
    shipped = resolve(read_recipe(Path(__file__).parents[2] / "recipes" / "tqdm" / f"{recipe}.yaml"))
    with torch.device("meta"):
        models = [build_untrained(shipped), build_untrained(converted.recipe)]
    assert "options" not in converted.recipe["model"]["backbone"]["init_args"]
    for model in models:
        assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in converted.weights.items()}


def test_class_names_must_be_known() -> None:
    state = official.random_checkpoint("tqdm_clip", K=3)
    with pytest.raises(CheckpointError, match=r"names of 3 classes, which it does not hold; put them into a"):
        rebuilt(state)
    _, converted = rebuilt(state, {"id2label": {"0": "road", "1": "traffic light", "2": "bus"}})
    assert converted.recipe["classes"] == ["road", "traffic light", "bus"]
    assert converted.weights["queries.embeddings"].shape == (3, 24)


def test_the_command_says_what_was_left_over_and_the_run_can_be_asked_for_other_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint itself gives the encoder for other names."""
    tensors = {name: tensor.float() for name, tensor in official.random_checkpoint("tqdm_clip").items()}
    file, folder = tmp_path / "tqdm.pth", tmp_path / "run"
    torch.save({"meta": {"epoch": 1}, "state_dict": tensors}, file)
    assert main(["convert", str(file), "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "is tqdm on CLIP" in said
    assert "left over: contexts, text_encoder.* (29), reg_E0.* (55)" in said
    renamed = ",".join(f"class {index}" for index in range(19))
    assert main(["convert", str(file), "--out", str(tmp_path / "other"), "--classes", renamed]) == 2
    assert "are texts of its own class names" in capsys.readouterr().err
    other = with_classes(read_model(folder), ["boat", "Road"], text_tower=file)
    assert other.classes.names == ("boat", "Road")
    tokenizer = open_clip.SimpleTokenizer()
    ids = torch.tensor([[tokenizer.sot_token_id, *tokenizer.encode("boat"), tokenizer.eot_token_id]])
    expected = torch.cat([official.texts(tensors, ids), read_model(folder).model.queries.embeddings[:1]])
    torch.testing.assert_close(other.model.queries.embeddings, expected, rtol=0, atol=1e-5)
    with pytest.raises(CheckpointError, match="for a converted run the checkpoint that it was made from"):
        with_classes(read_model(folder), ["ferry", "Road"])
