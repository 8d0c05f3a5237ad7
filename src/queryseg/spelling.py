"""Words in messages: the nearest right one to a misspelt one, the first of many."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def did_you_mean(word: object, words: Iterable[str]) -> str:
    """The end of a sentence: " Did you mean 'road'?", or the list of words when none is near."""
    words = list(words)
    near = difflib.get_close_matches(str(word), words, 1)
    return f" Did you mean '{near[0]}'?" if near else f" Choose from: {', '.join(words)}."


def first_of(words: Sequence[object], most: int) -> str:
    """ "road, car, sky …" """
    return ", ".join(map(str, words[:most])) + (" …" if len(words) > most else "")


def check_keys(mapping: Iterable[object], known: Iterable[str], where: str) -> str | None:
    """The sentence about the first key that is not known, or None."""
    known = list(known)
    wrong = next((key for key in mapping if key not in known), None)
    return None if wrong is None else f"{where} has no option '{wrong}'.{did_you_mean(wrong, known)}"
