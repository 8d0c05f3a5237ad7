"""What a foreign checkpoint becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from queryseg.data.class_table import class_table
from queryseg.errors import CheckpointError, InputError


@dataclass(frozen=True)
class Converted:
    """A run, as `inference.run_folder` writes and reads it.

    recipe     `classes` and `model`, and `data.protocol` where the checkpoint says how images are shown to it
    weights    under the names of the segmenter's state_dict
    left_over  names in the file that the model has no use for
    unexpected those of them that the layout does not know either
    layout     what the file is
    verified   whether names and shapes of the layout were read where its authors define them
    """

    recipe: dict[str, Any]
    weights: dict[str, Tensor]
    left_over: tuple[str, ...]
    unexpected: tuple[str, ...] = ()
    layout: str = ""
    verified: bool = True

    @property
    def unnamed(self) -> bool:
        """Whether nothing tells what the classes are called."""
        return list(self.recipe["classes"]) == _numbered(len(self.recipe["classes"]))


Rules = Sequence[tuple[str, str]]
"""(pattern of a whole name, what it becomes); the first that matches counts. What ends in [0], [1] … is one part of a
stacked tensor ("attn.qkv.weight[1]": the keys); what becomes "" is left over."""


def rename(tensors: Mapping[str, Tensor], rules: Rules) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors under their new names, parts stacked along the first axis; and the names that nothing takes.

    Raises: CheckpointError if a part of a stacked tensor is missing.
    """
    patterns = [(re.compile(pattern), target) for pattern, target in rules]
    renamed: dict[str, Tensor] = {}
    stacks: dict[str, dict[int, Tensor]] = {}
    left_over = []
    for name, tensor in tensors.items():
        match, target = next(((m, t) for p, t in patterns if (m := p.fullmatch(name))), (None, ""))
        if match is None or not target:
            left_over.append(name)
            continue
        whole, _, part = match.expand(target).partition("[")
        if part:
            stacks.setdefault(whole, {})[int(part.removesuffix("]"))] = tensor
        else:
            renamed[whole] = tensor
    for whole, parts in stacks.items():
        if sorted(parts) != list(range(len(parts))):
            raise CheckpointError(
                f"The checkpoint is incomplete: of the parts that make {whole}, only {sorted(parts)} are there; "
                "download it again."
            )
        renamed[whole] = torch.cat([parts[i] for i in range(len(parts))])
    return renamed, tuple(left_over)


def required(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Raises: CheckpointError if it is missing."""
    if name not in weights:
        raise CheckpointError(f"The checkpoint is incomplete: nothing in it becomes {name}; download it again.")
    return weights[name]


_TABLES = {19: "cityscapes", 133: "coco_panoptic", 150: "ade20k"}
"""Number of classes → the table that published models of so many classes were trained on."""


def class_names(config: Mapping[str, Any], num_classes: int) -> str | list[str]:
    """Of config.json, in label order, each once: ADE20K has two screens. Without names there: the table of so many
    classes, or LABEL_0, LABEL_1 … if there is none."""
    given = {str(label): str(name) for label, name in (config.get("id2label") or {}).items()}
    table = _TABLES.get(num_classes)
    if not given and table is not None:
        with suppress(InputError):  # a table that this version does not have
            return class_table(table).name
    names: list[str] = []
    for label, number in enumerate(_numbered(num_classes)):
        name = given.get(str(label), number)
        names.append(f"{name} ({label})" if name in names else name)
    return names


def _numbered(num_classes: int) -> list[str]:
    return [f"LABEL_{label}" for label in range(num_classes)]


def check_mean(config: Mapping[str, Any], model: str, trunk: str) -> None:
    """Raises: CheckpointError if images were normalised with another mean than ImageNet's."""
    mean = (config.get("preprocessor") or {}).get("image_mean", [0.485, 0.456, 0.406])
    if [round(m, 3) for m in mean] != [0.485, 0.456, 0.406]:
        raise CheckpointError(f"This {model} has image_mean {mean}, but {trunk} ImageNet's.")
