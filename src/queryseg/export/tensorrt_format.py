"""TensorRT engines, for NVIDIA's GPUs.

Written against TensorRT 10's Python API and documentation. Not run: the tests drive it with a stand-in for the
package; the parity gate compares every engine with its run on the machine that builds it.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import CheckpointError, InputError
from queryseg.export.export_format import ExportFormat, Runner, Save, damaged, require
from queryseg.export.export_record import ExportRecord
from queryseg.export.exported_graph import Traced
from queryseg.export.onnx_format import onnx_model, save_onnx
from queryseg.inference.predictor import find_device

LARGEST_BATCH = 16
Shape = tuple[int, int, int, int]


class TensorRtFormat(ExportFormat):
    """.engine, as `trtexec --loadEngine` takes it, with the record in NAME.engine.json beside it.

    An engine belongs to the kind of GPU and the version of TensorRT that built it. fp32 is a strongly typed network
    without TF32; of fp16 and bf16 TensorRT chooses the layers. A dynamic batch has 1 to 16 images; sizes are fixed.
    """

    name, suffix = "tensorrt", ".engine"
    precisions = ("fp32", "fp16", "bf16")
    library, extra = "tensorrt", "tensorrt"

    def check(self, record: ExportRecord) -> None:
        trt = require(self.library, self.name, self.extra)
        find_device("cuda")
        if record.precision != "fp32" and not hasattr(trt.BuilderFlag, record.precision.upper()):
            raise InputError(f"TensorRT {trt.__version__} has no flag for {record.precision}; use TensorRT 10 or fp32.")
        if record.dynamic_size:
            raise InputError("TensorRT engines have one size of images; export one file per size.")

    def convert(self, traced: Traced, record: ExportRecord, images: Sequence[Tensor] = ()) -> Save:
        trt = require(self.library, self.name, self.extra)
        proto = onnx_model(traced, record)
        bytes_from_floats(proto)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            save_onnx(proto, path)
            plan = _build(trt, path, record)

        def save(path: Path, record: ExportRecord) -> None:
            path.write_bytes(plan)
            _record_of(path).write_text(record.dumps())

        return save

    def open(self, path: Path, device: str) -> TensorRtRunner:
        trt = require(self.library, self.name, self.extra)
        where = find_device("cuda" if device == "auto" else device)
        if where.type != "cuda":
            raise InputError(f"TensorRT engines run on NVIDIA's GPUs only, not on '{device}'; use --device cuda.")
        record = self.read_record(path)
        with torch.cuda.device(where):
            engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(path.read_bytes())
            context = None if engine is None else engine.create_execution_context()
        if context is None:
            made = record.versions.get(self.library, "unknown")
            raise damaged(
                path, RuntimeError(f"or made for another GPU or TensorRT: made by {made}, here {trt.__version__}")
            )
        return TensorRtRunner(engine, context, record, where)

    def read_record(self, path: Path) -> ExportRecord:
        """Raises: CheckpointError"""
        try:
            return ExportRecord.loads(_record_of(path).read_text(), path)
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(
                f"The record of {path}, {_record_of(path).name}, cannot be read ({type(error).__name__}); keep both "
                "together."
            ) from None

    def _companions(self, path: Path) -> list[Path]:
        return [_record_of(path)]


class TensorRtRunner(Runner):
    """An execution context on torch's current stream; images and labels stay on the GPU."""

    def __init__(self, engine: Any, context: Any, record: ExportRecord, device: torch.device) -> None:
        self.engine, self.context = engine, context  # a context does not keep its engine alive
        self.record, self.device = record, device

    def run(self, images: Tensor) -> Sequence[Tensor]:
        parts = [self._run(part.contiguous()) for part in torch.split(images, LARGEST_BATCH)]
        return [torch.cat(list(same)) for same in zip(*parts, strict=True)]

    def _run(self, images: Tensor) -> list[Tensor]:
        self.context.set_input_shape("images", tuple(images.shape))
        self.context.set_tensor_address("images", images.data_ptr())
        outputs = []
        for name in self.record.output_names:
            dtype = torch.uint8 if name == "labels" else torch.float32
            outputs.append(torch.empty(tuple(self.context.get_tensor_shape(name)), dtype=dtype, device=self.device))
            self.context.set_tensor_address(name, outputs[-1].data_ptr())
        with torch.cuda.device(self.device):
            if not self.context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
                raise InputError(f"TensorRT could not run images of {tuple(images.shape)}; its log says why.")
        return outputs


def profile_shapes(record: ExportRecord) -> tuple[Shape, Shape, Shape]:
    """Smallest, most usual and largest shape of `images`."""
    largest = LARGEST_BATCH if record.dynamic_batch else 1
    return (1, 3, *record.size), (1, 3, *record.size), (largest, 3, *record.size)


def bytes_from_floats(proto: Any) -> None:
    """Cast to uint8 by way of float32, in place: TensorRT makes bytes of floats only, and argmax gives integers."""
    onnx = require("onnx", "tensorrt")
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        kinds = [attribute.i for attribute in node.attribute if attribute.name == "to"]
        if node.op_type == "Cast" and kinds == [onnx.TensorProto.UINT8]:
            between = f"{node.output[0]}_float"
            proto.graph.node.append(
                onnx.helper.make_node("Cast", [node.input[0]], [between], to=onnx.TensorProto.FLOAT)
            )
            node.input[0] = between
        proto.graph.node.append(node)


def _build(trt: Any, path: Path, record: ExportRecord) -> bytes:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    half = None if record.precision == "fp32" else record.precision.upper()
    network = builder.create_network(0 if half else 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        reason = parser.get_error(0).desc() if parser.num_errors else "it gives no reason"
        raise InputError(f"TensorRT cannot read this model ({reason}); export it with --format onnx.")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if half:
        config.set_flag(getattr(trt.BuilderFlag, half))
    profile = builder.create_optimization_profile()
    profile.set_shape("images", *profile_shapes(record))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise InputError("TensorRT could not build this model, its log says why; export it with --format onnx.")
    return bytes(plan)


def _record_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
