"""Corruptions as people write them: `fog,gaussian_noise:5,weather:1-3`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from queryseg.data.corruptions.registry import CORRUPTIONS, SEVERITIES
from queryseg.errors import UsageError
from queryseg.spelling import did_you_mean

GROUPS: Mapping[str, tuple[str, ...]] = {
    **{
        group: tuple(name for name, corruption in CORRUPTIONS.items() if corruption.group == group)
        for group in ("noise", "blur", "digital", "weather", "extra")
    },
    "cityscapes-c": tuple(name for name, corruption in CORRUPTIONS.items() if corruption.group != "extra"),
    "all": tuple(CORRUPTIONS),
}
"""Words that stand for several corruptions."""
ALIASES = {"jpeg": "jpeg_compression", "elastic": "elastic_transform"}
"""Short for published names."""


def parse_corruptions(text: str, severities: Sequence[int] = SEVERITIES) -> list[tuple[str, int]]:
    """Names and severities, each pair once, in the order in which they are first mentioned.

    text        words between commas: a corruption or one of `GROUPS`, alone, with a severity (`fog:3`) or with a range
                (`noise:1-3`)
    severities  of words that say none

    Raises: UsageError
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise UsageError(
            f"Corruptions are words between commas, as in 'fog,gaussian_noise:5,weather:1-3', but given is '{text}'."
        )
    pairs: dict[tuple[str, int], None] = {}
    for word in words:
        name, colon, level = word.partition(":")
        known = {**CORRUPTIONS, **GROUPS, **ALIASES}
        if name not in known:
            raise UsageError(f"There is no corruption '{name}'.{did_you_mean(name, known)}")
        chosen = _severities(level, word) if colon else severities
        for corruption in GROUPS.get(name, (ALIASES.get(name, name),)):
            pairs.update(dict.fromkeys((corruption, severity) for severity in chosen))
    return list(pairs)


def parse_severities(text: str) -> tuple[int, ...]:
    """`1,3,5` → its numbers, each once. Raises: UsageError"""
    words = [word.strip() for word in text.split(",")]
    known = {str(severity): severity for severity in SEVERITIES}
    if wrong := [word for word in words if word not in known]:
        raise UsageError(f"There is no severity '{wrong[0]}'; give numbers from 1 (weak) to 5, as in '1,3,5'.")
    return tuple(dict.fromkeys(known[word] for word in words))


def _severities(level: str, word: str) -> Sequence[int]:
    first, dash, last = level.partition("-")
    choice = {str(severity): severity for severity in SEVERITIES}
    low, high = choice.get(first), choice.get(last if dash else first)
    if low is None or high is None or low > high:
        raise UsageError(f"'{word}' has no severity from 1 (weak) to 5; write it as in 'fog:3' or 'fog:1-3'.")
    return range(low, high + 1)
