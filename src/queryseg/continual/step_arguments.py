"""What a step tells the parts of its recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queryseg.recipe_file import find_class, options_of


def with_arguments(content: Any, arguments: Mapping[str, Any]) -> Any:
    """Plain values of a recipe in which every part that has an option of such a name, parts inside of parts included,
    is given that argument."""
    if isinstance(content, Mapping):
        path = content.get("class_path")
        filled = {key: with_arguments(value, arguments) for key, value in content.items()}
        if isinstance(path, str):
            known = options_of(find_class(path, "recipe"))
            given = {name: value for name, value in arguments.items() if name in known}
            filled["init_args"] = {**(filled.get("init_args") or {}), **given}
        return filled
    if isinstance(content, list):
        return [with_arguments(value, arguments) for value in content]
    return content
