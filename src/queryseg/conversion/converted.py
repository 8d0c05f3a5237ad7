"""What a foreign checkpoint becomes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from queryseg.data.class_table import CITYSCAPES, class_table
from queryseg.errors import CheckpointError
from queryseg.types import Task


@dataclass(frozen=True)
class Converted:
    """A run, as `inference.run_folder` writes and reads it.

    recipe     of `run_recipe`
    weights    under the names of the segmenter's state_dict
    left_over  names in the file that the model has no use for
    unexpected those of them that the layout does not know either
    layout     what the file is
    verified   whether names and shapes of the layout were read where its authors define them
    aside      what only further training and other class names read (`text_prompt.safetensors`)
    task       what it was trained for, where something other than class names tells; see `answerable`
    assumed    what nothing in the file tells and the recipe has as published, for messages
    """

    recipe: dict[str, Any]
    weights: dict[str, Tensor]
    left_over: tuple[str, ...]
    unexpected: tuple[str, ...] = ()
    layout: str = ""
    verified: bool = True
    aside: Mapping[str, Tensor] = field(default_factory=dict)
    task: Task | None = None
    assumed: tuple[str, ...] = ()

    @property
    def unnamed(self) -> bool:
        """Whether nothing tells what the classes are called."""
        names = class_table(self.recipe["classes"]).names
        return all(name == f"LABEL_{label}" for label, name in enumerate(names))


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


Classes = str | list[str] | dict[str, Any]
"""`classes` of a recipe; see `class_table`."""


def known_classes(config: Mapping[str, Any], num_classes: int) -> tuple[Classes, Task]:
    """`classes` of a recipe, and the task that they show.

    Names are those of config.json, in label order, each once: ADE20K has two screens. Without any, published models of
    19 classes know Cityscapes', of 80 COCO's objects, of 133 COCO panoptic's, of 150 ADE20K's; others get LABEL_0,
    LABEL_1 … (`Converted.unnamed`).

    Checkpoints do not say which classes are things. The names of a table stand for it, with its colours and things;
    COCO's objects are things wherever all of them occur. With 133 classes these are a panoptic model's, alone an
    instance model's. All else is assumed to be semantic, though models of Cityscapes and ADE20K may be panoptic.
    """
    coco, ade20k = class_table("coco_panoptic"), class_table("ade20k")
    objects = tuple(coco.names[label] for label in sorted(coco.things))
    published = {len(names): names for names in (CITYSCAPES.names, objects, coco.names, ade20k.names)}
    given = {str(label): str(name) for label, name in (config.get("id2label") or {}).items()}
    names: list[str] = [] if given else list(published.get(num_classes, ()))
    for label in range(len(names), num_classes):
        name = given.get(str(label), f"LABEL_{label}")
        names.append(f"{name} ({label})" if name in names else name)

    has_objects = set(objects) <= set(names)
    tasks: dict[int, Task] = {len(objects): "instance", len(coco): "panoptic"}
    task = tasks.get(num_classes, "semantic") if has_objects else "semantic"
    table = next((table.name for table in (CITYSCAPES, coco, ade20k) if table.names == tuple(names)), None)
    if table is not None:
        return table, task
    if not has_objects:
        return names, task
    name = "coco_objects" if num_classes == len(objects) else "custom"
    return {"name": name, "names": names, "things": list(objects)}, task


def run_recipe(
    model: Mapping[str, Any], classes: Classes, task: Task = "semantic", protocol: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The recipe of a run. protocol: how images are shown to it, as in `data.protocol`; None: it is not known."""
    data = {**({} if task == "semantic" else {"task": task}), **({"protocol": dict(protocol)} if protocol else {})}
    return {"classes": classes, "model": dict(model), **({"data": data} if data else {})}


def answerable(task: Task, classes: Classes) -> Task:
    """The task, or without things among the classes "semantic"."""
    return task if class_table(classes).things else "semantic"


def check_mean(config: Mapping[str, Any], model: str, trunk: str) -> None:
    """Raises: CheckpointError if images were normalised with another mean than ImageNet's."""
    mean = (config.get("preprocessor") or {}).get("image_mean", [0.485, 0.456, 0.406])
    if [round(m, 3) for m in mean] != [0.485, 0.456, 0.406]:
        raise CheckpointError(f"This {model} has image_mean {mean}, but {trunk} ImageNet's.")
