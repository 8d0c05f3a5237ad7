"""Packages of optional extras: imported where they are used, and asked for in one sentence."""

from __future__ import annotations

import importlib
from typing import Any

from queryseg.errors import InputError


def require(library: str, what: str, extra: str) -> Any:
    """Import a package; `what` needs it, and queryseg's `extra` installs it. Raises: InputError if it is missing"""
    try:
        return importlib.import_module(library)
    except ImportError:
        raise InputError(
            f"{what} needs the package {library}, which is not installed; run `pip install 'queryseg[{extra}]'`."
        ) from None
