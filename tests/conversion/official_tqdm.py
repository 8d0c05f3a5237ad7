"""Random checkpoints in tqdm's official layouts, and what its trunks and text encoder make of them, written out.

Shape legend: B images, K classes, m vectors of the prompt, T tokens, W width, J width of the image–text space, h×w a
grid of patches.
"""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.conversion.layout import read_layout

SIZES: dict[str, dict[str, Any]] = {
    "tqdm_clip": {
        "J": 24, "T": 16, "P": 5, "N": 10, "V": 49408, "B": 2, "M": 16, "R": 2, "D": 32, "E": 2, "S": 96, "G": 48,
        "K": 19, "L": 3, "F": 48, "W": 64, "A": 3, "C": 17, "k": 16,
    },
}  # fmt: skip
SIZES["tqdm_eva02"] = {**SIZES["tqdm_clip"], "P": 8, "N": 13, "k": 14, "H": 40}
TAPS = (0, 0, 1, 2)
"""Of three blocks: the ends of the first third, half, two thirds and all of them."""


def random_checkpoint(layout: str, **sizes: int) -> dict[str, Tensor]:
    """Float64; scales that keep features of one size."""
    tensors = {}
    draw = torch.Generator().manual_seed(0)
    for name, shape in read_layout(layout).expected({**SIZES[layout], **sizes}).items():
        scale = min(0.3, 0.7 * shape[-1] ** -0.5) if shape else 0.3
        tensor = torch.randn(shape, dtype=torch.float64, generator=draw) * scale
        if re.search(r"(norm\w*|norms\.\d|ln_\w+|_ln|gn|_proj\.[02]|fpn1\.1)\.weight$", name) and len(shape) == 1:
            tensor += 1
        if name.endswith("running_var"):
            tensor = tensor.abs() + 0.5
        tensors[name] = torch.tensor(7) if name.endswith("num_batches_tracked") else tensor
    if layout == "tqdm_eva02":  # buffers of the authors' rotary embedding
        for part in ("backbone", "reg_E0"):
            tensors[f"{part}.rope.freqs_cos"] = torch.zeros(16, 64)
    return tensors


def linear(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def norm(x: Tensor, state: dict[str, Tensor], name: str, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def quick_gelu(x: Tensor) -> Tensor:
    return x * (1.702 * x).sigmoid()


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """One head."""
    scores = q @ k.mT * q.shape[-1] ** -0.5
    if causal:
        scores = scores + torch.full_like(scores, -torch.inf).triu(1)
    return scores.softmax(-1) @ v


def clip_block(x: Tensor, state: dict[str, Tensor], name: str, activation: Any, causal: bool = False) -> Tensor:
    """Pre-norm attention and MLP under OpenAI's names."""
    y = norm(x, state, f"{name}ln_1", 1e-5)
    q, k, v = F.linear(y, state[f"{name}attn.in_proj_weight"], state[f"{name}attn.in_proj_bias"]).chunk(3, -1)
    x = x + linear(attend(q, k, v, causal), state, f"{name}attn.out_proj")
    y = activation(linear(norm(x, state, f"{name}ln_2", 1e-5), state, f"{name}mlp.c_fc"))
    return x + linear(y, state, f"{name}mlp.c_proj")


def clip_tokens(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Behind every block."""
    patches = F.conv2d(images, state["backbone.conv1.weight"], None, 16).flatten(2).mT
    positions = state["backbone.positional_embedding"]
    # the class embedding is added twice
    first = (2 * state["backbone.class_embedding"] + positions[0]).expand(len(images), 1, -1)
    x = norm(torch.cat([first, patches + positions[1:]], 1), state, "backbone.ln_pre", 1e-5)
    found = []
    for index in range(3):
        x = clip_block(x, state, f"backbone.transformer.resblocks.{index}.", quick_gelu)
        found.append(x)
    return found


def rotated(x: Tensor, side: int) -> Tensor:
    """Patches (B, h·w, 64): 16 frequencies per axis, rows first; positions as on a grid of 16×16."""
    frequencies = 10000 ** (-2 * torch.arange(16, dtype=x.dtype) / 32)
    angles = torch.arange(side, dtype=x.dtype)[:, None] / side * 16 * frequencies
    angles = angles.repeat_interleave(2, -1)  # (side, 32), every one twice
    rows, columns = angles[:, None].expand(-1, side, -1), angles.expand(side, -1, -1)
    both = torch.cat([rows, columns], -1).flatten(0, 1)
    pairs = x.unflatten(-1, (-1, 2))
    turned = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
    return x * both.cos() + turned * both.sin()


def eva_tokens(state: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Behind every block."""
    stem, bias = state["backbone.patch_embed.proj.weight"], state["backbone.patch_embed.proj.bias"]
    patches = F.conv2d(images, stem, bias, 14)
    side = patches.shape[-1]
    x = torch.cat([state["backbone.cls_token"].expand(len(images), -1, -1), patches.flatten(2).mT], 1)
    x = x + state["backbone.pos_embed"]
    found = []
    for index in range(3):
        name = f"backbone.blocks.{index}."
        y = norm(x, state, f"{name}norm1", 1e-6)
        q, k, v = (F.linear(y, state[f"{name}attn.{part}_proj.weight"]) for part in "qkv")
        q, v = q + state[f"{name}attn.q_bias"], v + state[f"{name}attn.v_bias"]
        q, k = (torch.cat([z[:, :1], rotated(z[:, 1:], side)], 1) for z in (q, k))
        y = norm(attend(q, k, v), state, f"{name}attn.inner_attn_ln", 1e-6)
        x = x + linear(y, state, f"{name}attn.proj")
        y = norm(x, state, f"{name}norm2", 1e-6)
        y = F.silu(linear(y, state, f"{name}mlp.w1")) * linear(y, state, f"{name}mlp.w2")
        x = x + linear(norm(y, state, f"{name}mlp.ffn_ln", 1e-6), state, f"{name}mlp.w3")
        found.append(x)
    return found


def joint(state: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """(B, T, W) of the last block → (B, T, J)"""
    if "backbone.proj" in state:
        return norm(tokens, state, "backbone.ln_post", 1e-5) @ state["backbone.proj"]
    return linear(norm(tokens, state, "backbone.norm", 1e-6), state, "backbone.head")


def pyramid(state: dict[str, Tensor], tokens: list[Tensor]) -> tuple[Tensor, ...]:
    """Coarse → fine."""
    side = int((tokens[0].shape[1] - 1) ** 0.5)
    f1, f2, f3, f4 = (tokens[tap][:, 1:].mT.unflatten(2, (side, side)) for tap in TAPS)

    def own(name: str) -> Tensor:
        return state[f"backbone.{name}"]

    def up(x: Tensor, name: str) -> Tensor:
        return F.conv_transpose2d(x, own(f"{name}.weight"), own(f"{name}.bias"), 2)

    statistics = own("fpn1.1.running_mean"), own("fpn1.1.running_var")
    fine = F.batch_norm(up(f1, "fpn1.0"), *statistics, own("fpn1.1.weight"), own("fpn1.1.bias"))
    return F.max_pool2d(f4, 2), f3, up(f2, "fpn2.0"), up(F.gelu(fine), "fpn1.3")


def texts(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """ids (K, N) start, name, end, zeros → (K, J), the prompt behind the start token."""
    embedded = state["text_encoder.token_embedding.weight"][ids]
    prompt = state["contexts"].expand(len(ids), -1, -1)
    x = torch.cat([embedded[:, :1], prompt, embedded[:, 1:]], 1)
    x = x + state["text_encoder.positional_embedding"][: x.shape[1]]
    activation = quick_gelu if "backbone.proj" in state else F.gelu
    for index in range(2):
        x = clip_block(x, state, f"text_encoder.transformer.resblocks.{index}.", activation, causal=True)
    end = ids.argmax(-1) + prompt.shape[1]
    x = norm(x, state, "text_encoder.ln_final", 1e-5)[torch.arange(len(ids)), end]
    return x @ state["text_encoder.text_projection"]
