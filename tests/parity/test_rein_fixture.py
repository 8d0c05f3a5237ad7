"""Rein equals its published implementation: every block on its own, blocks in a row, the link, and all gradients.

`rein/dev.json` draws weights and inputs, `rein/dev.npz` holds what must come out, for tokens of low rank ("lora") and
free ones ("full").
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from queryseg.adapters import Rein
from queryseg.queries import LinkedQueries
from queryseg.types import Dims, Features, Trunk

FOLDER = Path(__file__).with_name("rein")
NAMES = {
    "learnable_tokens_a": "tokens.left",
    "learnable_tokens_b": "tokens.right",
    "learnable_tokens": "tokens.left",
    "scale": "scale",
    "mlp_token2feat": "token_to_feature",
    "mlp_delta_f": "refine",
    "transform": "link.transform",
    "merge": "link.combine",
}
"""Published names → ours."""


def drawn(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Manifest, inputs by name, expected outputs by name."""
    manifest: dict[str, Any] = json.loads((folder / "dev.json").read_text())
    draw = np.random.Generator(np.random.PCG64(manifest["seed"]))
    tensors = {}
    for entry in manifest["tensors"]:  # the order matters
        value = np.asarray(draw.standard_normal(tuple(entry["shape"])) * entry["scale"] + entry["offset"])
        assert np.allclose(value.reshape(-1)[:3], entry["first"], rtol=1e-12)
        tensors[entry["name"]] = torch.from_numpy(value)
    return manifest, tensors, {name: torch.from_numpy(value) for name, value in np.load(folder / "dev.npz").items()}


MANIFEST, TENSORS, GOLD = drawn(FOLDER)
ARGUMENTS = MANIFEST["arguments"]
GRID = (ARGUMENTS["grid_h"], ARGUMENTS["grid_w"])
WIDTH, DEPTH, QUERIES = ARGUMENTS["embed_dims"], ARGUMENTS["num_layers"], ARGUMENTS["query_dims"]
DIMS = Dims((), WIDTH, DEPTH, (WIDTH,), (16,), WIDTH, QUERIES)


def ours(name: str) -> str:
    """The name of a published tensor in our adapter."""
    first, dot, rest = name.partition(".")
    return NAMES[first] + dot + rest


def rein(case: str, **options: Any) -> tuple[Rein, LinkedQueries]:
    rank = ARGUMENTS["lora_dim"] if case == "lora" else None
    adapter = Rein(DIMS, ARGUMENTS["token_length"], rank, **options).double()
    source = LinkedQueries(DIMS).double()
    state = {name.removeprefix(f"{case}/"): value for name, value in TENSORS.items() if name.startswith(f"{case}/")}
    source.load_state_dict({f"content.{key}": state.pop(f"querys2feat.{key}") for key in ("weight", "bias")})
    if options.get("scale", 0) is None:
        del state["scale"]
    adapter.load_state_dict({ours(name): value for name, value in state.items()})
    return adapter, source


def close(found: Tensor, expected: Tensor, rtol: float = 1e-8) -> None:
    torch.testing.assert_close(found, expected, rtol=rtol, atol=1e-8)


def trunk(tokens: Tensor, prefix: int = 1) -> Trunk:
    grid = GRID if prefix else (1, tokens.shape[1])
    return Trunk(tokens, grid, prefix=prefix)


def adapted(adapter: Rein, tokens: Tensor, index: int, prefix: int = 1) -> Tensor:
    before = trunk(tokens, prefix)
    return before.with_patches(adapter.after_block(before.patches, index)).tokens


@pytest.mark.parametrize("case", ["lora", "full"])
def test_every_block_alone(case: str) -> None:
    adapter, _ = rein(case)
    close(adapter.tokens.all(), GOLD[f"{case}/tokens"])
    for index in range(DEPTH):
        tokens = TENSORS[f"x_{index}"]
        close(adapter.delta(tokens[:, 1:], adapter.tokens(index)), GOLD[f"{case}/delta_{index}"])
        close(adapted(adapter, tokens, index), GOLD[f"{case}/out_{index}"])
    first = TENSORS["x_0"]
    close(adapted(adapter, first, 0, prefix=0), GOLD[f"{case}/out_nocls_0"])
    close(adapted(rein(case, softmax=False)[0], first, 0), GOLD[f"{case}/out_nosoftmax_0"])
    close(adapted(rein(case, scale=None)[0], first, 0), GOLD[f"{case}/out_unitscale_0"])


@pytest.mark.parametrize("case", ["lora", "full"])
def test_blocks_in_a_row_the_link_and_every_gradient(case: str) -> None:
    adapter, source = rein(case)
    tokens = start = TENSORS["chain_x"].clone().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for index in range(DEPTH):
        tokens = adapted(adapter, tokens + torch.tanh(tokens @ TENSORS[f"block_{index}"]), index)
        tap = trunk(tokens).patches.permute(0, 3, 1, 2)
        close(tap, GOLD[f"{case}/chain_tap_{index}"])
        loss = loss + (tap * TENSORS[f"ct_tap_{index}"]).sum()
    close(tokens[:, 0], GOLD[f"{case}/chain_cls"])

    end = trunk(tokens)
    level = end.patches.permute(0, 3, 1, 2)
    queries = source(Features(end, (level,), level, extras=adapter.extras()), None)  # type: ignore[arg-type]
    assert queries.position is not None
    for query in range(2):  # the same for every image
        close(queries.position[query], GOLD[f"{case}/link_query"])
        close(queries.content[query], GOLD[f"{case}/query_feat"])
    loss = loss + (queries.position[0] * TENSORS["ct_link_query"]).sum()
    loss = loss + (queries.content[0] * TENSORS["ct_query_feat"]).sum()
    close(loss, GOLD[f"{case}/loss"])
    loss.backward()
    found = {name: p.grad for name, p in adapter.named_parameters()} | {"chain_x": start.grad}
    for name, expected in GOLD.items():
        published = name.removeprefix(f"{case}/grad/")
        if published == name:
            continue
        if published.startswith("querys2feat"):
            gradient = getattr(source.content, published.partition(".")[2]).grad
        else:
            gradient = found.pop(published if published == "chain_x" else ours(published))
        close(gradient, expected, rtol=1e-7)
    assert not found, "every parameter has a gradient in the fixture"


def test_parameters_at_the_published_size() -> None:
    """2.99 M in the paper: tokens, the two shared layers, the scale and the link, without `querys2feat` of the head."""
    with torch.device("meta"):
        adapter = Rein(Dims((), 1024, 24, (1024,), (16,), 1024, 256))
    assert sum(p.numel() for p in adapter.parameters()) == MANIFEST["published_size_count"] == 2_990_081
