"""Unpickles tensors, numpy arrays and plain containers; nothing that a pickle names is ever imported or called.

A pickle is a program: it may name any function and call it. Here every name becomes either one of the few stand-ins of
this file, written for it, or a placeholder that does nothing. numpy's and torch's own functions for unpickling are not
called either: numpy's accept states that make an array of pointers out of bytes.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

Storage = Callable[[Any], Tensor]
"""The id of a storage, as PyTorch writes it → its numbers in one row."""


class Placeholder:
    """Stands for an object of a class that is not imported; whatever is done to it has no effect."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Placeholder:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> Placeholder:
        return self

    def __setstate__(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...

    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def add(self, _: Any) -> None: ...


class ScriptedModule(Placeholder):
    """A module of a TorchScript archive, without its code: only what it holds."""

    __slots__ = ("attributes",)
    attributes: Mapping[str, object]

    def __setstate__(self, state: Any) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class Array:
    """A numpy array as it was pickled; `tensor` builds it."""

    __slots__ = ("dtype", "raw", "shape", "transposed")

    def __init__(self) -> None:
        self.dtype: DType | None = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.transposed, self.raw = state

    def tensor(self) -> Tensor | None:
        """None for what is no array of numbers."""
        if not isinstance(self.dtype, DType) or not (code := self.dtype.code):
            return None
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw  # written by Python 2
        if not isinstance(raw, bytes | bytearray):
            return None
        numbers = np.frombuffer(raw, code).reshape(self.shape, order="F" if self.transposed else "C")
        return torch.from_numpy(np.array(numbers, code.newbyteorder("=")))


class DType:
    """A numpy dtype; `code` is None for all but numbers and truth values."""

    __slots__ = ("code",)

    def __init__(self, name: Any) -> None:
        plain = isinstance(name, str) and re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248])", name)
        self.code = np.dtype(name) if plain else None

    def __setstate__(self, state: Any) -> None:
        if self.code is not None and state[1] in ("<", ">"):
            self.code = self.code.newbyteorder(state[1])


class _Mapping(dict[Any, Any]):
    """An OrderedDict without its attributes."""

    def __setstate__(self, _: Any) -> None: ...


class _StandIn:
    """What a pickle may call; it cannot be changed from within."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError("it changes functions")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Tensor) or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise pickle.UnpicklingError("a tensor in it is malformed")
    reach = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if offset + reach > len(storage):
        raise pickle.UnpicklingError("a tensor in it is larger than its storage")
    return storage.as_strided(size, stride, offset)


def _typed(function: Any, _: Any, arguments: Any, *__: Any) -> Any:
    return function(*arguments) if isinstance(function, _StandIn) else Placeholder()


def _array(*_: Any) -> Array:
    return Array()


def _array_from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _number(dtype: Any, raw: Any = b"") -> Any:
    array = _array_from_buffer(raw, dtype, (), "C")
    tensor = array.tensor()
    return Placeholder() if tensor is None else tensor.item()


def _bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it encodes something other than bytes")
    return text.encode("latin1")


def _container(kind: type) -> Callable[..., Any]:
    def make(*values: Any) -> Any:
        if len(values) > 1 or not all(isinstance(value, list | tuple | dict) for value in values):
            raise pickle.UnpicklingError(f"it makes a {kind.__name__} from something else")
        return kind(*values)

    return make


def _queue(values: Any = (), _: Any = None) -> Any:
    return _container(list)(values)


_STAND_INS: Mapping[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch.Size": _container(tuple),
    "collections.OrderedDict": _container(_Mapping),
    "collections.deque": _queue,
    "numpy.dtype": lambda name, *_: DType(name),
    "_codecs.encode": _bytes,
    "__builtin__.bytes": lambda: b"",
    **{f"{module}.set": _container(set) for module in ("builtins", "__builtin__")},
    **{f"{module}.frozenset": _container(frozenset) for module in ("builtins", "__builtin__")},
    **{f"numpy.{core}.multiarray._reconstruct": _array for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _number for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _array_from_buffer for core in ("core", "_core")},
}
_STORAGES: Mapping[str, torch.dtype] = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}


class RestrictedUnpickler(pickle.Unpickler):
    """Reads one pickle. `foreign` names, in order of appearance, the classes and functions that became placeholders.

    storage  gives the numbers that PyTorch keeps outside of its pickles; None: there are none

    Raises whatever pickle raises for damaged files.
    """

    def __init__(self, file: IO[bytes], storage: Storage | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self.storage = storage
        self.foreign: dict[str, None] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _STORAGES:
            return _STORAGES[full]
        if full in _STAND_INS:
            return _StandIn(_STAND_INS[full])
        if module == "__torch__" or module.startswith("__torch__."):
            return type("ScriptedModule", (ScriptedModule,), {"__slots__": ()})
        if full != "numpy.ndarray":
            self.foreign[full] = None
        return type("Placeholder", (Placeholder,), {"__slots__": ()})

    def persistent_load(self, pid: Any) -> Any:
        if self.storage is None:
            raise pickle.UnpicklingError("it refers to something outside of the file")
        return self.storage(pid)
