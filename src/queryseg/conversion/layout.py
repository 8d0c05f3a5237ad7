"""How the authors of a method name and shape the tensors of their checkpoints, as data: `layouts/*.yaml`.

A file lists names and shapes with blanks in them; what fills the blanks is read from a checkpoint:

    head.layers.{L}.weight: [4*D, D]        every layer; L layers, D wide
    trunk.{i:0-3}.{B@i}.bias: [C*2^i]       four stages, each with a number of blocks of its own
    trunk.{B>0}.weight: [C]                 every block but the first

    title, source, verified   what it is, where names and shapes were read, whether that is the authors' own account
    includes                  other files whose names belong to it, too
    recognised_by             names that only this layout has
    of_no_use                 further names that may be there and that nothing here needs
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml
from torch import Tensor

from queryseg.spelling import first_of

_BLANK = re.compile(r"\{(\w+)(?::(\d+)-(\d+)|@(\w+)|(>0))?\}")
Sizes = Mapping[str, Any]
"""Blank → number; for blanks counted per index (B@i) one number for each index."""


@dataclass(frozen=True)
class Comparison:
    """How a checkpoint differs from its layout.

    missing     names that the layout has and the checkpoint lacks
    unexpected  the reverse
    misshaped   name: shape there, shape expected
    """

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def lines(self) -> list[str]:
        """One for each kind of difference that there is, with its first names."""
        groups: dict[str, Sequence[str]] = {
            "missing": self.missing,
            "of another shape": [
                f"{name} {found} instead of {wanted}" for name, (found, wanted) in self.misshaped.items()
            ],
            "unexpected": self.unexpected,
        }
        return [f"{len(names)} {kind}: {first_of(names, 3)}" for kind, names in groups.items() if names]


@dataclass(frozen=True)
class Layout:
    """See the head of this file; `shapes` are the templates, in order."""

    title: str
    source: str
    verified: bool
    recognised_by: tuple[str, ...]
    shapes: Mapping[str, tuple[str, ...]]
    of_no_use: tuple[str, ...] = ()
    current_names: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
    """Undoes renamings between versions of the authors' code."""

    def recognises(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether every name is there that only this layout has."""
        return all(name in tensors for name in self.recognised_by)

    def expected(self, sizes: Sizes) -> dict[str, tuple[int, ...]]:
        """Name → shape, all blanks filled."""
        return {
            name: tuple(_evaluate(axis, {**sizes, **indices}) for axis in shape)
            for template, shape in self.shapes.items()
            for name, indices in _fill(template, sizes)
        }

    def compare(self, tensors: Mapping[str, Tensor]) -> Comparison:
        """What is missing, unexpected or of another shape."""
        expected = self.expected(self.sizes_of(tensors))
        useless = [_pattern(template) for template in self.of_no_use]
        unexpected = [
            name for name in tensors.keys() - expected.keys() if not any(pattern.fullmatch(name) for pattern in useless)
        ]
        misshaped = {
            name: (tuple(tensors[name].shape), shape)
            for name, shape in expected.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        }
        missing = tuple(name for name in expected if name not in tensors)
        return Comparison(missing, tuple(sorted(unexpected)), misshaped)

    def sizes_of(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """What fills the blanks, by the first tensor that tells; 1 where none does."""
        sizes: dict[str, Any] = {}
        found = [
            (template, match, tensors[name])
            for template in self.shapes
            for name in tensors
            if (match := _pattern(template).fullmatch(name))
        ]
        for template, match, _ in found:
            for blank, low, _, per, _ in _BLANK.findall(template):
                count = int(match[blank]) + 1
                if per:
                    counts = sizes.setdefault(blank, {})
                    counts[int(match[per])] = max(count, counts.get(int(match[per]), 1))
                elif not low:
                    sizes[blank] = max(count, sizes.get(blank, 1))
        for template, match, tensor in found:
            indices = {blank: int(match[blank]) for blank, *_ in _BLANK.findall(template)}
            for axis, size in zip(self.shapes[template], tensor.shape, strict=False):
                if solved := _solve(axis, size, {**sizes, **indices}):
                    sizes[solved[0]] = solved[1]
        return sizes


def read_layout(name: str) -> Layout:
    """layouts/NAME.yaml with what it includes."""
    content = dict(_read(name))
    parts = [read_layout(part) for part in content.pop("includes", ())]
    shapes = {key: tuple(str(axis) for axis in shape) for key, shape in content.pop("shapes", {}).items()}
    no_use = content.pop("of_no_use", ())
    return Layout(
        recognised_by=(*content.pop("recognised_by", ()), *(name for part in parts for name in part.recognised_by)),
        shapes={**{key: shape for part in parts for key, shape in part.shapes.items()}, **shapes},
        of_no_use=(*no_use, *(pattern for part in parts for pattern in part.of_no_use)),
        verified=content.pop("verified", True) and all(part.verified for part in parts),
        source="; ".join([*([content.pop("source")] if "source" in content else []), *(part.source for part in parts)]),
        **content,
    )


@cache
def _read(name: str) -> Mapping[str, Any]:
    path = resources.files("queryseg.conversion") / "layouts" / f"{name}.yaml"
    content: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


# ───────────────────────────── templates ─────────────────────────────


@cache
def _pattern(template: str) -> re.Pattern[str]:
    text, place = "", 0
    for blank in _BLANK.finditer(template):
        seen = f"(?P<{blank[1]}>" in text
        text += re.escape(template[place : blank.start()]) + (f"(?P={blank[1]})" if seen else rf"(?P<{blank[1]}>\d+)")
        place = blank.end()
    return re.compile(text + re.escape(template[place:]))


def _fill(template: str, sizes: Sizes) -> Iterator[tuple[str, dict[str, int]]]:
    """Every name of a template, and the indices in it."""
    blanks = [match.groups() for match in _BLANK.finditer(template)]
    if not blanks:
        yield template, {}
        return
    blank, low, high, per, later = blanks[0]
    assert not per, "the index that counts is per another stands behind it"
    for index in range(int(low), int(high) + 1) if low else range(later is not None, sizes.get(blank, 1)):
        inner = {
            other: sizes[other].get(index, 1) if isinstance(sizes.get(other), Mapping) else sizes.get(other, 1)
            for other, _, _, owner, _ in blanks[1:]
            if owner == blank
        }
        rest = template.replace(f"{{{blank}{_suffix(low, high, later)}}}", str(index)).replace(f"@{blank}}}", "}")
        for name, indices in _fill(rest, {**sizes, **inner}):
            yield name, {blank: index, **indices}


def _suffix(low: str | None, high: str | None, later: str | None) -> str:
    return f":{low}-{high}" if low else later or ""


def _factors(axis: str) -> tuple[list[str], int]:
    product, _, more = axis.partition("+")
    return product.split("*"), int(more or 0)


def _value(factor: str, sizes: Sizes) -> int | None:
    if factor.isdigit():
        return int(factor)
    base, power, exponent = factor.partition("^")
    if power:
        return int(pow(int(base), int(sizes[exponent])))
    value = sizes.get(factor)
    return value if isinstance(value, int) else None


def _evaluate(axis: str, sizes: Sizes) -> int:
    factors, more = _factors(axis)
    total = 1
    for factor in factors:
        total *= _value(factor, sizes) or 1
    return total + more


def _solve(axis: str, size: int, sizes: Sizes) -> tuple[str, int] | None:
    """The one blank of an axis that is still open, and what it must be."""
    factors, more = _factors(axis)
    open_ = [factor for factor in factors if _value(factor, sizes) is None]
    known = 1
    for factor in factors:
        known *= _value(factor, sizes) or 1
    if len(open_) != 1 or size <= more or (size - more) % known:
        return None
    return open_[0], (size - more) // known
