"""A run on disk: recipe.yaml beside model.safetensors.

`DIR` of a run holds recipe.yaml (resolved), model.safetensors, last.ckpt (to resume), metrics.csv and TensorBoard
events; base.json, if an adapter was trained on weights that are not stored with it; text_prompt.safetensors, if its
queries are texts.
Loading never executes code: safetensors, and a recipe that may only name classes of queryseg unless the caller opts in.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.whole_file import whole_file
from queryseg.errors import CheckpointError, RecipeError
from queryseg.inference.vocabulary import Vocabulary
from queryseg.recipe_file import Resolved, build_model, build_untrained, with_pretrained
from queryseg.segmenter import Segmenter
from queryseg.weight_file import weights_hash

RECIPE = "recipe.yaml"
MODEL = "model.safetensors"
BASE = "base.json"


@dataclass(frozen=True)
class Base:
    """The frozen weights that an adapter was trained on, which its run does not store.

    source       "hub:NAME" or the file they came from
    file         a safetensors file that training started from, or None: the backbone's recipe loads them
    sha256       of all their values, see `weights_hash`
    num_tensors  how many
    """

    source: str
    file: str | None
    sha256: str
    num_tensors: int

    def __str__(self) -> str:
        return f"{self.source} ({self.num_tensors} tensors, sha256 {self.sha256[:12]}…)"


@dataclass(frozen=True)
class LoadedRun:
    """A trained model with what is needed to use and to describe it. The model is in eval mode.

    base: what its adapter was trained on, compared by its hash; None if the run holds all of its weights.
    vocabulary: of other classes than those of training, see `with_classes`; None: those of training.
    """

    model: Segmenter
    classes: ClassTable
    recipe: Resolved
    folder: Path
    base: Base | None = None
    vocabulary: Vocabulary | None = None


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


def read_model(folder: str | Path, allow: Iterable[str] = (), base: str | Path | None = None) -> LoadedRun:
    """The model of a run.

    allow  packages besides queryseg whose classes its recipe may name
    base   where the weights are now that its adapter was trained on; None: where they were then

    Raises: CheckpointError, RecipeError
    """
    folder = Path(folder)
    recipe, record = read_run_recipe(folder), read_base(folder)
    if record is None:
        if base is not None:
            raise CheckpointError(f"{folder} holds all of its weights and needs no base; leave {base} out.")
        model = build_untrained(recipe, allow)
    else:
        model = _build_on_base(folder, recipe, record, allow, base)
    weights = read_weights(folder / MODEL)
    load_weights(model, weights, str(folder / MODEL), () if record is None else base_weights(model))
    return LoadedRun(model.eval(), class_table(recipe["classes"]), recipe, folder, record)


def bases_for(runs: Sequence[Path], base: Path | None) -> dict[Path, Path | None]:
    """Of several runs or files, `base` for those that do not store theirs; None for the others.

    Raises: CheckpointError if it is given and none of them asks for it
    """
    asking = [run for run in runs if read_base(run) is not None]
    if base is not None and not asking and all(run.exists() for run in runs):
        all_of = "holds all of its weights and needs" if len(runs) == 1 else "hold all of their weights and need"
        raise CheckpointError(f"{' and '.join(map(str, runs))} {all_of} no base; leave {base} out.")
    return {run: base if run in asking else None for run in runs}


def _build_on_base(
    folder: Path, recipe: Resolved, record: Base, allow: Iterable[str], place: str | Path | None
) -> Segmenter:
    """The run's model with the weights that its adapter was trained on, and nothing else loaded."""
    if record.file is not None:
        model = build_untrained(recipe, allow)
        fill_base(model, record if place is None else replace(record, file=str(place)), folder)
        return model
    try:
        model = build_model(recipe if place is None else with_pretrained(recipe, str(place)), allow)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} was trained on {record.source}, which it does not store (give its place with --base): {error}"
        ) from None
    check_base(model, record, folder)
    return model


def base_weights(model: Segmenter) -> dict[str, Tensor]:
    """By their names in the model: what an adapter left as it was."""
    return {f"backbone.{name}": value for name, value in model.backbone.base().items()}


def fill_base(model: Segmenter, base: Base, folder: Path) -> None:
    """Load and check the file that a run started from. Raises: CheckpointError"""
    assert base.file is not None
    path, wanted = Path(base.file), base_weights(model)
    if not path.is_file():
        raise CheckpointError(
            f"{folder} was trained on {base.source} and does not store it, but there is no {path}; put it back or give "
            "its place with --base."
        )
    found = read_weights(path)
    if any(name not in found or found[name].shape != value.shape for name, value in wanted.items()):
        raise CheckpointError(
            f"{folder} was trained on {base.source}, but {path} does not hold these weights; give their place with "
            "--base."
        )
    model.load_state_dict({name: found[name] for name in wanted}, strict=False)
    check_base(model, base, folder)


def check_base(model: Segmenter, base: Base, folder: Path) -> None:
    """Raises: CheckpointError if the model's frozen weights are others than those that the run was trained on"""
    found = weights_hash(base_weights(model))
    if found != base.sha256:
        raise CheckpointError(
            f"{folder} was trained on other weights than those that were found: {base.source} hashed to "
            f"{base.sha256[:12]}… then and to {found[:12]}… now; give the right ones with --base."
        )


def write_base(folder: Path, base: Base) -> None:
    """folder/base.json"""
    replace_file(folder / BASE, (json.dumps(asdict(base), indent=1) + "\n").encode())


def read_base(folder: Path) -> Base | None:
    """None if the run holds all of its weights. Raises: CheckpointError"""
    try:
        return Base(**json.loads((folder / BASE).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder / BASE} is damaged ({error}); copy the run again.") from None


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


def load_weights(model: Segmenter, weights: Mapping[str, Tensor], source: str, loaded: Collection[str] = ()) -> None:
    """Every tensor must fit. loaded: names that the source need not have, because the model has them already.

    Raises: CheckpointError, naming the first tensor that does not fit
    """
    own = model.state_dict()
    for name, value in weights.items():
        if name in own and own[name].shape != value.shape:
            raise CheckpointError(
                f"{source} holds another architecture: {name} is {tuple(value.shape)} there, but "
                f"{tuple(own[name].shape)} in this recipe; use the recipe that it was trained with."
            )
    missing, unknown = own.keys() - weights.keys() - set(loaded), weights.keys() - own.keys()
    if missing or unknown:
        first = f"it has no {min(missing)}" if missing else f"nothing here takes {min(unknown)}"
        raise CheckpointError(
            f"{source} holds another architecture: {first} ({len(missing)} tensors missing, {len(unknown)} too many); "
            "use the recipe that it was trained with."
        )
    model.load_state_dict(weights, strict=not loaded)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is whole at any moment. Raises: CheckpointError if it cannot be written."""
    try:
        with whole_file(path, lasting=True) as part:
            part.write_bytes(content)
    except OSError as error:
        raise CheckpointError(f"{path} could not be saved ({error.strerror}); the file before it is kept.") from None
