"""last.ckpt: all that a run needs to continue as if it had never stopped.

Tensors, numbers and text only, read with `weights_only=True`: a checkpoint never executes code.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from queryseg.data.whole_file import whole_file
from queryseg.errors import CheckpointError, reason_of

CHECKPOINT = "last.ckpt"
FORMAT = 1

HARMLESS = (
    "data.num_workers",
    "data.root",
    "data.validate",
    "data.protocol",
    "training.log_every",
    "training.save_every",
    "training.validate_every",
)
"""Keys of a recipe that never reach the weights; they may differ when a run resumes. `data.root` is among them because
data move between machines; that the training images are the same ones is compared by name."""

State = dict[str, Any]


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """The file is whole at any moment: a crash leaves the old or the new one.

    Raises: CheckpointError if it cannot be written; the file before it is kept.
    """
    try:
        # an open file: by path, torch would lose the reason of a failure
        with whole_file(path, lasting=True) as part, open(part, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
    except (OSError, RuntimeError) as error:
        reason = _system_error(error)
        if reason is None:
            raise
        kept = " The checkpoint before it is kept." if path.exists() else ""
        raise CheckpointError(
            f"{path} could not be saved ({reason.strerror}); free some space and continue with --resume.{kept}"
        ) from None


def read_checkpoint(path: Path) -> State:
    """On the CPU. Raises: CheckpointError if the file is missing, damaged, or no checkpoint of queryseg."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} holds no checkpoint ({path.name}); give the folder of a run that has begun."
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({reason_of(error)}); "
            f"begin again in another folder, e.g. with --start-from {path.parent} if its model.safetensors is whole."
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of this version of queryseg; start a run in another folder.")
    return state


def canonical(resolved: Mapping[str, Any]) -> str:
    """A recipe as text that can be stored and compared: tuples and lists are alike, keys are strings."""
    return json.dumps(resolved, default=str)


def check_same_recipe(path: Path, then: str, now: str, fork: bool = False) -> None:
    """then, now: `canonical` recipes of the checkpoint and of this call. fork: objectives may differ too.

    Raises: CheckpointError naming the first key that changed and may not.
    """
    old, new = dict(_leaves(json.loads(then))), dict(_leaves(json.loads(now)))
    free = (*HARMLESS, "objectives") if fork else HARMLESS
    for key in [*old, *(key for key in new if key not in old)]:
        if old.get(key) != new.get(key) and not key.startswith(free):
            was, is_ = (json.dumps(recipe[key]) if key in recipe else "not there" for recipe in (old, new))
            raise CheckpointError(
                f"{path} cannot be {'forked' if fork else 'resumed'} with a changed recipe: {key} was {was} and is now "
                f"{is_}; change it back, or begin a new run with --start-from {path.parent}."
            )


def check_same_data(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises: CheckpointError if the training images are others than those of the checkpoint."""
    if dict(then) != dict(now):
        raise CheckpointError(
            f"{path} cannot be resumed: it learned from {then['images']} images in {then['processes']} process(es) and "
            f"now there are {now['images']} in {now['processes']}, or others by name; give the same data and devices."
        )


def _system_error(error: BaseException | None) -> OSError | None:
    """Where a write failed in its middle, torch raises an error of its own over the system's."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings → ("training.steps", 100), …; lists count as one value, empty mappings too."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
    else:
        yield key, value
