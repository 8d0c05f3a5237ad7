"""OpenVINO files, for Intel's processors.

Shape legend: B images, H×W pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor

from queryseg.errors import InputError, reason_of
from queryseg.export.export_format import ExportFormat, Runner, Save, damaged, require
from queryseg.export.export_record import KEY, ExportRecord
from queryseg.export.exported_graph import Traced
from queryseg.export.onnx_format import onnx_model, save_onnx, stem_nodes
from queryseg.export.quantization import float_nodes, quantized

_PRECISIONS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "bf16"}
"""In which an opened file computes where the device can; of int8, what is not quantised."""


class OpenVinoFormat(ExportFormat):
    """.xml with its weights in .bin, by way of ONNX, which keeps the shapes that are fixed.

    fp32 is computed in float32 even where OpenVINO would choose less by itself. bf16 is computed in bfloat16 on devices
    that have it; weights stay float32. fp16 halves the weights and is computed in half precision on devices that have
    it. Elsewhere both are computed in float32. Normalisation and the backbone's stem are marked in the file to stay in
    float32: half precision there would merge the grey levels of dark images.
    """

    name, suffix = "openvino", ".xml"
    precisions = ("fp32", "bf16", "fp16", "int8")
    library = "openvino"

    def check(self, record: ExportRecord) -> None:
        if record.precision == "bf16" and not _computes(require("openvino", self.name).Core(), "CPU", "bf16"):
            raise InputError(
                "This machine's processor does not compute in bf16, so the file could not be compared with the run; "
                "export it on a machine that does, or with --precision fp32."
            )
        if record.precision == "int8":
            require("nncf", f"{self.name} in int8")

    def convert(self, traced: Traced, record: ExportRecord, images: Sequence[Tensor] = ()) -> Save:
        openvino = require("openvino", self.name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            proto = onnx_model(traced, record)
            save_onnx(proto, path)
            try:
                model = openvino.Core().read_model(str(path)).clone()
                if record.precision == "int8":
                    model = quantized(model, images, float_nodes(proto))
                openvino.save_model(model, str(path.with_suffix(".xml")), compress_to_fp16=record.precision == "fp16")
                xml = in_float32(path.with_suffix(".xml").read_bytes(), stem_nodes(proto))
                content = xml, path.with_suffix(".bin").read_bytes()
            except RuntimeError as error:
                raise InputError(f"This model has no OpenVINO form ({reason_of(error)}); try --format onnx.") from error

        def save(path: Path, record: ExportRecord) -> None:
            named = openvino.Core().read_model(*content)
            named.set_rt_info(record.dumps(), KEY)
            openvino.serialize(named, str(path))

        return save

    def open(self, path: Path, device: str) -> OpenVinoRunner:
        openvino = require("openvino", self.name)
        core = openvino.Core()
        known = core.available_devices
        wanted = "CPU" if device == "auto" else device.upper()
        if wanted not in known:
            raise InputError(f"OpenVINO cannot use device '{device}' here; it has: {', '.join(known)}.")
        try:
            model = core.read_model(str(path))
            text = model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None
        except RuntimeError as error:
            raise damaged(path, error) from None
        record = ExportRecord.loads(text, path)
        hint = _PRECISIONS[record.precision]
        hint = hint if _computes(core, wanted, hint) else "f32"
        try:
            compiled = core.compile_model(model, wanted, {"INFERENCE_PRECISION_HINT": hint})
        except RuntimeError as error:
            raise damaged(path, error) from None
        return OpenVinoRunner(compiled, record)

    def _companions(self, path: Path) -> list[Path]:
        return [path.with_suffix(".bin")]


class OpenVinoRunner(Runner):
    """A compiled model; images and labels pass through the CPU's memory."""

    def __init__(self, compiled: Any, record: ExportRecord) -> None:
        self.compiled, self.record = compiled, record

    def run(self, images: Tensor) -> Sequence[Tensor]:
        outputs = self.compiled(images.numpy())
        return [torch.from_numpy(outputs[name].copy()) for name in self.record.output_names]


def in_float32(xml: bytes, nodes: AbstractSet[str]) -> bytes:
    """The file's text with these nodes marked to stay in float32 whatever the rest is computed in.

    Written as text because Python has no word for the mark. A convolution with a bias becomes two layers, of which the
    addition takes the name.
    """
    root = ElementTree.fromstring(xml)
    for layer in root.iterfind("layers/layer"):
        if layer.get("name", "").removesuffix("/WithoutBiases") in nodes and layer.get("type") != "Const":
            info = layer.find("rt_info")
            if info is None:
                info = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, info)
            ElementTree.SubElement(info, "attribute", {"name": "precise", "version": "0"})
    marked: bytes = ElementTree.tostring(root)
    return marked


def _computes(core: Any, device: str, precision: str) -> bool:
    """OpenVINO names capabilities FP32, FP16, BF16, and precisions f32, f16, bf16."""
    names = {"f32": "FP32", "f16": "FP16", "bf16": "BF16"}
    return names[precision] in core.get_property(device, "OPTIMIZATION_CAPABILITIES")
