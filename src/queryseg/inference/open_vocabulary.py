"""Other classes for a trained model, by their names alone.

Shape legend: K classes, J width of the image–text space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from queryseg.data.class_table import ClassTable, class_table
from queryseg.errors import CheckpointError, InputError
from queryseg.inference.run_folder import LoadedRun, replace_file
from queryseg.inference.text_prompt import TEXT_PROMPT, read_text_prompt
from queryseg.inference.vocabulary import Vocabulary
from queryseg.queries import TextualQueries
from queryseg.text import load_tower
from queryseg.types import ClassChange
from queryseg.weight_file import file_sha256

VOCABULARY = "vocabulary.safetensors"
"""File of a run that holds the embeddings of names that were asked for: the next time needs no encoder."""


def with_classes(
    run: LoadedRun, classes: str | Sequence[str] | None, text_tower: str | Path | None = None
) -> LoadedRun:
    """The run with other classes than those it was trained on; the run itself for None and for its own classes.

    classes     a class table's name, or class names in label order
    text_tower  a file of the text encoder's weights; None: what the recipe says, from the hub's cache if need be. The
                hub itself is never asked

    A trained name (case does not matter) keeps what was learned for it; any other is read by the text encoder that the
    run was trained with, behind the learned prompt, and remembered in the run's folder.

    Raises: InputError for classes that cannot be, and without open_clip; RecipeError if the model cannot take others;
    CheckpointError if the encoder's weights are not there or are others than in training
    """
    if classes is None:
        if text_tower is not None:
            raise InputError(f"The text encoder {text_tower} reads other class names, but none are given.")
        return run
    table = class_table(classes)
    _check_names(table)
    trained = {_spelt(name): row for row, name in enumerate(run.classes.names)}
    rows = tuple(trained.get(_spelt(name)) for name in table.names)
    if rows == tuple(range(len(run.classes))):
        return run
    source = run.model.queries
    if not isinstance(source, TextualQueries):
        source.change_classes(ClassChange(table.names, rows, torch.empty(0)))
        raise AssertionError("sources without texts say why they cannot")
    fresh = [name for name, row in zip(table.names, rows, strict=True) if row is None]
    encoded, origin = _encoded(run, source, fresh, text_tower) if fresh else ({}, "")
    assert source.embeddings is not None, "a loaded run has no encoder"
    known = source.embeddings
    embeddings = [
        encoded[name].to(known) if row is None else known[row] for name, row in zip(table.names, rows, strict=True)
    ]
    run.model.change_classes(ClassChange(table.names, rows, torch.stack(embeddings)))
    kept = tuple(name for name, row in zip(table.names, rows, strict=True) if row is not None)
    vocabulary = Vocabulary(kept, tuple(fresh), origin)
    return replace(run, classes=_as_trained(table, run.classes, rows), vocabulary=vocabulary)


def _spelt(name: str) -> str:
    """What tells names apart: the tokenizer reads neither case nor repeated blanks."""
    return " ".join(name.lower().split())


def _check_names(table: ClassTable) -> None:
    spelt = [_spelt(name) for name in table.names]
    if "" in spelt:
        raise InputError(f"Class {spelt.index('')} has an empty name; give every class a name, or leave the comma out.")
    if twice := [name for name, text in zip(table.names, spelt, strict=True) if spelt.count(text) > 1]:
        raise InputError(f"The classes {', '.join(map(repr, twice))} are read as one name; give every class its own.")


def _as_trained(table: ClassTable, trained: ClassTable, rows: Sequence[int | None]) -> ClassTable:
    """Known classes keep their colours, and stay things or stuff, unless a whole table was asked for."""
    if table.name != "custom":
        return table
    colors = [color if row is None else trained.colors[row] for color, row in zip(table.colors, rows, strict=True)]
    things = frozenset(index for index, row in enumerate(rows) if row in trained.things)
    return ClassTable(table.name, table.names, tuple(colors), things)


def _encoded(
    run: LoadedRun, source: TextualQueries, names: Sequence[str], text_tower: str | Path | None
) -> tuple[dict[str, Tensor], str]:
    """Name → (J), and where that is from."""
    stored = _stored(run.folder)
    if all(_spelt(name) in stored for name in names):
        return {name: stored[_spelt(name)] for name in names}, f"from {run.folder / VOCABULARY}"
    prompt = read_text_prompt(run.folder)
    settings = source.settings if text_tower is None else replace(source.settings, weights=str(text_tower))
    tower = load_tower(settings, download=False)
    if tower.sha256 != prompt.tower_sha256 and settings.weights is False:
        raise CheckpointError(
            f"The recipe of {run.folder} does not say where the weights of its text encoder are, which read new class "
            "names; give the file with --text-tower, for a converted run the checkpoint that it was made from."
        )
    if tower.sha256 != prompt.tower_sha256:
        raise CheckpointError(
            f"{run.folder} was trained with other weights than those of the {settings}: they hashed to "
            f"{prompt.tower_sha256[:12]}… then and to {tower.sha256[:12]}… now; give the right ones with --text-tower."
        )
    ids = tower.tokenize(names, len(prompt.vectors))
    with torch.no_grad():
        found = dict(zip(names, tower.encode(ids, prompt.vectors), strict=True))
    origin = f"read by the {settings}"
    try:
        _store(run.folder, stored | {_spelt(name): embedding for name, embedding in found.items()})
    except CheckpointError as error:
        origin += f", not remembered ({error})"
    return found, origin


def _stored(folder: Path) -> dict[str, Tensor]:
    """What was encoded before with the prompt that the run has now. Raises: CheckpointError for a damaged file"""
    path, prompt = folder / VOCABULARY, folder / TEXT_PROMPT
    if not path.is_file() or not prompt.is_file():
        return {}
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("prompt_sha256") != file_sha256(prompt):
                return {}
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it, it is made anew.") from None


def _store(folder: Path, embeddings: dict[str, Tensor]) -> None:
    tensors = {name: embedding.cpu().contiguous().clone() for name, embedding in embeddings.items()}
    replace_file(folder / VOCABULARY, save(tensors, {"prompt_sha256": file_sha256(folder / TEXT_PROMPT)}))
