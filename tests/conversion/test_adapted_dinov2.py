"""Published checkpoints of Rein and SoMA become runs that see what the authors' models see."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.cli.main import main
from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.layout import read_layout
from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import load_weights, read_model
from queryseg.recipe_file import build_untrained

HEAD: dict[str, Any] = {"Q": 6, "D": 32, "L": 3, "K": 19, "F": 24, "E": 1, "G": 16, "S": 96}
TRUNK: dict[str, Any] = {"W": 64, "k": 16, "N": 17, "C2": 64, "C3": 64, "C4": 64, "C5": 64, "R": 3}
SIZES: dict[str, dict[str, Any]] = {
    "rein": {**HEAD, **TRUNK, "A": 3, "M": 6},
    "soma": {**HEAD, **TRUNK, "A": 24},
}
IMAGES = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def random_checkpoint(layout: str) -> dict[str, Tensor]:
    """In the official layout, float64; scales that keep features of one size."""
    tensors = {}
    for name, shape in read_layout(layout).expected(SIZES[layout]).items():
        scale = min(0.3, 0.7 * shape[-1] ** -0.5) if shape else 0.3
        offset = float(name.endswith(("norm1.weight", "norm2.weight", "gamma", "norm.weight", "scale")))
        tensors[name] = torch.randn(shape, dtype=torch.float64) * scale + offset
    return tensors


def rebuilt(tensors: dict[str, Tensor], **options: Any) -> Any:
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors, {}), **options)
    model = build_untrained(converted.recipe).double()
    load_weights(model, converted.weights, "converted")
    return model.eval(), converted


def linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """A linear layer of the authors, with SoMA's low-rank branch if there is one."""
    y = F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])
    if f"{name}.lora_A.weight" in state:
        y = y + (x @ state[f"{name}.lora_A.weight"].T) @ state[f"{name}.lora_B.weight"].T
    return y


def taps(state: dict[str, Tensor], prefix: str, after_block: Any = None) -> list[Tensor]:
    """DINOv2's patches behind every block, written out: 64 channels, one head."""

    def own(name: str) -> Tensor:
        return state[prefix + name]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (64,), own(f"{name}.weight"), own(f"{name}.bias"), 1e-6)

    patches = F.conv2d(IMAGES, own("patch_embed.proj.weight"), own("patch_embed.proj.bias"), 16)
    x = torch.cat([own("cls_token").expand(2, -1, -1), patches.flatten(2).transpose(1, 2)], 1) + own("pos_embed")
    found = []
    for index in range(1 + max(int(n.split("blocks.")[1].split(".")[0]) for n in state if ".blocks." in n)):
        block = f"blocks.{index}."
        y, name = norm(x, block + "norm1"), f"{prefix}{block}attn"
        if f"{name}.qkv.weight" in state:
            q, k, v = linear(y, state, f"{name}.qkv").chunk(3, -1)
        else:
            q, k, v = (linear(y, state, f"{name}.{part}") for part in "qkv")
        y = (q @ k.transpose(1, 2) / 8).softmax(-1) @ v
        x = x + own(f"{block}ls1.gamma") * linear(y, state, f"{name}.proj")
        y = F.gelu(linear(norm(x, block + "norm2"), state, f"{prefix}{block}mlp.fc1"))
        x = x + own(f"{block}ls2.gamma") * linear(y, state, f"{prefix}{block}mlp.fc2")
        if after_block is not None:
            x = torch.cat([x[:, :1], after_block(x[:, 1:], index)], 1)
        found.append(x[:, 1:])
    return found


def rein_tokens(state: dict[str, Tensor]) -> Tensor:
    return state["backbone.reins.learnable_tokens_a"] @ state["backbone.reins.learnable_tokens_b"]


def rein(state: dict[str, Tensor]) -> Any:
    """Rein behind one block, from its equations."""
    tokens = rein_tokens(state)

    def after_block(f: Tensor, index: int) -> Tensor:
        share = (f @ tokens[index].T / 8).softmax(-1)[..., 1:]
        value = linear(tokens[index][1:], state, "backbone.reins.mlp_token2feat")
        return f + state["backbone.reins.scale"] * linear(share @ value + f, state, "backbone.reins.mlp_delta_f")

    return after_block


def assert_same_features(model: Any, behind: list[Tensor], chosen: tuple[int, ...]) -> Any:
    with torch.no_grad():
        features = model.backbone(IMAGES, model.backbone.dims.depth)
    f1, f2, f3, f4 = (behind[index].transpose(1, 2).unflatten(2, (4, 4)) for index in chosen)
    expected = (
        F.interpolate(f4, (2, 2), mode="bilinear"), f3, F.interpolate(f2, (8, 8), mode="bilinear"),
        F.interpolate(f1, (16, 16), mode="bilinear"),
    )  # fmt: skip
    for found, wanted in zip(features.levels, expected, strict=True):
        assert float(wanted.std()) > 0.1
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9 * float(wanted.std()))
    return features


def test_reins_features_and_queries():
    state = random_checkpoint("rein")
    model, converted = rebuilt(state)
    assert converted.layout.startswith("Rein")
    assert not converted.verified
    assert converted.left_over == converted.unexpected == ()
    assert converted.recipe["classes"] == "cityscapes"
    features = assert_same_features(model, taps(state, "backbone.", rein(state)), (0, 0, 1, 2))
    narrow = linear(rein_tokens(state), state, "backbone.reins.transform")
    stacked = torch.stack([narrow.amax(0), narrow.mean(0), narrow[-1]], -1).reshape(6, 96)
    position = linear(stacked, state, "backbone.reins.merge")
    with torch.no_grad():
        queries = model.make_queries(model.pixel_decoder(features))
        assert model(IMAGES).final.mask_logits.shape == (2, 6, 16, 16)
    torch.testing.assert_close(queries.position[0], position, rtol=0, atol=1e-12)
    content = linear(position, state, "decode_head.querys2feat")
    torch.testing.assert_close(queries.content[0], content, rtol=0, atol=1e-12)


def test_the_place_of_reins_adapter_is_found():
    state = random_checkpoint("rein")
    moved = {name.replace("backbone.reins.", "backbone.adapters.x."): tensor for name, tensor in state.items()}
    _, expected = rebuilt(state)
    _, found = rebuilt(moved)
    assert found.recipe == expected.recipe
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in expected.weights.items())


def test_soma_is_merged_into_plain_layers():
    state = random_checkpoint("soma")
    model, converted = rebuilt(state)
    assert converted.verified
    assert "adapter" not in converted.recipe["model"]
    assert_same_features(model, taps(state, "backbone.model."), (7, 11, 15, 23))


def dinov2(patch: int, side: int, depth: int) -> dict[str, Tensor]:
    """A file of the backbone alone, as its authors save it."""
    model: Any = timm.create_model(
        "vit_small_patch14_dinov2",
        patch_size=patch,
        img_size=side,
        embed_dim=64,
        depth=depth,
        num_heads=1,
        num_classes=0,
    )
    state = {name: torch.randn_like(tensor) * 0.1 for name, tensor in model.state_dict().items()}
    return {**state, "mask_token": torch.zeros(1, 64)}


def own_weights(layout: str, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is published of an adapter: without its trunk. SoMA: as it is before the first step."""
    state = {name: t.float() for name, t in random_checkpoint(layout).items()}
    if layout == "rein":
        return {name: t for name, t in state.items() if "reins" in name or "decode_head" in name}
    for name in [name for name in state if name.endswith("lora_A.weight")]:
        layer = name.removesuffix(".lora_A.weight")
        key = layer.removeprefix("backbone.model.")
        part = {"q": 0, "k": 1, "v": 2}.get(key.rpartition(".")[2])
        stem = key if part is None else f"{key.rpartition('.')[0]}.qkv"
        weight = base[f"{stem}.weight"] if part is None else base[f"{stem}.weight"].chunk(3)[part]
        left, sizes, right = np.linalg.svd(weight.double().numpy(), full_matrices=False)
        state[name] = torch.from_numpy(np.sqrt(sizes[-3:])[:, None] * right[-3:]).float()
        state[f"{layer}.lora_B.weight"] = torch.from_numpy(left[:, -3:] * np.sqrt(sizes[-3:])).float()
        state[f"{layer}.bias"] = base[f"{stem}.bias"] if part is None else base[f"{stem}.bias"].chunk(3)[part]
    return {name: t for name, t in state.items() if "lora" in name or "decode_head" in name}


@pytest.mark.parametrize("layout", ["rein", "soma"])
def test_published_adapters_ask_for_their_backbone(layout, tmp_path, capsys):
    """Converted, both are the backbone that was given where nothing was trained."""
    base = dinov2(16, 64, SIZES[layout]["A"])
    torch.save(base, tmp_path / "base.pth")
    torch.save({"state_dict": own_weights(layout, base)}, tmp_path / "adapter.pth")
    arguments = ["convert", str(tmp_path / "adapter.pth"), "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    assert "not the backbone that they were trained on; give that with --base" in capsys.readouterr().err
    account = tmp_path / "account.json"
    assert main([*arguments, "--base", str(tmp_path / "base.pth"), "--json", str(account)]) == 0
    assert ("unverified" in capsys.readouterr().out) == (layout == "rein")
    assert json.loads(account.read_text())["verified"] == (layout == "soma")
    run = read_model(tmp_path / "run")
    state = run.model.state_dict()
    for name in ("blocks.2.attn.qkv.weight", "blocks.2.mlp.fc2.weight", "blocks.0.ls1.gamma", "norm.bias"):
        torch.testing.assert_close(state[f"backbone.{name}"], base[name], rtol=0, atol=1e-6)
    last = f"blocks.{SIZES[layout]['A'] - 1}."  # adapted by SoMA, merged again
    for name in ("attn.qkv.weight", "attn.qkv.bias", "mlp.fc1.weight", "attn.proj.weight"):
        torch.testing.assert_close(state[f"backbone.{last}{name}"], base[last + name], rtol=0, atol=1e-5)
    assert run.classes.name == "cityscapes"


def test_the_original_backbone_is_resized_as_published(tmp_path: Path) -> None:
    """From patches of 14 to 16 and to images of 512, by plain bicubic interpolation."""
    base = dinov2(14, 70, 3)
    torch.save(base, tmp_path / "dinov2.pth")
    model, converted = rebuilt(own_weights("rein", base), base=tmp_path / "dinov2.pth")
    assert converted.recipe["model"]["backbone"]["init_args"]["image_size"] == 512
    kernel = F.interpolate(base["patch_embed.proj.weight"], (16, 16), mode="bicubic", align_corners=False)
    found = model.backbone.state_dict()
    torch.testing.assert_close(found["stem.patch_embed.proj.weight"].float(), kernel)
    table = base["pos_embed"][:, 1:].reshape(1, 5, 5, 64).permute(0, 3, 1, 2)
    table = F.interpolate(table, (32, 32), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found["stem.pos_embed"].float(), torch.cat([base["pos_embed"][:, :1], table], 1))


def test_bases_that_do_not_fit(tmp_path):
    state = random_checkpoint("rein")
    torch.save({"patch_embed.proj.weight": torch.ones(32, 3, 14, 14)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="x holds its backbone; leave --base"):
        rebuilt(state, base=tmp_path / "other.pth")
    own = own_weights("rein", dinov2(16, 64, 3))
    with pytest.raises(CheckpointError, match="is not the DINOv2 of width 64"):
        rebuilt(own, base=tmp_path / "other.pth")
    del own["backbone.reins.merge.bias"]
    torch.save(dinov2(16, 64, 3), tmp_path / "base.pth")
    with pytest.raises(CheckpointError, match=r"not whole \(1 missing: backbone.reins.merge.bias\)"):
        rebuilt(own, base=tmp_path / "base.pth")
