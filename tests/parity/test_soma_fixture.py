"""SoMA equals its published implementation: decomposition, outputs, a step of gradient descent, merging.

`soma/dev.json` draws matrices and inputs, `soma/dev.npz` holds what must come out.
"""

from __future__ import annotations

import pytest
import torch
from test_rein_fixture import FOLDER, close, drawn
from torch import Tensor, nn

from queryseg.adapters import SoMA
from queryseg.adapters.low_rank_linear import LowRankLinear
from queryseg.backbones import PlainViT
from queryseg.types import Dims

MANIFEST, TENSORS, GOLD = drawn(FOLDER.with_name("soma"))
MATRICES = list(MANIFEST["matrices"])


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    linear.load_state_dict({"weight": weight, "bias": bias})
    return linear


def split(linear: nn.Linear, rank: int, alpha: float, stacked: int = 1) -> LowRankLinear:
    """A layer as SoMA adapts it."""
    soma = SoMA(Dims((), 1, 1, (1,), (1,), 1, 1), rank, alpha, start=0)
    adapted = LowRankLinear(linear, stacked, rank, soma.scaling, subtract=True)
    pairs = [soma.first_values(matrix) for matrix in linear.weight.detach().chunk(stacked)]
    adapted.begin_with(*(torch.stack(values) for values in zip(*pairs, strict=True)))
    return adapted


@pytest.fixture(params=MATRICES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def adapted(name: str) -> LowRankLinear:
    about = MANIFEST["matrices"][name]
    return split(linear_of(TENSORS[f"{name}/weight"], TENSORS[f"{name}/bias"]), about["r"], about["alpha"])


def effective(layer: LowRankLinear) -> Tensor:
    return layer.merged().weight


@torch.no_grad()
def canonical(layer: LowRankLinear) -> None:
    """The sign that makes the largest entry of every row of A positive, the same for the column of B."""
    signs = torch.take_along_dim(layer.down[0], layer.down[0].abs().argmax(1, keepdim=True), 1).sign()  # (R, 1)
    layer.begin_with(layer.down * signs, layer.up * signs.T)


def test_decomposition(name: str, adapted: LowRankLinear) -> None:
    weight, product = TENSORS[f"{name}/weight"], (adapted.up @ adapted.down)[0]
    close(product, GOLD[f"{name}/BA"])
    close(adapted.residual, GOLD[f"{name}/residual"])
    close(effective(adapted), GOLD[f"{name}/recon"])
    assert torch.equal(adapted.weight, weight), "the base stays as it is"
    rank = adapted.down.shape[1]
    sizes = torch.diag(GOLD[f"{name}/sigma"][-rank:] / adapted.scaling)
    close(adapted.down[0] @ adapted.down[0].T, sizes)
    close(adapted.up[0].T @ adapted.up[0], sizes)
    left = torch.linalg.matrix_rank(adapted.residual)
    assert left == min(weight.shape) - rank
    if f"{name}/principal/residual" in GOLD:
        assert (adapted.residual - GOLD[f"{name}/principal/residual"]).abs().max() > 0.1, "minor, not principal"
    canonical(adapted)
    close(adapted.down[0], GOLD[f"{name}/A_can"])
    close(adapted.up[0], GOLD[f"{name}/B_can"])


def test_nothing_changes_at_the_start(name: str, adapted: LowRankLinear) -> None:
    x = TENSORS[f"{name}/x"]
    plain = linear_of(TENSORS[f"{name}/weight"], TENSORS[f"{name}/bias"])
    assert torch.equal(adapted(x), plain(x)), "not a single bit"
    close(adapted(x), GOLD[f"{name}/y_init"])


@pytest.mark.parametrize("update", ["rescale", "replace", "add"])
def test_updates(name: str, update: str, adapted: LowRankLinear) -> None:
    given = {key: TENSORS[f"{name}/{key}"] for key in ("s", "t", "A_new", "B_new", "dA", "dB")}
    with torch.no_grad():
        if update == "rescale":
            adapted.down *= given["s"][:, None]
            adapted.up *= given["t"]
        elif update == "replace":
            adapted.down.copy_(given["A_new"])
            adapted.up.copy_(given["B_new"])
        else:
            canonical(adapted)
            adapted.down += given["dA"]
            adapted.up += given["dB"]
    close(adapted(TENSORS[f"{name}/x"]), GOLD[f"{name}/{update}/y"])
    close(effective(adapted), GOLD[f"{name}/{update}/W_eff"])
    if update == "add":
        merged = adapted.merged()
        close(merged.weight, GOLD[f"{name}/merge/weight"])
        close(merged(TENSORS[f"{name}/x"]), GOLD[f"{name}/merge/y"])
        close(adapted.residual, GOLD[f"{name}/merge/unmerged"])
        assert type(merged) is nn.Linear


def test_a_step_of_gradient_descent_moves_the_components_and_the_bias_alone(name: str, adapted: LowRankLinear) -> None:
    x = TENSORS[f"{name}/x"]
    adapted.weight.requires_grad_(False)
    loss = (adapted(x) * TENSORS[f"{name}/ct"]).sum()
    close(loss, GOLD[f"{name}/sgd/loss"])
    loss.backward()
    assert adapted.up.grad is not None
    assert adapted.down.grad is not None
    close(adapted.up.grad[0] @ adapted.up[0].T, GOLD[f"{name}/sgd/gradBB"])
    close(adapted.down[0].T @ adapted.down.grad[0], GOLD[f"{name}/sgd/gradAA"])
    residual = adapted.residual.clone()
    torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], MANIFEST["arguments"]["sgd_lr"]).step()
    assert torch.equal(adapted.residual, residual)
    close(adapted(x), GOLD[f"{name}/sgd/y"])
    close(effective(adapted), GOLD[f"{name}/sgd/W_eff"])
    close(adapted.bias, GOLD[f"{name}/sgd/bias"])


def test_fused_layers_are_decomposed_by_thirds() -> None:
    weight = torch.cat([TENSORS[f"{name}/weight"] for name in "qkv"])
    bias = torch.cat([TENSORS[f"{name}/bias"] for name in "qkv"])
    about = MANIFEST["matrices"]["q"]
    adapted = split(linear_of(weight, bias), about["r"], about["alpha"], stacked=3)
    close(adapted.residual, GOLD["qkv/residual"])
    assert (adapted.residual - GOLD["qkv/residual_fused_wrong"]).abs().max() > 1e-3
    for third, name in enumerate("qkv"):
        with torch.no_grad():
            adapted.down[third] = TENSORS[f"{name}/A_new"]
            adapted.up[third] = TENSORS[f"{name}/B_new"]
    expected = torch.cat([GOLD[f"{name}/replace/W_eff"] for name in "qkv"])
    close(effective(adapted), expected)
    close(adapted(TENSORS["q/x"]), TENSORS["q/x"] @ expected.T + bias)


def test_what_is_trained() -> None:
    """A, B and bias of the six linear layers of blocks 2 and 3 of 4 (the toy of the fixture, without its mask token,
    which no segmentation reads)."""
    toy = MANIFEST["toy_backbone"]
    backbone = PlainViT("vit_tiny_patch16_224", options={"embed_dim": 32, "depth": toy["blocks"], "num_heads": 2})
    backbone.attach(SoMA(backbone.dims, start=toy["first_adapted_block"] / toy["blocks"]))
    found = {name for name, p in backbone.named_parameters() if p.requires_grad}
    expected = set()
    for name in set(toy["trainable"]) - {"mask_token"}:
        name = name.replace("lora_A.weight", "down").replace("lora_B.weight", "up")
        for part in "qkv":
            name = name.replace(f"attn.{part}.", "attn.qkv.")
        expected.add(name)
    assert found == expected


def test_parameters_at_the_published_size() -> None:
    """4.87 M in the paper: A, B and bias of q, k, v, proj, fc1 and fc2 of blocks 8 to 23."""
    with torch.device("meta"):
        backbone = PlainViT("vit_large_patch14_dinov2", patch_size=16)
        backbone.attach(SoMA(backbone.dims))
    found = sum(p.numel() for p in backbone.parameters() if p.requires_grad)
    assert found == MANIFEST["published_size_count"]["total"] == 4_866_048
