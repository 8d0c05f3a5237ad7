"""TensorRT's package is absent here, so a stand-in takes its place: its plans are ONNX files, run on the CPU by ONNX
Runtime, through the same addresses, shapes and calls. What TensorRT itself makes of a model is left to the gate."""

from __future__ import annotations

import ctypes
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import queryseg
from queryseg.data.streets import Streets
from queryseg.errors import CheckpointError, InputError
from queryseg.export import tensorrt_format
from queryseg.inference.engine import Engine

from .conftest import SIZE, Scenes, export

LARGEST = tensorrt_format.LARGEST_BATCH


class Context:
    """Reads and writes memory at the addresses that it was given."""

    def __init__(self, plan):
        import onnxruntime

        self.session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.shapes, self.addresses = {}, {}

    def set_input_shape(self, name, shape):
        assert shape[0] <= LARGEST, "beyond the profile"
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name):
        batch, _, height, width = self.shapes["images"]
        return (batch, height, width) if name == "labels" else (batch, 3, height, width)

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        assert stream == 7
        shape = self.shapes["images"]
        size = int(np.prod(shape))
        images = np.frombuffer(ctypes.string_at(self.addresses["images"], size), np.uint8).reshape(shape)
        names = [output.name for output in self.session.get_outputs()]
        for name, output in zip(names, self.session.run(names, {"images": images}), strict=True):
            assert output.dtype == (np.uint8 if name == "labels" else np.float32)
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(output).tobytes(), output.nbytes)
        return True


def stand_in(calls):
    """The module `tensorrt` as far as it is used."""

    class Config:
        def set_flag(self, flag):
            calls["set"] = flag

        def clear_flag(self, flag):
            calls["cleared"] = flag

        def add_optimization_profile(self, profile):
            calls["profile"] = profile.shapes

    class Profile:
        def set_shape(self, name, *shapes):
            self.shapes = {name: shapes}

    class Network:
        plan = None

    class Builder:
        def __init__(self, logger):
            pass

        def create_network(self, flags):
            calls["flags"] = flags
            return Network()

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            return network.plan

    class OnnxParser:
        num_errors = 1

        def __init__(self, network, logger):
            self.network = network

        def parse_from_file(self, path):
            self.network.plan = Path(path).read_bytes()
            return not calls.get("refuses")

        def get_error(self, index):
            return SimpleNamespace(desc=lambda: "no operator Foo")

    class Runtime:
        def __init__(self, logger):
            pass

        def deserialize_cuda_engine(self, plan):
            return SimpleNamespace(create_execution_context=lambda: Context(plan)) if plan[:4] != b"none" else None

    return SimpleNamespace(
        __version__="10.9.0",
        Builder=Builder,
        OnnxParser=OnnxParser,
        Runtime=Runtime,
        Logger=type("Logger", (), {"ERROR": 1, "__init__": lambda self, level: None}),
        BuilderFlag=SimpleNamespace(TF32="TF32", FP16="half"),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
    )


@pytest.fixture
def calls(monkeypatch):
    """A machine with the stand-in, whose GPU is the CPU's memory."""
    pytest.importorskip("onnxruntime")
    calls = {}
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(calls))
    cuda = SimpleNamespace(type="cuda")
    monkeypatch.setattr(tensorrt_format, "find_device", lambda name: cuda if "cuda" in name else torch.device(name))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    monkeypatch.setattr(tensorrt_format, "TensorRtRunner", on_the_cpu)
    return calls


def on_the_cpu(engine, context, record, device):
    return RUNNER(engine, context, record, torch.device("cpu"))


RUNNER = tensorrt_format.TensorRtRunner


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_file_keeps_its_record_beside_it(qprompt, calls, precision, tmp_path):
    path = tmp_path / "model.engine"
    options = {"dynamic_batch": True, "scores": True, "datasets": {"scenes": Scenes()}, "precision": precision}
    report = export(qprompt, path, "tensorrt", **options)
    assert report.passed
    assert calls["flags"] == (1 << 1 if precision == "fp32" else 0), "strongly typed"
    assert calls.get("set") == (None if precision == "fp32" else "half")
    assert calls["cleared"] == "TF32"
    assert calls["profile"] == {"images": ((1, 3, *SIZE), (1, 3, *SIZE), (LARGEST, 3, *SIZE))}
    assert {file.name for file in tmp_path.iterdir()} == {"model.engine", "model.engine.json"}
    engine = queryseg.load(path).engine
    assert (engine.record.precision, engine.record.versions["tensorrt"]) == (precision, "10.9.0")
    image = Streets("clear", 1, 2_000_000, SIZE)[0].image
    images = image.expand(LARGEST + 2, -1, -1, -1)
    with torch.no_grad():
        expected = Engine(qprompt)(image[None])
    assert engine(images).shape == (LARGEST + 2, *SIZE)
    assert (engine(images) == expected).float().mean() > 0.995

    with pytest.raises(InputError, match="NVIDIA's GPUs only"):
        queryseg.load(path, device="cpu")
    path.write_bytes(b"none")
    with pytest.raises(CheckpointError, match=r"made by 10\.9\.0") as caught:
        queryseg.load(path)
    assert "\n" not in str(caught.value)
    path.with_name("model.engine.json").unlink()
    with pytest.raises(CheckpointError, match="keep both together"):
        queryseg.load(path)


def test_what_tensorrt_refuses(qprompt, calls, tmp_path):
    with pytest.raises(InputError, match="one size of images"):
        export(qprompt, tmp_path / "m.engine", "tensorrt", dynamic_size=True)
    with pytest.raises(InputError, match="no flag for bf16"):
        export(qprompt, tmp_path / "m.engine", "tensorrt", precision="bf16")
    calls["refuses"] = True
    with pytest.raises(InputError, match="no operator Foo"):
        export(qprompt, tmp_path / "m.engine", "tensorrt")
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_has_a_fixed_profile(qprompt):
    record = SimpleNamespace(size=(64, 96), dynamic_batch=False)
    assert set(tensorrt_format.profile_shapes(record)) == {(1, 3, 64, 96)}


def test_without_the_package_or_a_gpu(qprompt, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(InputError, match=r"pip install 'queryseg\[tensorrt\]'"):
        export(qprompt, tmp_path / "m.engine", "tensorrt")
    (tmp_path / "m.engine").write_bytes(b"plan")
    with pytest.raises(InputError, match=r"pip install 'queryseg\[tensorrt\]'"):
        queryseg.load(tmp_path / "m.engine")
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in({}))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="Device 'cuda' cannot be used here"):
            export(qprompt, tmp_path / "m.engine", "tensorrt")
