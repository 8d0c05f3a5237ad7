"""Label spaces: what the classes of one table are in another, declared once and composed where needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import yaml

from queryseg.data.class_table import CITYSCAPES, CITYSCAPES_ALL, CITYSCAPES_IDS, ClassTable, class_table
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean
from queryseg.types import IGNORE

Rules = Mapping[str, str | Sequence[str]]
"""Class of the target, or "ignore" → classes of the source; every class of the source once. "rest": all others."""

_FOLDER = resources.files("queryseg.data") / "label_mappings"
_SHOWN = 8


def label_mapping(
    source: ClassTable, target: ClassTable, rules: Rules | None = None, through: ClassTable | None = None
) -> tuple[int, ...]:
    """Class index of the source → class index of the target, or 255 = ignored.

    rules    of a data file: {road: [Road, Lane Marking - General], ignore: rest}. None: the declared mapping of the two
             tables (`label_mappings/*.yaml`, also one after the other), else classes of equal names.
    through  a further table in which rules and equal names may be meant: {road: road, ignore: rest} of Cityscapes'
             19 classes needs no word about the 16 labels that are never evaluated.

    Raises: InputError naming the classes if one of the source is not covered, is named twice, or does not exist
    """
    if rules is not None:
        tables = [source] if through is None else [source, through]
        for table in tables:
            if _names(rules) <= set(table.names) and (_names(rules) == set(table.names) or _has_rest(rules)):
                return _after(label_mapping(source, table), _parse(rules, table, target))
        return _parse(rules, tables[-1], target)
    if source.names == target.names:
        return tuple(range(len(source)))
    if (declared := _declared(source.name, target.name)) is not None and class_table(target.name) == target:
        return declared
    missing = [name for name in source.names if name not in target.names]
    if through is not None and through != source and missing:
        return _after(label_mapping(source, through), label_mapping(through, target))
    if missing:
        raise InputError(
            f"Class table '{target.name}' ({_shown(target.names)}) "
            f"does not cover {len(missing)} of the {len(source)} labels of '{source.name}': {_shown(missing)}; add a "
            "'mapping' such as {road: [road, parking], ignore: rest}."
        )
    return tuple(target.names.index(name) for name in source.names)


def declared_mappings() -> tuple[tuple[str, str], ...]:
    """(source, target) of every mapping that is declared, in the order of their names."""
    return tuple(sorted((source, target) for source, targets in _edges().items() for target in targets))


@cache
def _edges() -> dict[str, dict[str, tuple[int, ...]]]:
    """Source → target → mapping, of all that are declared."""
    cityscapes = tuple(CITYSCAPES_IDS.get(label, IGNORE) for label in range(len(CITYSCAPES_ALL)))
    edges = {CITYSCAPES_ALL.name: {CITYSCAPES.name: cityscapes}}
    for entry in sorted(_FOLDER.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            source, _, target = entry.name.removesuffix(".yaml").partition("_to_")
            rules = yaml.safe_load(entry.read_text(encoding="utf-8"))
            edges.setdefault(source, {})[target] = _parse(rules, class_table(source), class_table(target))
    return edges


@cache
def _declared(source: str, target: str) -> tuple[int, ...] | None:
    """By the fewest mappings, one after the other."""
    waiting: deque[tuple[str, tuple[int, ...] | None]] = deque([(source, None)])
    seen = {source}
    while waiting:
        name, mapping = waiting.popleft()
        for following, edge in _edges().get(name, {}).items():
            composed = edge if mapping is None else _after(mapping, edge)
            if following == target:
                return composed
            if following not in seen:
                seen.add(following)
                waiting.append((following, composed))
    return None


def _after(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    return tuple(IGNORE if label == IGNORE else second[label] for label in first)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _sources(rules: Rules, name: str) -> list[str]:
    value = rules.get(name, [])
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(f"'mapping' gives {value!r} to '{name}'; give names of labels, as in [road, parking].")
    return list(names)


def _names(rules: Rules) -> set[str]:
    return {source for name in rules for source in _sources(rules, name)} - {"rest"}


def _has_rest(rules: Rules) -> bool:
    return any("rest" in _sources(rules, name) for name in rules)


def _parse(rules: Rules, source: ClassTable, target: ClassTable) -> tuple[int, ...]:
    labels: dict[str, int] = {}
    rest: int | None = None
    for name in rules:
        if name != "ignore" and name not in target.names:
            raise InputError(
                f"'mapping' names class '{name}', which is not in '{target.name}'."
                f"{did_you_mean(name, ('ignore', *target.names))}"
            )
        label = IGNORE if name == "ignore" else target.names.index(name)
        for of in _sources(rules, name):
            if of == "rest" and "rest" not in source.names:
                if rest is not None:
                    raise InputError("'mapping' says 'rest' twice; the rest has one meaning.")
                rest = label
                continue
            if of not in source.names:
                raise InputError(
                    f"'mapping' gives '{of}' to '{name}', which is no class of '{source.name}'."
                    f"{did_you_mean(of, source.names)}"
                )
            if of in labels:
                raise InputError(f"'mapping' names '{of}' twice, at last under '{name}'; every class has one meaning.")
            labels[of] = label
    missing = [name for name in source.names if name not in labels]
    if missing and rest is None:
        raise InputError(
            f"'mapping' to '{target.name}' does not cover {len(missing)} of the {len(source)} labels of "
            f"'{source.name}': {_shown(missing)}; name them under a class, or add 'ignore: rest'."
        )
    return tuple(labels.get(name, IGNORE if rest is None else rest) for name in source.names)
