"""The ablation ladder of QPrompt-R1 (Table 7) on any recipe's vision transformer: what each arm changes in the model.

Source: QPrompt-R1 Table 7; the recipes `recipes/qprompt_r1/ladder_*.yaml` and `gtav.yaml` have the same parts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from queryseg.errors import InputError

_CROSS = "queryseg.decoders.CrossAttention"
_IDENTITY = "queryseg.pixel_decoders.Identity"
_MIXTURE = "queryseg.readouts.Mixture"


def ladder(recipe: Mapping[str, Any], depth: int) -> dict[str, dict[str, Any]]:
    """Arm → recipe with the same backbone and classes. depth: blocks of the trunk.

    Raises: InputError if the backbone is no vision transformer that queries can join
    """
    backbone = recipe["model"]["backbone"]
    path = backbone if isinstance(backbone, str) else backbone["class_path"]
    if isinstance(backbone, str) or path.rpartition(".")[2] not in ("PlainViT", "RotaryViT"):
        raise InputError(f"The ladder needs a plain vision transformer, and {path} is none; leave 'ladder' out.")
    queries = recipe["model"].get("queries")
    given = {} if not isinstance(queries, Mapping) else queries.get("init_args") or {}
    num_queries = given.get("num_queries") or 100
    plain = _part("queries.LearnableQueries", num_queries=num_queries)
    placed = _part("queries.LearnableQueries", num_queries=num_queries, position=True)
    pyramid = {"pyramid": "bilinear"}
    last = depth - 1
    # the third of the default taps would leave the blocks behind it unread, see ladder_without_multi_scale.yaml
    one_map = {"taps": [max(0, 4 * depth // 12 - 1), max(0, 6 * depth // 12 - 1), last, last], **pyramid}
    single = _part("pixel_decoders.Projected", levels=[1])
    eomt = _part("decoders.MaskedInjection", num_blocks=min(4, depth))
    arms: dict[str, tuple[Mapping[str, Any], Any, Any, Any, str]] = {
        "Mask2Former": (pyramid, "queryseg.pixel_decoders.Deformable", placed, _CROSS, _MIXTURE),
        "− pixel decoder": (pyramid, "queryseg.pixel_decoders.Projected", placed, _CROSS, _MIXTURE),
        "− multi-scale": (one_map, single, placed, _CROSS, _MIXTURE),
        "MLP head": (
            {}, _IDENTITY, "queryseg.queries.NoQueries", "queryseg.decoders.PixelClassifier",
            "queryseg.readouts.PerPixel",
        ),
        "EoMT": ({}, _IDENTITY, plain, eomt, _MIXTURE),
        "QPrompt": ({}, _IDENTITY, plain, "queryseg.decoders.QueryInjection", _MIXTURE),
    }  # fmt: skip
    roles = ("pixel_decoder", "queries", "decoder", "readout")
    return {
        name: {
            "classes": recipe["classes"],
            "model": {"backbone": _changed(backbone, changes), **dict(zip(roles, parts, strict=True))},
        }
        for name, (changes, *parts) in arms.items()
    }


def _part(path: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"queryseg.{path}", "init_args": arguments}


def _changed(backbone: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The backbone of one arm: its own pyramid or none."""
    arguments = copy.deepcopy(dict(backbone.get("init_args") or {}))
    for key in ("pyramid", "taps"):
        arguments.pop(key, None)
    return {"class_path": backbone["class_path"], "init_args": arguments | dict(changes)}
