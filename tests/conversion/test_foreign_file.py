"""Weight files of every kind are read, and nothing in them runs."""

from __future__ import annotations

import codecs
import collections
import os
import pickle
import sys
import types
import warnings
import zipfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from queryseg.conversion.foreign_file import read_foreign_file
from queryseg.errors import CheckpointError

WEIGHTS = {"a.weight": torch.randn(3, 4).T, "a.bias": torch.randn(3).half(), "b.count": torch.tensor(7)}


def assert_weights(found: Any, expected: Any = WEIGHTS) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


# ───────────────────────────── honest files ─────────────────────────────


@pytest.fixture
def foreign_module(monkeypatch):
    """A module whose classes exist while a file is written and not while it is read, as mmengine's."""
    module = types.ModuleType("mmengine_stand_in")
    source = """
class HistoryBuffer:
    def __init__(self, values): self.values = values
class ConfigDict(dict):
    pass
class Old:
    def __init__(self): self.x = 1
class Listed(list):
    pass
"""
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, "mmengine_stand_in", module)
    yield module
    assert "mmengine_stand_in" not in sys.modules, "reading imported a module that the file names"


def checkpoint_with_classes(module: Any) -> dict[str, Any]:
    state = torch.nn.Sequential(torch.nn.Linear(3, 4)).state_dict()  # an OrderedDict with attributes
    state.update(WEIGHTS)
    meta = {
        "history": module.HistoryBuffer(np.arange(4.0)),
        "config": module.ConfigDict(model={"type": "X"}),
        "rows": module.Listed([1, 2]),
        "set": {1, 2},
        "objects": np.array([{}, None], dtype=object),
        "score": np.float64(0.5),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "order": collections.OrderedDict([("x", 1)]),
    }
    return {"meta": meta, "state_dict": state, "message_hub": module.Old()}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_training_checkpoints_full_of_classes(zipped, foreign_module, tmp_path):
    path = tmp_path / "iter_40000.pth"
    content = checkpoint_with_classes(foreign_module)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    expected = dict(content["state_dict"])
    del sys.modules["mmengine_stand_in"]
    found = read_foreign_file(str(path))
    assert_weights(found.tensors, expected)
    assert "mmengine_stand_in.HistoryBuffer" in found.foreign
    assert "mmengine_stand_in.ConfigDict" in found.foreign
    assert found.kind == ("PyTorch" if zipped else "PyTorch (before 1.6)")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_plain_files_go_through_pytorchs_own_reader(zipped, tmp_path):
    torch.save({"model": WEIGHTS, "epoch": 3}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = read_foreign_file(str(tmp_path / "x.pth"))
    assert_weights(found.tensors)
    assert found.foreign == ()


def arrays() -> dict[str, np.ndarray]:
    return {
        "c": np.arange(12.0, dtype="f4").reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(6, dtype="i8").reshape(2, 3)),
        "swapped": np.arange(3, dtype=">f4"),
        "bool": np.array([True, False]),
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4), "f4"),
    }


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_detectron2s_model_zoo(protocol, tmp_path):
    content = {"model": {**arrays(), "names": np.array(["a"]), "step": 4}, "__author__": "third_party"}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_foreign_file(str(tmp_path / "R-50.pkl"))
    expected = {name: torch.from_numpy(v.astype(v.dtype.newbyteorder("="))) for name, v in arrays().items()}
    assert_weights(found.tensors, expected)
    assert found.others == ("names", "step")
    assert found.kind == "a pickle"


def test_arrays_that_python_2_wrote(tmp_path):
    """Their bytes are text of one byte each: numpy of Python 2 wrote SHORT_BINSTRING."""
    raw = np.arange(3, dtype="<f4").tobytes()
    program = (
        b"\x80\x02}U\x05conv1cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(raw)]) + raw + b"tbs."
    )
    (tmp_path / "py2.pkl").write_bytes(program)
    assert_weights(read_foreign_file(str(tmp_path / "py2.pkl")).tensors, {"conv1": torch.tensor([0.0, 1.0, 2.0])})


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + 1


class Scripted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.ModuleList([Inner()])
        self.weight = torch.nn.Parameter(torch.randn(3).half())
        self.register_buffer("table", torch.randn(2, 2))
        self.sizes = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.inner:
            x = layer(x)
        return x


def script(module: torch.nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but OpenAI's files are what they are
        return torch.jit.script(module)


def test_torchscript_archives_without_their_code(tmp_path):
    module = Scripted()
    script(module).save(str(tmp_path / "ViT-B-16.pt"))
    found = read_foreign_file(str(tmp_path / "ViT-B-16.pt"))
    assert found.kind == "TorchScript"
    assert_weights(dict(sorted(found.tensors.items())), dict(sorted(module.state_dict().items())))


# ───────────────────────────── malicious files ─────────────────────────────


class Call:
    """Pickled as a call of any function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.call = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.call


def attacks(trace: str) -> dict[str, Any]:
    """Each would leave a file `trace`."""
    touch = f"open({trace!r}, 'w').close()"
    evaluate = Call(eval, touch)
    return {
        "os.system": Call(os.system, f"touch {trace}"),
        "eval": evaluate,
        "exec": Call(exec, touch),
        "nested": Call(tuple, Call(map, Call(getattr, Call(__import__, "builtins"), "eval"), [touch])),
        "as a key": {Call(eval, touch): 1},
        "in a queue": collections.deque([evaluate], 3),
        "as a queue": Call(collections.deque, evaluate),
        "in a tensor": Call(torch._utils._rebuild_tensor_v2, evaluate, 0, (1,), (1,), False, {}),
        "as a type": Call(torch._tensor._rebuild_from_type_v2, eval, str, (touch,), {}),
        "torch.load": Call(torch.load, trace),
        "numpy's loader": Call(np.load, trace),
        "numpy's objects": np.array([evaluate], dtype=object),
        "numpy's constructor": Call(np._core.multiarray._reconstruct, Call(eval, touch), (0,), b"b"),
        "numpy's file": Call(np.memmap, trace, "u1", "w+", 0, (4,)),
        "codecs": Call(codecs.encode, touch, Call(eval, touch)),
        "state of a function": Call(eval, "1", state={"__code__": evaluate}),
        "import": Call(__import__, "antigravity"),
    }


@pytest.mark.parametrize("name", attacks("").keys())
@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_nothing_in_a_file_runs(name, form, tmp_path, monkeypatch):
    trace, path = tmp_path / "trace", tmp_path / "evil.pkl"
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)
    content = {"model": {"w": torch.ones(2)}, "evil": attacks(str(trace))[name]}
    if form == "pickle":
        content["model"] = {"w": np.ones(2)}
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with suppress(CheckpointError):
        found = read_foreign_file(str(path))
        torch.testing.assert_close(found.tensors["w"].double(), torch.ones(2, dtype=torch.float64))
    assert not trace.exists()
    assert "antigravity" not in sys.modules


def test_the_attacks_are_real(tmp_path):
    """Python's own unpickler runs them: a test that nothing runs would otherwise prove nothing."""
    for name in ("os.system", "eval", "exec", "nested", "as a key", "numpy's objects", "codecs"):
        trace = tmp_path / name.replace(" ", "_")
        try:
            pickle.loads(pickle.dumps(attacks(str(trace))[name]))
        except TypeError:
            assert name == "codecs"
        assert trace.exists(), name


class WritesWhenLoaded(torch.nn.Module):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.weight = torch.nn.Parameter(torch.ones(2))

    @torch.jit.export
    def __getstate__(self):
        return (self.weight, self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, str, bool]):
        self.weight = state[0]
        self.path = state[1]
        self.training = state[2]
        torch.save(state[0], state[1])

    def forward(self, x: Tensor) -> Tensor:
        return x


WritesWhenLoaded.__setstate__.__annotations__["state"] = tuple[Tensor, str, bool]


def test_torchscripts_own_code_does_not_run_either(tmp_path):
    """torch.jit.load would: it runs `__setstate__`, which may write files."""
    trace = tmp_path / "trace"
    script(WritesWhenLoaded(str(trace))).save(str(tmp_path / "evil.pt"))
    trace.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_foreign_file(str(tmp_path / "evil.pt"))
    assert not trace.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(tmp_path / "evil.pt"))
    assert trace.exists()


# ───────────────────────────── damaged files ─────────────────────────────

GLOBAL = b"\x80\x02c"
TENSOR = GLOBAL + b"torch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\x80\x02}.",
        b"\x80\x02]\x94h\x00a.",
        b"\x80\x02}q\x00U\x05modelh\x00s.",  # holds itself
        pickle.dumps({"model": {"w": np.ones(3)}})[:-9],
        GLOBAL + b"collections\nOrderedDict\n}b.",
        GLOBAL + b"collections\nOrderedDict\nN}U\x01ak\x01s\x86b.",
        GLOBAL + b"numpy\ndtype\nU\x02O8\x85R(tb.",
        GLOBAL + b"some.where\nClass\n}b.",
        GLOBAL + b"builtins\nset\nK\x05\x85R.",
        TENSOR + b"(K\x01K\x00))tR.",
        GLOBAL + b"torch\nFloatStorage\n}b.",
        b"PK\x03\x04" + b"\x00" * 40,
        pickle.dumps(np.ones(2)),
        b"\x80\x02U\x01aQ.",
    ],
)
def test_damaged_files_are_one_sentence(content, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_foreign_file(str(path))
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert str(error.value).endswith(".")


def test_a_tensor_cannot_reach_beyond_its_storage(tmp_path):
    """as PyTorch stores it, with one number of its size changed"""
    torch.save({"w": torch.ones(4), "x": Call(os.getcwd)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    program = next(name for name in records if name.endswith("data.pkl"))
    whole = records[program]
    for old, new in ((b"K\x04\x85", b"K\x09\x85"), (b"K\x04t", b"K\x09t")):  # size; numbers in the storage
        assert old in whole
        records[program] = whole.replace(old, new)
        with zipfile.ZipFile(tmp_path / "y.pth", "w") as archive:
            for name, value in records.items():
                archive.writestr(name, value)
        with pytest.raises(CheckpointError, match=r"larger than its storage|malformed"):
            read_foreign_file(str(tmp_path / "y.pth"))


def test_a_missing_file():
    with pytest.raises(CheckpointError, match="There is no weight file"):
        read_foreign_file("nothing.pkl")
