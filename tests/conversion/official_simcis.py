"""Writes a SimCIS of queryseg under the names of its authors' files, module by module.

Names of the predictor: those of the golden numbers (`tests/parity/simcis`), aliases included; of the pixel decoder and
the trunk: Mask2Former's and detectron2's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .official_faseg import decoder, pixel_decoder, resnet
from .official_mask2former import State, put


def predictor(model: Any) -> State:
    """Selection, decoder and heads; the one box MLP under its own name and under one for each layer."""
    queries, heads = model.queries, model.decoder.heads
    state = decoder(model.decoder, model.pixel_decoder)
    place = "sem_seg_head.predictor"
    put(state, f"{place}.enc_output", queries.project)
    put(state, f"{place}.encoder_norm", queries.norm)
    put(state, f"{place}.ref_point_head", queries.box_position)
    put(state, f"{place}.query_scale", queries.position_scale)
    put(state, f"{place}._bbox_embed", heads.box_embed)
    for index in range(len(model.decoder.layers)):
        put(state, f"{place}.bbox_embed.{index}", heads.box_embed)
    return state


def official(model: Any) -> dict[str, Tensor]:
    """The whole file's tensors."""
    state = {**pixel_decoder(model.pixel_decoder), **predictor(model), **resnet(model)}
    state["criterion.empty_weight"] = torch.ones(model.decoder.heads.class_embed.out_features + 1)
    return state
