from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_run
from torch import nn

from queryseg.adapters import SoMA
from queryseg.contracts import Adapter
from queryseg.errors import RecipeError
from queryseg.segmenter import Segmenter, build_segmenter
from queryseg.training.parameter_groups import freeze_others, parameter_groups
from queryseg.types import Dims


class Trained(tiny_run.Stay):
    """An objective with weights of its own."""

    def __init__(self, dims: Dims) -> None:
        super().__init__(dims)
        self.head = nn.Linear(dims.width, 2)


class Tokens(Adapter):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(nn.init.normal_(nn.Linear(width, 4).weight).detach())


@pytest.fixture
def model(data: Path) -> Segmenter:
    recipe = tiny_run.build(tiny_run.settings(data))
    return build_segmenter(tiny_run.CLASSES, recipe.model)


def groups_of(model: Segmenter, **training: Any) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    recipe = tiny_run.build(tiny_run.settings(Path("nowhere"), **training))
    groups = parameter_groups(model, {"trained": Trained(model.dims)}, recipe.training)
    return groups, {name: group for group in groups for name in group["names"]}


def test_every_trainable_parameter_is_in_exactly_one_group(model: Segmenter) -> None:
    model.backbone.freeze(until=1)
    groups, by_name = groups_of(model)
    ids = [id(p) for group in groups for p in group["params"]]
    assert len(ids) == len(set(ids))
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    own = {"objectives.trained.head.weight", "objectives.trained.head.bias"}
    assert set(by_name) == trainable | own
    assert len(trainable) < len(list(model.parameters()))


def test_norms_biases_and_tables_do_not_decay(model: Segmenter) -> None:
    _, by_name = groups_of(model, weight_decay=0.3)
    still = {name for name, group in by_name.items() if group["weight_decay"] == 0}
    parameters = dict(model.named_parameters())
    assert {name for name in still if name in parameters and parameters[name].ndim > 1} == {
        "queries.content", "backbone.stem.pos_embed", "backbone.stem.cls_token",
    }  # fmt: skip
    assert all(name in still for name, p in parameters.items() if p.ndim <= 1)
    assert by_name["backbone.blocks.0.attn.qkv.weight"]["weight_decay"] == 0.3


def test_rates_fall_towards_the_stem(model: Segmenter) -> None:
    _, by_name = groups_of(model, backbone_factor=0.1, layer_decay=0.5)
    factors = {name: group["factor"] for name, group in by_name.items()}
    for i, factor in enumerate([0.025, 0.05, 0.1]):
        assert factors[f"backbone.blocks.{i}.attn.qkv.weight"] == pytest.approx(factor)
    assert factors["backbone.stem.pos_embed"] == pytest.approx(0.0125)
    for name in ("backbone.norm.weight", "queries.content", "decoder.heads.classify.weight"):
        assert factors.get(name, 1.0) == 1.0


def test_named_parameters_are_spared_instead_of_the_rule(model: Segmenter) -> None:
    """As in configurations that spare what is called "norm" outside of the backbone, and no biases or tables."""
    _, by_name = groups_of(model, undecayed=["decoder.*norm*", "queries.content"])
    still = {name for name, group in by_name.items() if not group["decays"]}
    assert still == {name for name in by_name if (name.startswith("decoder") and "norm" in name)} | {"queries.content"}
    assert len(still) > 1
    assert by_name["backbone.blocks.0.norm1.bias"]["decays"]
    with pytest.raises(RecipeError, match=r"undecayed names 'decoder\.nrom', which fits no parameter"):
        groups_of(model, undecayed=["decoder.nrom"])


def test_the_whole_backbone_may_share_its_rate(model: Segmenter) -> None:
    _, by_name = groups_of(model, backbone_factor=0.1, layer_decay=0.5, backbone_scope="whole")
    assert by_name["backbone.norm.weight"]["factor"] == 0.1
    assert by_name["backbone.blocks.0.attn.qkv.weight"]["factor"] == pytest.approx(0.025)
    assert by_name["queries.content"]["factor"] == 1


def test_an_adapter_learns_at_the_full_rate_even_inside_a_block(model: Segmenter) -> None:
    adapter = Tokens(16)
    model.backbone.attach(adapter)
    model.backbone.blocks[0].register_parameter("inserted", adapter.tokens)
    _, by_name = groups_of(model, backbone_factor=0.1)
    name = next(name for name in by_name if name.endswith(("inserted", "adapter.tokens")))
    assert by_name[name]["factor"] == 1.0


def test_soma_s_components_have_a_rate_of_their_own_and_decay(model: Segmenter) -> None:
    """Its biases belong to the trunk and do not decay."""
    model.backbone.attach(SoMA(model.backbone.dims, rank=2))
    _, by_name = groups_of(model, backbone_factor=0.25, adapter_factor=0.5, weight_decay=0.3)
    name = "backbone.blocks.2.attn.qkv"
    for matrix in ("down", "up"):
        assert by_name[f"{name}.{matrix}"]["factor"] == 0.5
        assert by_name[f"{name}.{matrix}"]["weight_decay"] == 0.3
        assert by_name[f"{name}.{matrix}"]["decays"]
    assert by_name[f"{name}.bias"]["factor"] == 0.25
    assert not by_name[f"{name}.bias"]["decays"]
    assert not any(name.startswith("backbone.blocks.0.") or ".first_" in name for name in by_name)


def test_only_named_parameters_learn_and_a_name_without_any_is_refused(model: Segmenter) -> None:
    """By whole words of their names: "decode" is no beginning of "decoder.heads"."""
    with pytest.raises(RecipeError, match=r"training.trained names 'decode', .* they begin with backbone, decoder"):
        freeze_others(model, ["queries", "decode"])
    freeze_others(model, ["queries", "decoder.heads"])
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert learning == {n for n, _ in model.named_parameters() if n.startswith(("queries.", "decoder.heads."))}
    assert not any(module.training for module in model.backbone.sections())
