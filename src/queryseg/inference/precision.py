"""In which arithmetic a model predicts."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, get_args

import torch
from torch import nn

from queryseg.errors import InputError
from queryseg.segmenter import Segmenter

InferencePrecision = Literal["fp32", "tf32", "bf16", "fp16"]
"""tf32: products of float32 matrices with 10 bits of mantissa, on NVIDIA GPUs since Ampere. bf16, fp16: products and
convolutions in half precision, sums, norms and softmax in float32 (torch's autocast); the stem (patches to tokens; dark
pixels lie close together) and the readout in float32."""

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)


def check_precision(precision: str, device: torch.device) -> None:
    """Raises: InputError for a name that there is not, or a device that cannot"""
    if precision not in get_args(InferencePrecision):
        known = ", ".join(get_args(InferencePrecision))
        raise InputError(f"There is no precision '{precision}'; choose from: {known}.")
    if precision == "tf32" and device.type != "cuda":
        raise InputError(f"Precision tf32 needs an NVIDIA GPU, but the device is {device}; choose fp32 or bf16.")


def half_precision(precision: InferencePrecision, device: torch.device) -> AbstractContextManager[None]:
    """Part of the graph: what is computed inside is in half precision where the precision says so and it is safe."""
    return torch.autocast(device.type, HALF[precision]) if precision in HALF else nullcontext()


@contextmanager
def matrix_products(precision: InferencePrecision) -> Iterator[None]:
    """Around the graph: how the process multiplies float32 matrices; its settings come back afterwards."""
    if precision != "tf32":
        yield
        return
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = matmul.fp32_precision, conv.fp32_precision
    matmul.fp32_precision = conv.fp32_precision = "tf32"
    try:
        yield
    finally:
        matmul.fp32_precision, conv.fp32_precision = before


def with_weights_in(precision: InferencePrecision, model: Segmenter) -> Segmenter:
    """A copy whose weights of matrix products behind the stem have half precision, so that they are not converted in
    every forward pass; the model itself for full precision."""
    if precision not in HALF:
        return model
    model = copy.deepcopy(model)
    stem = set(model.backbone.sections()[0].modules())
    for module in model.modules():
        if isinstance(module, _PRODUCTS) and module not in stem:
            module.to(HALF[precision])
    return model
