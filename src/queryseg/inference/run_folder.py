"""A run on disk: recipe.yaml beside model.safetensors.

`DIR` of a run holds recipe.yaml (resolved), model.safetensors, last.ckpt (to resume), metrics.csv and TensorBoard
events.
Loading never executes code: safetensors, and a recipe that may only name classes of queryseg unless the caller opts in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table
from queryseg.errors import CheckpointError, RecipeError
from queryseg.recipe_file import Resolved, build_untrained
from queryseg.segmenter import Segmenter

RECIPE = "recipe.yaml"
MODEL = "model.safetensors"


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with what is needed to use and to describe it. The model is in eval mode."""

    model: Segmenter
    classes: ClassTable
    recipe: Resolved
    folder: Path


def write_recipe(folder: Path, resolved: Mapping[str, Any]) -> None:
    """folder/recipe.yaml"""
    replace_file(folder / RECIPE, yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True).encode())


def write_model(folder: Path, weights: Mapping[str, Tensor], name: str = MODEL) -> None:
    """folder/model.safetensors; weights: a segmenter's state_dict. The file is whole at any moment."""
    replace_file(folder / name, save({name: value.detach().cpu().contiguous() for name, value in weights.items()}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: CheckpointError"""
    try:
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"There is no {path}; give the folder of a run that has saved a model.") from None
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); copy or train it again.") from None


def read_model(folder: str | Path, allow: Iterable[str] = ()) -> LoadedRun:
    """The model of a run. allow: packages besides queryseg whose classes its recipe may name.

    Raises: CheckpointError, RecipeError
    """
    folder = Path(folder)
    recipe = read_run_recipe(folder)
    model = build_untrained(recipe, allow)
    load_weights(model, read_weights(folder / MODEL), str(folder / MODEL))
    return LoadedRun(model.eval(), class_table(recipe["classes"]), recipe, folder)


def read_run_recipe(folder: Path) -> Resolved:
    """recipe.yaml of a run. Raises: CheckpointError, RecipeError"""
    if not folder.is_dir():
        raise CheckpointError(f"There is no run {folder}; give the folder that `queryseg train --out` wrote.")
    path = folder / RECIPE
    try:
        recipe = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no run: it has no {RECIPE}; give the folder that training wrote.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} cannot be read ({' '.join(str(error).split())}).") from None
    if not isinstance(recipe, dict) or not {"classes", "model"} <= recipe.keys():
        raise RecipeError(f"{path} names no classes and model; it is not the recipe of a run.")
    return recipe


def load_weights(model: Segmenter, weights: Mapping[str, Tensor], source: str) -> None:
    """Every tensor must fit. Raises: CheckpointError, naming the first that does not."""
    own = model.state_dict()
    for name, value in weights.items():
        if name in own and own[name].shape != value.shape:
            raise CheckpointError(
                f"{source} holds another architecture: {name} is {tuple(value.shape)} there, but "
                f"{tuple(own[name].shape)} in this recipe; use the recipe that it was trained with."
            )
    missing, unknown = own.keys() - weights.keys(), weights.keys() - own.keys()
    if missing or unknown:
        first = f"it has no {min(missing)}" if missing else f"nothing here takes {min(unknown)}"
        raise CheckpointError(
            f"{source} holds another architecture: {first} ({len(missing)} tensors missing, {len(unknown)} too many); "
            "use the recipe that it was trained with."
        )
    model.load_state_dict(weights)


def move_into_place(temporary: Path, path: Path) -> None:
    """Make a complete file visible under its name, so that a crash at any moment leaves the old or the new one."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is whole at any moment. Raises: CheckpointError if it cannot be written."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(content)
        move_into_place(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path} could not be saved ({error.strerror}); the file before it is kept.") from None
