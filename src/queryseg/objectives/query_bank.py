"""Queries of every class, kept for replay.

Shape legend: K classes, L entries per class at most, D query width, N queries that come in, V queries that are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from queryseg.data.whole_file import write_whole
from queryseg.errors import CheckpointError

BANK_FILE = "virtual_queries.safetensors"
"""Its name in the folder of a run."""


class QueryBank(nn.Module):
    """The newest L queries of each class, in float16: 5.9 MiB for 150 classes of 80 queries of width 256.

    rows   (K, L, D) float16, a ring per class
    added  (K,) int64, how many ever came; entry number i of a class lies in slot i mod L

    Source: SimCIS (CVPR 2025) §4.3, Eq. 8; spec §3. The authors' code pickles lists of Python numbers, 27.7 MB.
    """

    rows: Tensor
    added: Tensor

    def __init__(self, num_classes: int, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(num_classes, length, width, dtype=torch.float16))
        self.register_buffer("added", torch.zeros(num_classes, dtype=torch.int64))

    @property
    def length(self) -> int:
        """L"""
        return self.rows.shape[1]

    @property
    def counts(self) -> Tensor:
        """(K,) int64 entries of each class"""
        return self.added.clamp(max=self.length)

    def entries(self, label: int) -> Tensor:
        """(n, D) of one class, oldest first"""
        added = int(self.added[label])
        slots = torch.arange(max(0, added - self.length), added, device=self.rows.device) % self.length
        return self.rows[label, slots]

    @torch.no_grad()
    def append(self, labels: Tensor, rows: Tensor) -> None:
        """labels (N,) int64, rows (N, D), in order; full classes lose their oldest entry."""
        belongs = F.one_hot(labels, len(self.added))
        place = (belongs.cumsum(0) * belongs).sum(1) - 1  # among those of the same class
        coming = belongs.sum(0)
        newest = place >= coming[labels] - self.length
        slots = (self.added[labels] + place) % self.length
        self.rows[labels[newest], slots[newest]] = rows[newest].half().to(self.rows)
        self.added += coming

    def draw(self, weights: Tensor, batch: int, number: int) -> tuple[Tensor, Tensor]:
        """Classes with replacement by their weights (K,), of which at least one is positive and all positive ones have
        entries; then any entry of each class → labels (batch, V) int64, rows (batch, V, D) float16."""
        labels = torch.multinomial(weights, batch * number, replacement=True)
        counts = self.counts[labels]
        slots = (torch.rand(counts.shape, device=counts.device) * counts).long().minimum(counts - 1)
        return labels.view(batch, number), self.rows[labels, slots].view(batch, number, -1)

    def write(self, path: Path, class_names: Sequence[str]) -> None:
        """Only what is filled, oldest first. Raises: InputError if the file cannot be written"""
        rows = torch.cat([self.entries(label) for label in range(len(self.added))]).half().cpu().contiguous()
        tensors = {"rows": rows, "counts": self.counts.cpu()}
        write_whole(path, partial(save_file, tensors, metadata={"classes": json.dumps(list(class_names))}))

    def read(self, path: Path, class_names: Sequence[str]) -> None:
        """Begin with the entries of a file, of each class the newest L. No code of the file is run.

        Raises: CheckpointError if it is missing, damaged, or of another width or other classes
        """
        labels, rows, names = _read(path)
        if rows.shape[1] != self.rows.shape[2]:
            raise CheckpointError(
                f"{path} holds queries of width {rows.shape[1]}, but this model's are {self.rows.shape[2]} wide; begin "
                "with the bank of a model of the same width, or without one."
            )
        if names != list(class_names):
            raise CheckpointError(
                f"{path} holds queries of {len(names)} classes, which are not the {len(class_names)} of this recipe; "
                "use the recipe's class table in all tasks, in one order."
            )
        self.added.zero_()
        self.append(labels.to(self.rows.device), rows.to(self.rows.device))


def _read(path: Path) -> tuple[Tensor, Tensor, list[str]]:
    try:
        with safe_open(path, "pt") as file:
            rows, counts = file.get_tensor("rows"), file.get_tensor("counts")
            names = json.loads((file.metadata() or {})["classes"])
        labels = torch.arange(len(counts)).repeat_interleave(counts)
        if rows.ndim != 2 or len(labels) != len(rows) or len(names) != len(counts):
            raise ValueError("its tensors do not fit together")
    except FileNotFoundError:
        raise CheckpointError(f"There is no {path}; give the bank of queries of the task before.") from None
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged or no bank of queries ({error}); copy it again.") from None
    return labels, rows, names
