"""Files in the layouts of their authors: written here from random weights, by the inverse of what the loader does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from timm.models import eva, vision_transformer, vision_transformer_sam
from torch import Tensor

from queryseg.backbones import PlainViT
from queryseg.errors import CheckpointError, RecipeError
from queryseg.weight_file import read_tensors

from .conftest import FAMILIES, shake

State = dict[str, Tensor]


def renamed(state: State, *pairs: tuple[str, str], prefix: str = "") -> State:
    result = {}
    for key, value in state.items():
        for old, new in pairs:
            key = key.replace(old, new)
        result[prefix + key] = value
    return result


def dinov2(state: State) -> State:
    return {**state, "mask_token": torch.randn(1, 32)}


def dinov2_registers(state: State) -> State:
    state = dict(state)
    of_class = torch.randn(1, 1, 32)
    state["register_tokens"] = state.pop("reg_token")
    state["cls_token"] = state["cls_token"] - of_class
    state["pos_embed"] = torch.cat([of_class, state["pos_embed"]], 1)
    return dinov2(state)


def clip(state: State) -> State:
    state = renamed(
        state,
        ("patch_embed.proj", "conv1"),
        ("pos_embed", "positional_embedding"),
        ("cls_token", "class_embedding"),
        ("norm_pre", "ln_pre"),
        ("blocks.", "transformer.resblocks."),
        (".norm", ".ln_"),
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        prefix="visual.",
    )
    state["visual.ln_post.weight"], state["visual.ln_post.bias"] = (
        state.pop("visual.norm.weight"),
        state.pop("visual.norm.bias"),
    )
    state["visual.positional_embedding"] = state["visual.positional_embedding"][0]
    state["visual.class_embedding"] = state["visual.class_embedding"][0, 0]
    state["visual.proj"] = state.pop("visual.head.weight").T.contiguous()
    del state["visual.head.bias"]
    text = {"transformer.resblocks.0.ln_1.weight": torch.ones(4), "positional_embedding": torch.ones(7, 4)}
    return {**state, **text, "logit_scale": torch.ones(())}


def sam(state: State) -> State:
    state = renamed(state, ("mlp.fc", "mlp.lin"), prefix="image_encoder.")
    neck = {
        "image_encoder.neck.0.weight": torch.ones(4, 32, 1, 1),
        "prompt_encoder.no_mask_embed.weight": torch.ones(1, 4),
    }
    return {**state, **neck}


def eva02_clip(state: State) -> State:
    state = renamed(
        state,
        ("attn.norm", "attn.inner_attn_ln"),
        ("mlp.norm", "mlp.ffn_ln"),
        ("mlp.fc1_g", "mlp.w1"),
        ("mlp.fc1_x", "mlp.w2"),
        ("mlp.fc2", "mlp.w3"),
        ("q_proj.bias", "q_bias"),
        ("v_proj.bias", "v_bias"),
        prefix="visual.",
    )
    return {**state, "visual.rope.freqs_cos": torch.ones(4, 16), "text.ln_final.weight": torch.ones(4)}


def eva02(state: State) -> State:
    mim = {"mask_token": torch.ones(1, 1, 32), "norm.weight": torch.ones(32), "lm_head.weight": torch.ones(9, 32)}
    return {**renamed(state, ("mlp.fc1", "mlp.w12"), ("mlp.fc2", "mlp.w3")), **mim}


def dinov3(state: State) -> State:
    state = renamed(state, ("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma"), ("reg_token", "storage_tokens"))
    for key in [key for key in state if key.endswith("q_bias")]:
        q, v = state.pop(key), state.pop(key.replace("q_bias", "v_bias"))
        state[key.replace("q_bias", "qkv.bias")] = torch.cat([q, torch.randn(32), v])
        state[key.replace("q_bias", "qkv.bias_mask")] = torch.ones(96)
    return {**state, "mask_token": torch.ones(1, 32), "rope_embed.periods": torch.ones(4)}


def plain(state: State) -> State:
    return dict(state)


LAYOUTS: dict[str, tuple[str, Callable[[State], State], Any, set[str]]] = {
    "dinov2": ("dinov2", dinov2, vision_transformer, {"mask_token"}),
    "dinov2-registers": ("dinov2-registers", dinov2_registers, vision_transformer, {"mask_token"}),
    "clip": (
        "clip",
        clip,
        vision_transformer,
        {"logit_scale", "positional_embedding", "transformer.resblocks.0.ln_1.weight"},
    ),
    "sam": ("sam", sam, None, {"image_encoder.neck.0.weight", "prompt_encoder.no_mask_embed.weight"}),
    "eva02-clip": ("eva02-clip", eva02_clip, eva, {"visual.rope.freqs_cos", "text.ln_final.weight"}),
    "eva02": ("eva02", eva02, None, {"mask_token", "norm.weight", "lm_head.weight"}),
    "dinov3": ("dinov3-biased", dinov3, eva, {"mask_token", "rope_embed.periods"}),
    "timm": ("vit", plain, vision_transformer, {"head.weight", "head.bias"}),
}
SOURCES = {**FAMILIES, "dinov3-biased": (FAMILIES["dinov3"][0], "vit_small_patch16_dinov3_qkvb", FAMILIES["dinov3"][2])}


def original(layout: str) -> tuple[Any, State]:
    """A timm model with random weights, and the same weights as the authors of the layout would have saved them."""
    family, write, _, _ = LAYOUTS[layout]
    _, name, options = SOURCES[family]
    classes = {} if layout in ("clip", "eva02-clip", "timm") else {"num_classes": 0}
    model: Any = timm.create_model(name, **{**options, **classes})
    model.neck = model.fc_norm = torch.nn.Identity()
    shake(model)
    if layout == "clip":
        torch.nn.init.zeros_(model.head.bias)
    return model, write(model.state_dict())


def load(layout: str, file: str, **arguments: Any) -> Any:
    kind, name, options = SOURCES[LAYOUTS[layout][0]]
    return kind(name, pretrained=file, options=options, joint=layout in ("clip", "eva02-clip"), **arguments)


def as_timm(backbone: Any) -> State:
    return {k.removeprefix("stem.").replace("project.", "head."): v for k, v in backbone.state_dict().items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_fills_every_weight(layout: str, tmp_path: Path) -> None:
    model, state = original(layout)
    container = {"dinov2": None, "eva02": "module", "timm": "model"}.get(layout)
    file = str(tmp_path / "weights.pth")
    torch.save({container: state, "args": argparse.Namespace(epochs=3)} if container else state, file)
    backbone = load(layout, file)
    wanted = model.state_dict()
    loaded = as_timm(backbone)
    ours_alone = {"norm.weight", "norm.bias"} - wanted.keys()
    assert loaded.keys() - ours_alone <= wanted.keys()
    for key in loaded.keys() - ours_alone:
        torch.testing.assert_close(loaded[key], wanted[key], rtol=0, atol=1e-6, msg=key)

    report = backbone.weight_report
    masks = {key for key in state if key.endswith("bias_mask")}
    assert set(report.left_over) == LAYOUTS[layout][3] | masks
    assert set(report.matched) == loaded.keys() - ours_alone
    assert (report.resampled, report.missing) == ((), ())
    assert len(report.sha256) == 64
    assert f"{len(report.matched)} tensors matched" in report.summary()
    assert len(report.lines()) == 1 + len(report.left_over)

    converter = LAYOUTS[layout][2]
    if converter is not None:  # timm's own converter is the judge of names
        theirs = converter.checkpoint_filter_fn(dict(state), model)
        for key in loaded.keys() - ours_alone:
            torch.testing.assert_close(loaded[key], theirs[key], rtol=0, atol=1e-6, msg=key)


def test_safetensors_and_timms_sam_converter(tmp_path: Path) -> None:
    model, state = original("sam")
    save_file(state, tmp_path / "sam.safetensors")
    backbone = load("sam", str(tmp_path / "sam.safetensors"))
    theirs = vision_transformer_sam.checkpoint_filter_fn(state, model)
    assert all(torch.equal(value, theirs[key]) for key, value in as_timm(backbone).items() if key in theirs)


@pytest.mark.parametrize("layout", ["dinov2", "dinov2-registers"])
def test_dinov2_becomes_patch_16_by_plain_bicubic_resizing(layout: str, tmp_path: Path) -> None:
    model, state = original(layout)
    torch.save(state, tmp_path / "weights.pth")
    backbone = load(layout, str(tmp_path / "weights.pth"), patch_size=16, image_size=(64, 96))
    kernel = F.interpolate(state["patch_embed.proj.weight"], (16, 16), mode="bicubic", align_corners=False)
    grid = state["pos_embed"][:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    table = F.interpolate(grid, (4, 6), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(1, 2)
    prefix = 0 if layout == "dinov2-registers" else 1
    torch.testing.assert_close(backbone.stem.patch_embed.proj.weight, kernel, rtol=0, atol=1e-6)
    torch.testing.assert_close(backbone.stem.pos_embed[:, prefix:], table, rtol=0, atol=1e-6)
    torch.testing.assert_close(backbone.stem.pos_embed[:, :prefix], model.pos_embed[:, :prefix], rtol=0, atol=1e-6)
    assert set(backbone.weight_report.resampled) == {"patch_embed.proj.weight", "pos_embed"}


def test_others_are_resized_as_timm_does(tmp_path: Path) -> None:
    _, state = original("clip")
    torch.save(state, tmp_path / "weights.pth")
    backbone = load("clip", str(tmp_path / "weights.pth"), patch_size=8, image_size=64)
    name, options = FAMILIES["clip"][1:]
    model = timm.create_model(name, **{**options, "patch_size": 8, "img_size": 64})
    theirs = vision_transformer.checkpoint_filter_fn(state, model)
    for key in ("patch_embed.proj.weight", "pos_embed"):
        torch.testing.assert_close(as_timm(backbone)[key], theirs[key], rtol=0, atol=1e-6)


def test_equal_number_of_positions_on_another_grid_is_resampled(tmp_path: Path) -> None:
    model = timm.create_model("vit_small_patch16_224", img_size=64, embed_dim=32, depth=3, num_heads=2)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    backbone = load("timm", str(tmp_path / "weights.pth"), image_size=(32, 128))
    assert backbone.weight_report.resampled == ("pos_embed",)
    assert not torch.equal(backbone.stem.pos_embed, model.pos_embed)


def test_sams_tables_follow_the_image_size(tmp_path: Path) -> None:
    _, state = original("sam")
    torch.save(state, tmp_path / "weights.pth")
    kind, name, options = FAMILIES["sam"]
    native = load("sam", str(tmp_path / "weights.pth")).eval()
    other = {key: value for key, value in options.items() if key != "img_size"}
    resized = kind(name, pretrained=str(tmp_path / "weights.pth"), image_size=(96, 32), options=other).eval()
    images = torch.randn(1, 3, 96, 32)
    with torch.no_grad():
        expected, tokens = (b.advance(b.begin(images), 3).tokens for b in (native, resized))
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    changed = {"pos_embed"} | {f"blocks.{block}.attn.rel_pos_{axis}" for block in (0, 2) for axis in "hw"}
    assert set(resized.weight_report.resampled) == changed


def test_weights_of_another_model_are_an_error(tmp_path: Path) -> None:
    _, state = original("dinov2")
    file = str(tmp_path / "weights.pth")
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="does not fit vit_small_patch14_reg4_dinov2: 'pos_embed' has shape"):
        load("dinov2-registers", file)
    with pytest.raises(CheckpointError, match=r"'cls_token' has shape \(1, 1, 32\) in the file.*\(1, 1, 48\)"):
        PlainViT("vit_small_patch14_dinov2", pretrained=file, options={"embed_dim": 48, "depth": 3, "num_heads": 2})
    torch.save({key: value for key, value in state.items() if "blocks.1." not in key}, file)
    with pytest.raises(CheckpointError, match=r"'blocks\.1\.norm1\.weight' is not among them"):
        load("dinov2", file)
    torch.save({"fc.weight": torch.ones(2, 2)}, file)
    with pytest.raises(CheckpointError, match="none of its 1 tensors"):
        load("dinov2", file)


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code ran",)


def test_unreadable_files_are_one_sentence_and_run_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "weights.pth"
    with pytest.raises(CheckpointError, match="There is no weight file"):
        read_tensors(str(file))
    torch.save({"model": Payload()}, file)
    with pytest.raises(CheckpointError, match="objects other than tensors"):
        read_tensors(str(file))
    assert "code ran" not in capsys.readouterr().out
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(file))
    with pytest.raises(CheckpointError, match=r"TorchScript archive, which contains code.*queryseg convert"):
        read_tensors(str(file))
    torch.save({"weight": torch.ones(100, 100)}, file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(str(file))
    (tmp_path / "weights.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match="damaged"):
        read_tensors(str(tmp_path / "weights.safetensors"))
    torch.save([1, 2], file)
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_tensors(str(file))


def test_unreachable_hub_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"weights of test_vit could not be fetched from the hub.*give a local file"
    ):
        PlainViT("test_vit", pretrained=True)
    with pytest.raises(RecipeError, match="stem: convolution has no pretrained weights"):
        PlainViT("vit_small_patch16_224", stem="convolution", pretrained=True)


def test_hub_weights_take_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    name, options = FAMILIES["dinov2"][1:]
    hub = timm.create_model(name, **options)
    shake(hub)
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda n, pretrained=False, **kw: hub if pretrained else create(n, **kw))
    backbone = PlainViT(name, pretrained=True, patch_size=16, image_size=64, options=options)
    assert backbone.weight_report.file == f"hub:{name}"
    assert set(backbone.weight_report.resampled) == {"patch_embed.proj.weight", "pos_embed"}
    assert torch.equal(backbone.blocks[1].attn.qkv.weight, hub.blocks[1].attn.qkv.weight)


@pytest.mark.parametrize(("layout", "mode"), [("clip", "bilinear"), ("eva02-clip", "bicubic")])
def test_tqdms_position_tables_are_resized_plainly(layout: str, mode: str, tmp_path: Path) -> None:
    """Without antialiasing, as the authors' code does when it loads; the class token's position stays."""
    model, state = original(layout)
    torch.save(state, tmp_path / "weights.pth")
    side = model.patch_embed.grid_size[0]
    patch = model.patch_embed.patch_size[0]
    backbone = load(
        layout, str(tmp_path / "weights.pth"), image_size=(patch * (side + 3), patch * (side + 1)), resize=mode
    )
    grid = model.pos_embed[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    table = F.interpolate(grid, (side + 3, side + 1), mode=mode, align_corners=False).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(backbone.stem.pos_embed[:, 1:], table, rtol=0, atol=1e-6)
    torch.testing.assert_close(backbone.stem.pos_embed[:, :1], model.pos_embed[:, :1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_sams_position_table_is_resized_as_asked(mode: str, tmp_path: Path) -> None:
    model, state = original("sam")
    torch.save(state, tmp_path / "sam.pth")
    patch, side = model.patch_embed.patch_size[0], model.patch_embed.grid_size[0]
    backbone = load("sam", str(tmp_path / "sam.pth"), image_size=patch * (side + 2), resize=mode)
    table = F.interpolate(model.pos_embed.permute(0, 3, 1, 2), (side + 2, side + 2), mode=mode).permute(0, 2, 3, 1)
    torch.testing.assert_close(backbone.stem.pos_embed, table, rtol=0, atol=1e-6)


def test_tqdms_class_token_counts_twice(tmp_path: Path) -> None:
    """The first token is 2 · class embedding + its position."""
    model, state = original("clip")
    torch.save(state, tmp_path / "weights.pth")
    once = load("clip", str(tmp_path / "weights.pth"))
    twice = load("clip", str(tmp_path / "weights.pth"), class_token_scale=2.0)
    torch.testing.assert_close(twice.stem.cls_token, 2 * model.cls_token, rtol=0, atol=0)
    assert torch.equal(twice.stem.pos_embed, once.stem.pos_embed)
    _, state = original("sam")
    torch.save(state, tmp_path / "sam.pth")
    with pytest.raises(RecipeError, match="no class token to scale by 2"):
        load("sam", str(tmp_path / "sam.pth"), class_token_scale=2.0)
