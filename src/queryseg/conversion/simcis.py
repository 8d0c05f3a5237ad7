"""SimCIS as its authors train it, on detectron2: Mask2Former's names, and those of its selection and its boxes.

Their code was not read: names and shapes are those of the golden numbers that queryseg is compared with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from queryseg.conversion.converted import Converted, Rules, answerable, known_classes, required, run_recipe
from queryseg.conversion.mask2former_detectron2 import HEAD, PREDICTOR, renamed
from queryseg.conversion.mask2former_model import mask2former_model
from queryseg.errors import CheckpointError
from queryseg.types import Task

_OWN: Rules = (
    (PREDICTOR + r"enc_output\.(.+)", r"queries.project.\1"),
    (PREDICTOR + r"encoder_norm\.(.+)", r"queries.norm.\1"),
    (PREDICTOR + r"ref_point_head\.(.+)", r"queries.box_position.\1"),
    (PREDICTOR + r"query_scale\.(.+)", r"queries.position_scale.\1"),
    (PREDICTOR + r"_bbox_embed\.(.+)", r"decoder.heads.box_embed.\1"),
)
_SAME_BOXES = re.compile(PREDICTOR + r"bbox_embed\.\d+\.(.+)")
"""The box MLP once more, under the name of every layer."""
_NUM_QUERIES = 100
_THRESHOLDS = {"object_threshold": 0.25, "overlap_threshold": 0.8, "semantic_threshold": 0.4}
_TASKS: Mapping[str, tuple[Task, int]] = {"resnet50": ("panoptic", 640), "resnet101": ("semantic", 512)}
"""Trunk → what the authors train it for, short side (pixels) of images."""


def convert(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Converted:
    """The same model as PyramidBackbone, Deformable, PixelSelectedQueries, CrossAttention with BoxHeads and
    RegionAssembly. What weights do not tell is as published (`Converted.assumed`).

    config: as in `PublishedCheckpoint`; only names of classes are read.

    Raises: CheckpointError for missing tensors, and for boxes that every layer predicts in its own way
    """
    weights, backbone, left_over = renamed(tensors, (*_OWN, *HEAD))
    _check_boxes(tensors, weights)
    arguments = backbone["init_args"] = {**backbone["init_args"], "frozen_norms": True}
    task, short_side = _TASKS[arguments["name"]]
    queries = {"class_path": "queryseg.queries.PixelSelectedQueries", "init_args": {"num_queries": _NUM_QUERIES}}
    model = mask2former_model(weights, backbone, queries=queries)
    model["decoder"]["init_args"] |= {"order": "self_first", "heads": "queryseg.decoders.BoxHeads"}
    model["readout"] = {"class_path": "queryseg.readouts.RegionAssembly", "init_args": dict(_THRESHOLDS)}
    classes, _ = known_classes(config, len(required(weights, "decoder.heads.class_embed.bias")))
    recipe = run_recipe(model, classes, answerable(task, classes), {"short_side": short_side})
    assumed = (
        f"{_NUM_QUERIES} queries",
        f"{task}, as its authors train {arguments['name']}",
        *(f"{name} {value}" for name, value in _THRESHOLDS.items()),
    )
    return Converted(recipe, weights, left_over, task=task, assumed=assumed)


def _check_boxes(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if (match := _SAME_BOXES.fullmatch(name)) is None:
            continue
        shared = required(weights, f"decoder.heads.box_embed.{match[1]}")
        if tensor.shape != shared.shape or not torch.equal(tensor.to(shared), shared):
            raise CheckpointError(
                f"In this SimCIS {name} is not {name.split('.bbox_embed.')[0]}._bbox_embed.{match[1]}, but one MLP "
                "predicts the boxes of all layers here; give a checkpoint of the published code."
            )
