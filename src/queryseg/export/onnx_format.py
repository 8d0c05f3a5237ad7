"""ONNX files, run by ONNX Runtime.

Shape legend: B images, H×W pixels.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import InputError, reason_of
from queryseg.export.export_format import ExportFormat, Runner, Save, damaged, require
from queryseg.export.export_record import KEY, ExportRecord
from queryseg.export.exported_graph import Traced, quiet

_LARGEST_MESSAGE = 2**31 - 2**20
"""Bytes; protobuf holds no more, so weights of larger models go to a file beside."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_BLOCKS = ("'engine.model.backbone.blocks", "'engine.model.backbone.net")
Translations = Mapping[Any, Callable[..., Any]]
"""ATen operation → how to write it in ONNX."""


class OnnxFormat(ExportFormat):
    """.onnx, by torch's dynamo exporter; weights of models over 2 GiB in NAME.onnx.data beside it.

    Sigmoids are written as 1 / (1 + exp(−x)): ONNX Runtime's own on CPUs is a rational approximation, 47 % off at −16
    and zero below −18, so that where no query claims a pixel all classes would score the same.
    """

    name, suffix = "onnx", ".onnx"
    precisions = ("fp32",)
    library = "onnx"

    def convert(self, traced: Traced, record: ExportRecord, images: Sequence[Tensor] = ()) -> Save:
        require("onnx", self.name)
        proto = onnx_model(traced, record, {torch.ops.aten.sigmoid.default: _sigmoid})

        def save(path: Path, record: ExportRecord) -> None:
            del proto.metadata_props[:]
            proto.metadata_props.add(key=KEY, value=record.dumps())
            save_onnx(proto, path)

        return save

    def open(self, path: Path, device: str) -> OnnxRunner:
        runtime = require("onnxruntime", self.name)
        known = runtime.get_available_providers()
        wanted = "CUDAExecutionProvider" if device.startswith("cuda") else "CPUExecutionProvider"
        if device == "auto" and "CUDAExecutionProvider" in known:
            wanted = "CUDAExecutionProvider"
        if wanted not in known or (device not in ("auto", "cpu") and not device.startswith("cuda")):
            raise InputError(f"ONNX Runtime cannot use device '{device}' here; it has: {', '.join(known)}; try 'cpu'.")
        try:
            session = runtime.InferenceSession(str(path), providers=list(dict.fromkeys([wanted, known[-1]])))
        except Exception as error:  # pybind exceptions without a common base
            raise damaged(path, error) from None
        return OnnxRunner(session, ExportRecord.loads(session.get_modelmeta().custom_metadata_map.get(KEY), path))

    def _companions(self, path: Path) -> list[Path]:
        return [path.with_name(f"{path.name}.data")]


class OnnxRunner(Runner):
    """A session; images and labels pass through the CPU's memory."""

    def __init__(self, session: Any, record: ExportRecord) -> None:
        self.session, self.record = session, record

    def run(self, images: Tensor) -> Sequence[Tensor]:
        outputs = self.session.run(self.record.output_names, {"images": images.numpy()})
        return [torch.from_numpy(output) for output in outputs]


def onnx_model(traced: Traced, record: ExportRecord, translations: Translations | None = None) -> Any:
    """The ModelProto of a traced model, with the names `images`, `labels`[, `scores`].

    translations  instead of torch's own

    Raises: InputError if an operation has no counterpart, or a package is not installed
    """
    require("onnxscript", "onnx")
    try:
        with quiet():
            program = torch.onnx.export(
                traced.program,
                (traced.example,),
                dynamo=True,
                input_names=["images"],
                output_names=record.output_names,
                custom_translation_table=dict(translations or {}),
                verbose=False,
            )
    except Exception as error:  # torch raises its own kinds, by version
        raise InputError(
            f"This model has no ONNX form ({type(error).__name__}: {reason_of(error)}); export it with --format torch."
        ) from error
    assert program is not None, "the dynamo exporter returns a program"
    return program.model_proto


def node_scopes(proto: Any) -> dict[str, str]:
    """Node → the modules that it comes from, as torch writes them: "['', 'engine', 'engine.model.backbone', …]"."""
    return {
        node.name: next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        for node in proto.graph.node
    }


def stem_nodes(proto: Any) -> set[str]:
    """Names of the nodes from the image to the first block's tokens: normalisation, the backbone's stem, positions."""
    before = itertools.takewhile(
        lambda item: not any(block in item[1] for block in _BLOCKS), node_scopes(proto).items()
    )
    return {name for name, _ in before}


def save_onnx(proto: Any, path: Path) -> None:
    """Write a ModelProto, large weights beside it."""
    large = proto.ByteSize() > _LARGEST_MESSAGE
    require("onnx", "onnx").save(proto, path, save_as_external_data=large, location=f"{path.name}.data")


def _sigmoid(x: Any) -> Any:
    op = importlib.import_module("onnxscript").opset18
    return op.Reciprocal(op.Add(op.Exp(op.Neg(x)), op.Constant(value_float=1.0)))
