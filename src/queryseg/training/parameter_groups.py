"""Which learning rate and which weight decay every parameter gets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any

from torch import nn

from queryseg.contracts import Backbone, Objective
from queryseg.errors import RecipeError
from queryseg.recipe import TrainingSettings
from queryseg.segmenter import Segmenter

BASE = "base"


def parameter_groups(
    model: Segmenter, objectives: Mapping[str, Objective], settings: TrainingSettings
) -> list[dict[str, Any]]:
    """Groups for an optimiser, each with `params`, `factor` (of the learning rate), `weight_decay` (and whether it
    `decays` at all) and `names`. Every parameter that requires a gradient is in exactly one of them.

    Blocks of the backbone learn at backbone_factor · layer_decay^(blocks above), the stem below them; the adapter,
    wherever it sits, at adapter_factor. Everything else learns at the full rate: the new parts, and what the backbone
    puts around its trunk (final norm, pyramid, projection), which queries use in a new role or which is new itself.
    With backbone_scope "whole" these learn as the last block does.

    Exempt from weight decay: norms, biases and every other vector, and the tables that a part names in `undecayed`; or,
    instead of all these, what `settings.undecayed` names.

    Source: QPrompt-R1 spec §4; layer-wise decay as in BEiT and EoMT; the last block's rate is whole.

    Raises: RecipeError if a pattern of `settings.undecayed` fits no parameter
    """
    factors = _backbone_factors(model.backbone, settings)
    named = list(_named_parameters(model, objectives))
    if settings.undecayed is None:
        tables = _undecayed([*model.parts().values(), *objectives.values()])
        exempt = tables | {id(parameter) for _, parameter in named if parameter.ndim <= 1}
    else:
        exempt = _fitting(named, settings.undecayed)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        factor = factors.get(id(parameter), 1.0)
        decays = id(parameter) not in exempt
        decay = settings.weight_decay if decays else 0.0
        empty: dict[str, Any] = {"params": [], "names": [], "factor": factor, "weight_decay": decay, "decays": decays}
        group = groups.setdefault((factor, decays), empty)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def freeze_others(model: Segmenter, trained: Sequence[str]) -> None:
    """Let only parameters learn whose names begin with one of `trained`, up to a dot; what a part froze stays frozen.

    Raises: RecipeError for a name that is no parameter's beginning
    """
    names = [name for name, _ in model.named_parameters()]
    for beginning in trained:
        if not any(_begins(name, beginning) for name in names):
            parts = sorted({name.partition(".")[0] for name in names})
            raise RecipeError(
                f"training.trained names '{beginning}', with which no parameter's name begins; they begin with "
                f"{', '.join(parts)}."
            )
    for name, parameter in model.named_parameters():
        if not any(_begins(name, beginning) for beginning in trained):
            parameter.requires_grad_(False)
    model.train(model.training)  # frozen sections of the backbone become deterministic


def _begins(name: str, beginning: str) -> bool:
    return name == beginning or name.startswith(f"{beginning}.")


def _named_parameters(model: Segmenter, objectives: Mapping[str, Objective]) -> Iterable[tuple[str, nn.Parameter]]:
    yield from model.named_parameters()
    for name, objective in objectives.items():
        yield from objective.named_parameters(f"objectives.{name}")


def _backbone_factors(backbone: Backbone, settings: TrainingSettings) -> dict[int, float]:
    """id of a parameter of the trunk or of its adapter → factor."""
    sections = backbone.sections()
    whole = backbone.parameters() if settings.backbone_scope == "whole" else ()
    factors = {id(parameter): settings.backbone_factor for parameter in whole}
    factors |= {
        id(parameter): settings.backbone_factor * settings.layer_decay ** (len(sections) - 1 - depth)
        for depth, section in enumerate(sections)
        for parameter in section.parameters()
    }
    return factors | {id(parameter): settings.adapter_factor for parameter in backbone.brought()}


def _undecayed(parts: Iterable[nn.Module]) -> set[int]:
    """ids of the tables that parts name; a name may stand for an absent table (None), but not for nothing."""
    return {id(attrgetter(name)(part)) for part in parts for name in part.undecayed()}  # type: ignore[operator]


def _fitting(named: Iterable[tuple[str, nn.Parameter]], patterns: Iterable[str]) -> set[int]:
    """ids of the parameters that a pattern fits. Raises: RecipeError for a pattern that fits none"""
    exempt = set()
    for pattern in patterns:
        found = {id(parameter) for name, parameter in named if fnmatchcase(name, pattern)}
        if not found:
            raise RecipeError(
                f"training.undecayed names '{pattern}', which fits no parameter; names are those of the run's "
                "model.safetensors, e.g. 'decoder.*norm*'."
            )
        exempt |= found
    return exempt
