"""Frozen text encoders by open_clip: what they say, and where their weights come from."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from queryseg.errors import CheckpointError, InputError, QuerysegError, RecipeError
from queryseg.text import TowerSettings, load_tower
from queryseg.text.tower_settings import KNOWN

open_clip = pytest.importorskip("open_clip", reason="the extra `text` is not installed")
TEXT = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
TINY: dict[str, Any] = {"embed_dim": 24, "quick_gelu": True, "text_cfg": TEXT}
VISION = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
NAMES = ["road", "traffic light", "a very long name of a class"]


@pytest.fixture
def whole() -> nn.Module:
    """A CLIP model of open_clip, with the text encoder TINY."""
    model: nn.Module = open_clip.model.CLIP(24, VISION, TEXT, quick_gelu=True).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3)
    return model


def layout(kind: str, model: nn.Module) -> dict[str, Tensor]:
    """As these files name the tensors: OpenAI's and open_clip's at the top, EVA02-CLIP's behind "text."."""
    state = {name: value.clone() for name, value in model.state_dict().items() if name != "attn_mask"}
    if kind == "eva":
        return {name if name.startswith("visual.") else f"text.{name}": value for name, value in state.items()}
    return state


@pytest.mark.parametrize("kind", ["clip", "eva", "half"])
def test_a_file_of_the_whole_model_gives_open_clips_embeddings(kind: str, whole: Any, tmp_path: Path) -> None:
    state = layout(kind, whole)
    if kind == "half":  # OpenAI's files
        state = {name: value.half() for name, value in state.items()}
        whole.load_state_dict(state, strict=False)
    file = str(tmp_path / "model.safetensors")
    save_file(state, file)
    tower = load_tower(TowerSettings(TINY, file))
    tokens = open_clip.SimpleTokenizer(context_length=20)(NAMES)
    expected = whole.encode_text(tokens).detach()
    found = tower.encode(tower.tokenize(NAMES))
    assert found.shape == (3, 24) == (3, tower.joint_width)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    again = load_tower(TowerSettings(TINY, file, tower.sha256))
    assert again.sha256 == tower.sha256 != load_tower(TowerSettings(TINY, False)).sha256
    with pytest.raises(CheckpointError, match="have the hash") as caught:
        load_tower(TowerSettings(TINY, file, "0" * 64))
    assert "\n" not in str(caught.value)


def test_what_follows_the_end_makes_no_difference(whole: Any, tmp_path: Path) -> None:
    """Names are read alike alone and beside longer ones."""
    save_file(layout("clip", whole), tmp_path / "model.safetensors")
    tower = load_tower(TowerSettings(TINY, str(tmp_path / "model.safetensors")))
    prompt = torch.randn(4, 16)
    together = tower.encode(tower.tokenize(NAMES), prompt)
    for name, embedding in zip(NAMES, together, strict=True):
        torch.testing.assert_close(tower.encode(tower.tokenize([name]), prompt)[0], embedding, rtol=0, atol=1e-4)


def test_a_prompt_stands_behind_the_start_token_and_alone_learns(whole: Any, tmp_path: Path) -> None:
    """The embeddings of words, given as a prompt, are those words."""
    save_file(layout("clip", whole), tmp_path / "model.safetensors")
    tower = load_tower(TowerSettings(TINY, str(tmp_path / "model.safetensors")))
    words = torch.tensor(tower.tokenizer.encode("a photo of a"))
    prompt = tower.transformer.token_embedding(words).detach().requires_grad_()
    prompted = tower.encode(tower.tokenize(["dog"]), prompt)
    expected = tower.encode(tower.tokenize(["a photo of a dog"]))
    torch.testing.assert_close(prompted, expected, rtol=1e-5, atol=1e-5)
    prompted.square().sum().backward()
    assert prompt.grad is not None
    assert bool(prompt.grad.any())
    assert all(parameter.grad is None for parameter in tower.transformer.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(tower.encode(tower.tokenize(["dog"]), prompt), prompted, rtol=1e-4, atol=1e-4)
    assert tower.encode(tower.tokenize(["dog"]), prompt.double()).dtype == torch.float64


def test_random_weights_are_the_same_every_time() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = load_tower(TowerSettings(TINY, False))
    assert torch.equal(torch.get_rng_state(), before), "a model's own first values must not depend on it"
    torch.manual_seed(2)
    assert load_tower(TowerSettings(TINY, False)).sha256 == one.sha256
    assert copy.deepcopy(one) is one, "copies of a model share it"


@pytest.mark.parametrize(
    ("name", "width", "heads", "activation", "millions"),
    [("ViT-B-16-quickgelu", 512, 8, "QuickGELU", 63.4), ("EVA02-L-14-336", 768, 12, "GELU", 123.7)],
)
def test_tqdms_two_encoders(name: str, width: int, heads: int, activation: str, millions: float) -> None:
    """Sizes of spec §2; no memory is spent."""
    with torch.device("meta"):
        transformer = load_tower(TowerSettings(name, False)).transformer
    assert KNOWN[name].width == transformer.text_projection.shape[1] == width == transformer.width
    assert transformer.heads == heads
    assert len(transformer.transformer.resblocks) == 12
    assert type(transformer.transformer.resblocks[0].mlp.gelu).__name__ == activation
    assert round(sum(p.numel() for p in transformer.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("architecture", "weights", "sentence"),
    [
        ("ViT-B-17", False, "open_clip has no model 'ViT-B-17'"),
        ("ViT-L-14", True, "are on the hub is not known here"),
        (TINY, True, "are on the hub is not known here"),
        ({"width": 3}, False, "needs the keys embed_dim and text_cfg"),
        ({"embed_dim": 8, "text_cfg": {"hf_model_name": "roberta-base"}}, False, "no text transformer of CLIP's kind"),
        ({"embed_dim": 8, "text_cfg": {**TEXT, "depth": 3}}, False, "has 'depth', which is not known here"),
        (TINY, "nowhere.safetensors", "There is no weight file nowhere.safetensors"),
    ],
)
def test_wrong_settings_are_one_sentence(architecture: Any, weights: Any, sentence: str) -> None:
    with pytest.raises(QuerysegError) as caught:
        load_tower(TowerSettings(architecture, weights))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_other_models_are_refused(whole: Any, tmp_path: Path) -> None:
    state = layout("clip", whole)
    file = str(tmp_path / "model.safetensors")
    save_file(state, file)
    wider = {**TINY, "text_cfg": {**TEXT, "width": 32}}
    with pytest.raises(CheckpointError, match=r"has shape \(20, 16\) in the file, and \(20, 32\) here"):
        load_tower(TowerSettings(wider, file))
    save_file({name: value for name, value in state.items() if name.startswith("visual.")}, file)
    with pytest.raises(CheckpointError, match="holds no text encoder with a tensor 'positional_embedding'"):
        load_tower(TowerSettings(TINY, file))


def test_the_hub_is_not_asked_unless_it_may_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[bool] = []

    def fetch(repository: str, file: str, local_files_only: bool) -> str:
        asked.append(local_files_only)
        raise OSError("nobody there")

    monkeypatch.setattr("queryseg.text.tower_weights.hf_hub_download", fetch)
    settings = TowerSettings(TINY, "hub:somebody/clip")
    with pytest.raises(CheckpointError, match=r"not in the hub's cache of this machine .* `hf download somebody/clip "):
        load_tower(settings, download=False)
    with pytest.raises(CheckpointError, match="could not be fetched from the hub"):
        load_tower(settings)
    assert asked == [True, False]


def test_without_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InputError, match=r"open_clip, which is not installed; run `pip install 'queryseg\[text\]'`"):
        load_tower(TowerSettings(TINY, False))


def test_names_that_cannot_be_read() -> None:
    tower = load_tower(TowerSettings(TINY, False))
    with pytest.raises(InputError, match="holds no words"):
        tower.tokenize(["road", "  "])
    with pytest.raises(InputError, match="has room for 13"):
        tower.tokenize(["car " * 14], prompt_length=5)
    assert tower.tokenize(["car " * 13], prompt_length=5).shape == (1, 15)
    with pytest.raises(RecipeError, match="How wide"):
        TowerSettings("ViT-L-14", False).joint_width(0)


def test_backbone_and_text_encoder_of_one_file_agree_with_open_clip(whole: Any, tmp_path: Path) -> None:
    """Image–text similarities of a whole CLIP model, from its file read twice: by the backbone and by the encoder."""
    from queryseg.backbones import PlainViT

    file = str(tmp_path / "model.safetensors")
    save_file(layout("clip", whole), file)
    sizes = {"embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 24}
    backbone = PlainViT(
        "vit_base_patch16_clip_quickgelu_224", pretrained=file, image_size=32, joint=True, options=sizes
    ).eval()
    tower = load_tower(TowerSettings(TINY, file))
    images = torch.randn(2, 3, 32, 32)
    joint = backbone(images, 1).joint
    assert joint is not None
    expected = whole.encode_image(images)
    torch.testing.assert_close(joint.whole, expected, rtol=1e-4, atol=1e-4)
    tokens = open_clip.SimpleTokenizer(context_length=20)(NAMES)
    similarity = torch.cosine_similarity(joint.whole[:, None], tower.encode(tower.tokenize(NAMES))[None], dim=-1)
    theirs = torch.cosine_similarity(expected[:, None], whole.encode_text(tokens)[None], dim=-1)
    torch.testing.assert_close(similarity, theirs, rtol=1e-4, atol=1e-4)
