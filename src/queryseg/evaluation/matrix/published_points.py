"""Published speed and accuracy of other methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from queryseg.errors import InputError
from queryseg.spelling import did_you_mean

_FILE = Path(__file__).with_name("published_points.yaml")
_ALWAYS = "prompts"
"""The setting of methods that were not trained on the source; they stand beside every other setting."""


@dataclass(frozen=True)
class PublishedPoint:
    """One method in one setting.

    milliseconds  per image, 1000 / frames per second as published
    slower        the source only says that it takes longer than that
    mean_iou      in 0…1
    protocol      on what, where from and on which machine, in words
    """

    name: str
    milliseconds: float
    slower: bool
    mean_iou: float
    protocol: str

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


def settings() -> Mapping[str, str]:
    """Name → from which domain to which, in words; without the one that always holds."""
    return {name: words for name, words in _content()["settings"].items() if name != _ALWAYS}


def published_points(setting: str) -> list[PublishedPoint]:
    """Raises: InputError for a setting that nothing was published for"""
    if setting not in settings():
        raise InputError(f"There are no published points for '{setting}'.{did_you_mean(setting, settings())}")
    content = _content()
    return [
        PublishedPoint(
            point["name"],
            1000 / point["frames_per_second"],
            point.get("slower", False),
            point["scores"][one] / 100,
            f"{content['settings'][one]}; {content['source']}, Table {point['table']}; {content['hardware']}",
        )
        for one in (setting, _ALWAYS)
        for point in content["points"]
        if one in point["scores"]
    ]


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return content
