"""OpenVINO models in int8, by NNCF's post-training quantisation.

Shape legend: H×W pixels.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from torch import Tensor

from queryseg.errors import InputError, reason_of
from queryseg.export.export_format import require
from queryseg.export.onnx_format import node_scopes, stem_nodes

_DECODER = "engine.model.decoder"


def quantized(model: Any, images: Sequence[Tensor], in_float: AbstractSet[str]) -> Any:
    """An openvino.Model whose matrix products and convolutions are int8, with SmoothQuant, as NNCF does transformers.

    images    each (1, 3, H, W) uint8
    in_float  nodes that are left alone, see `float_nodes`

    Raises: InputError if NNCF is not installed, or cannot do it
    """
    nncf = require("nncf", "openvino in int8")
    kept = set()
    for node in model.get_ordered_ops():
        unnamed = node.get_type_name().startswith("Convolution")  # its bias, an addition of its own, took the name
        users = {user.get_node().get_friendly_name() for out in node.outputs() for user in out.get_target_inputs()}
        if node.get_friendly_name() in in_float or (unnamed and users & in_float):
            kept.add(node.get_friendly_name())
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # its progress bars
            return nncf.quantize(
                model,
                nncf.Dataset([image.numpy() for image in images]),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,  # activations of GELU are not symmetric
                subset_size=len(images),
                ignored_scope=nncf.IgnoredScope(names=sorted(kept)),
            )
    except RuntimeError as error:
        raise InputError(f"This model cannot be quantised ({reason_of(error)}); export it with bf16.") from error


def float_nodes(proto: Any) -> set[str]:
    """Names of an ONNX model's nodes that int8 leaves in float.

    - the backbone's stem: eight bits over the range of all weathers leave dark images few steps. On a QPrompt of
      generated streets the stem alone makes nearly all of int8's error, and the other layers nearly none.
    - the decoder (QPrompt's and EoMT's last blocks, heads, upsampler, product of embeddings and features) and the
      readout: they are a small part of the work and decide where borders lie.
    """
    scopes = node_scopes(proto)
    outside = {name for name, path in scopes.items() if f"'{_DECODER}'" in path or "'engine.model." not in path}
    return outside | stem_nodes(proto)
