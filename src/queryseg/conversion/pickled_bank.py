"""SimCIS's bank of virtual queries as its authors keep it: a pickled dictionary of queues.

Shape legend: K classes, D query width, N entries of all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from queryseg.conversion.foreign_file import read_foreign_content
from queryseg.conversion.restricted_unpickler import Array
from queryseg.errors import CheckpointError
from queryseg.objectives.query_bank import QueryBank


def read_pickled_bank(path: str | Path, num_classes: int, width: int) -> QueryBank:
    """`fake_query.pkl` as the bank of a model of K classes and width D; nothing in the file runs. It is as long as the
    longest queue, and keeps the queues' order: oldest first.

    The file is {class index: queue of D numbers each}; lists, numpy arrays and tensors stand for either.
    Source: the description of the authors' bank (spec §3); no released file was seen.

    Raises: CheckpointError if it is damaged, something else, or of other classes or another width
    """
    _, content, _ = read_foreign_content(str(path))
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds no queues of queries; give SimCIS's fake_query.pkl.")
    queues = {label: _rows(label, queue, path) for label, queue in content.items()}
    if outside := [label for label in queues if type(label) is not int or not 0 <= label < num_classes]:
        raise CheckpointError(
            f"{path} has queries of class {outside[0]!r:.40}, but the model has the classes 0 to {num_classes - 1}; "
            "give the bank of the same training."
        )
    filled = {label: rows for label, rows in queues.items() if len(rows)}
    for label, rows in filled.items():
        if rows.shape[1] != width:
            raise CheckpointError(
                f"{path} holds queries of width {rows.shape[1]} (class {label}), but the model's are {width} wide; "
                "give the bank of the same training."
            )
        if not bool(rows.half().isfinite().all()):
            raise CheckpointError(
                f"{path} has numbers in class {label} that are not finite in half precision; give another bank."
            )
    bank = QueryBank(num_classes, max(map(len, filled.values()), default=1), width)
    for label, rows in filled.items():
        bank.append(torch.full((len(rows),), label), rows)
    return bank


def _rows(label: object, queue: object, path: str | Path) -> Tensor:
    """(n, D) Raises: CheckpointError"""
    queue = _numbers(queue)
    try:
        if isinstance(queue, list | tuple) and any(isinstance(entry, Tensor | Array) for entry in queue):
            queue = torch.stack([torch.as_tensor(_numbers(entry)) for entry in queue])
        rows = torch.as_tensor(queue)
        if rows.ndim == 2 or not rows.numel():
            return rows.float()
        reason = f"{rows.ndim} axes instead of 2"
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
    raise CheckpointError(
        f"{path} is no bank of queries: what it has of class {label!r:.40} is no queue of vectors of one width "
        f"({reason}); give SimCIS's fake_query.pkl."
    )


def _numbers(value: object) -> object:
    return value.tensor() if isinstance(value, Array) else value
