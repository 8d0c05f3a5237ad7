"""What a foreign checkpoint becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from queryseg.data.class_table import CITYSCAPES
from queryseg.errors import CheckpointError
from queryseg.types import Task

COCO_OBJECTS: tuple[str, ...] = tuple(
    name for name in MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"] if name not in ("__background__", "N/A")
)
"""The 80 classes of COCO's objects, in order."""
_COCO_PANOPTIC = 133


@dataclass(frozen=True)
class Converted:
    """A run, as `inference.run_folder` writes and reads it.

    recipe     `classes` and `model`, and `data.protocol` where the checkpoint says how images are shown to it
    weights    under the names of the segmenter's state_dict
    left_over  names in the file that the model has no use for
    """

    recipe: dict[str, Any]
    weights: dict[str, Tensor]
    left_over: tuple[str, ...]


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


def class_names(config: Mapping[str, Any], num_classes: int) -> list[str]:
    """Of config.json, in label order, each once: ADE20K has two screens."""
    given = {str(label): str(name) for label, name in (config.get("id2label") or {}).items()}
    names: list[str] = []
    for label in range(num_classes):
        name = given.get(str(label), f"LABEL_{label}")
        names.append(f"{name} ({label})" if name in names else name)
    return names


def known_classes(names: Sequence[str]) -> tuple[str | list[str] | dict[str, Any], Task]:
    """What a recipe's `classes` says of these names, and the task that they show.

    Checkpoints do not say which classes are things. Cityscapes' 19 names are its class table, and a model of them may
    be semantic or panoptic (semantic is assumed). COCO's objects are things wherever all of them occur; its 133
    classes are those of a panoptic model, its 80 objects alone those of an instance model. Other names have no
    things: `queryseg convert --things` names them.
    """
    if tuple(names) == CITYSCAPES.names:
        return CITYSCAPES.name, "semantic"
    if not set(COCO_OBJECTS) <= set(names):
        return list(names), "semantic"
    tasks: dict[int, Task] = {len(COCO_OBJECTS): "instance", _COCO_PANOPTIC: "panoptic"}
    return {"names": list(names), "things": list(COCO_OBJECTS)}, tasks.get(len(names), "semantic")


def check_mean(config: Mapping[str, Any], model: str, trunk: str) -> None:
    """Raises: CheckpointError if images were normalised with another mean than ImageNet's."""
    mean = (config.get("preprocessor") or {}).get("image_mean", [0.485, 0.456, 0.406])
    if [round(m, 3) for m in mean] != [0.485, 0.456, 0.406]:
        raise CheckpointError(f"This {model} has image_mean {mean}, but {trunk} ImageNet's.")
