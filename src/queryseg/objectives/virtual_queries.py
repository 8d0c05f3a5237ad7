"""Queries of earlier tasks, seen again.

Shape legend: B images, Q queries, N of them attend, V virtual ones, K classes, D query width, M matched pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.errors import RecipeError
from queryseg.objectives.class_indices import check_classes
from queryseg.objectives.focal_hungarian import FocalHungarian
from queryseg.objectives.focal_set_criterion import focal_loss
from queryseg.objectives.matched_criterion import matched_rows, mean_over_ranks
from queryseg.objectives.matching import Matcher, Segments
from queryseg.objectives.pseudo_distribution import PseudoDistribution
from queryseg.objectives.query_bank import BANK_FILE, QueryBank
from queryseg.spelling import first_of
from queryseg.types import Dims, Output, Queries, Target


class VirtualQueries(Objective):
    """Remembers the queries that segments were matched with, as they were before the decoder, and shows some of
    earlier classes again. Shown queries meet neither pixels nor other queries; they are told their class in every
    reading, and nothing else.

    old_classes    class indices of the tasks before; (): the first task, which only fills the bank
    num_virtual    V, shown with every image
    length         of the bank, per class
    alpha          exponent of the weights by which classes are drawn, see `PseudoDistribution.weights`
    bank_source    whose queries are kept. gt+pseudo: those of pseudo-labels too, which follows features as they drift
                   (the authors' code); gt: those of labelled segments (the paper)
    bank           the file that the task before left in its folder; None: begin empty
    distribution   counts of pseudo-labels in this task's images; None: every old class is as likely
    matcher        says which queries are kept: give it the criterion's settings
    class_weight   4 for panoptic, 2 for semantic training

    Old classes without an entry are not shown. Every process keeps the same bank: after every step the queries of all
    processes enter it, in their order. The authors' keep one each and join them at the end of a task, when the last one
    overwrites most of the others.
    Source: SimCIS (CVPR 2025) §4.3, Eq. 8–11; spec §3. Virtual queries are never stored again, as they may be there.
    """

    requires = frozenset({"isolated_rows", "sigmoid_classes"})

    def __init__(
        self,
        dims: Dims,
        old_classes: Sequence[int] = (),
        num_virtual: int = 5,
        length: int = 80,
        alpha: float = 0.5,
        bank_source: Literal["gt+pseudo", "gt"] = "gt+pseudo",
        bank: str | None = None,
        distribution: str | None = None,
        matcher: Callable[[], Matcher] = FocalHungarian,
        class_weight: float = 4.0,
    ) -> None:
        super().__init__()
        check_classes("VirtualQueries: old_classes", old_classes, dims)
        for name, value, least in (("num_virtual", num_virtual, 0), ("length", length, 1)):
            if value < least:
                raise RecipeError(f"VirtualQueries: {name} is {value}, but must be at least {least}.")
        self.matcher = matcher()
        self.requires = self.requires | self.matcher.requires
        self.weights = {"class": class_weight}
        self.class_names, self.old_classes = dims.class_names, tuple(old_classes)
        self.num_virtual, self.with_pseudo = num_virtual, bank_source == "gt+pseudo"
        self.bank = QueryBank(dims.num_classes, length, dims.width)
        if bank is not None:
            self.bank.read(Path(bank), dims.class_names)
        counts = torch.zeros(dims.num_classes, dtype=torch.int64)
        counted = PseudoDistribution(counts)
        if distribution is not None:
            counted = PseudoDistribution.read(Path(distribution), dims.class_names)
        self.register_buffer("class_weights", counted.weights(old_classes, alpha).float(), persistent=False)
        self.drawn: Tensor | None = None  # (B, V) classes of the virtual queries of this micro-batch
        self.kept: list[tuple[Tensor, Tensor]] = []  # labels (M,) and rows (M, D) of every micro-batch of this step

    class_weights: Tensor

    def remarks(self) -> list[str]:
        """Old classes without an entry."""
        counts = self.bank.counts.tolist()
        missing = [self.class_names[c] for c in self.old_classes if not counts[c]]
        if not missing or not self.num_virtual:
            return []
        return [
            f"Virtual queries: the bank has no entry of {len(missing)} of {len(self.old_classes)} old classes, which "
            f"are not shown again until one is found: {first_of(missing, 5)}"
        ]

    def prepare(self, queries: Queries, targets: list[Target], step: Step) -> tuple[Queries, list[Target]]:
        self.drawn = None
        if not (self.num_virtual and self.old_classes):
            return queries, targets
        weights = self.class_weights * (self.bank.added > 0)
        if not bool(weights.any()):
            return queries, targets
        self.drawn, rows = self.bank.draw(weights, len(queries.content), self.num_virtual)
        return queries.with_isolated(rows.to(queries.content.dtype)), targets

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        self._keep(output, targets)
        if self.drawn is None:
            return {}
        segments = sum(len(target.labels) for target in targets)
        num_segments = mean_over_ranks(segments, self.drawn.device).clamp(min=1)
        batch, number = self.drawn.shape
        image = torch.arange(batch, device=self.drawn.device).repeat_interleave(number)
        row = torch.arange(number, device=self.drawn.device).repeat(batch)
        sums = [focal_loss(p.class_logits, image, row, self.drawn.flatten()) for p in output.isolated]
        return {"class": torch.stack(sums).sum() / num_segments}

    @torch.no_grad()
    def _keep(self, output: Output, targets: list[Target]) -> None:
        segments = Segments.of(targets)
        (pairs,) = self.matcher.match([output.final], segments)
        content = output.queries.content[:, : output.queries.num_attending]
        rows, labels = matched_rows(content, pairs), segments.labels[pairs.target]
        if not self.with_pseudo:
            labelled = torch.cat([torch.arange(len(t.labels), device=labels.device) >= t.num_pseudo for t in targets])
            rows, labels = rows[labelled[pairs.target]], labels[labelled[pairs.target]]
        self.kept.append((labels, rows.half()))

    def after_step(self, step: Step) -> None:
        labels, rows = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        self.kept.clear()
        self.bank.append(*over_ranks(labels, rows))

    def hand_over(self, folder: Path) -> None:
        """The bank. Raises: InputError if it cannot be written"""
        self.bank.write(folder / BANK_FILE, self.class_names)


def over_ranks(labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """labels (M,) and rows (M, D) of all processes, in their order; M differs between them."""
    if not (dist.is_available() and dist.is_initialized()):
        return labels, rows
    number = labels.new_tensor([len(labels)])
    numbers = [torch.zeros_like(number) for _ in range(dist.get_world_size())]
    dist.all_gather(numbers, number)
    counts = [int(n) for n in torch.cat(numbers).tolist()]

    def gathered(x: Tensor) -> Tensor:
        padded = torch.cat((x, x.new_zeros(max(counts) - len(x), *x.shape[1:])))
        parts = [torch.zeros_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    return gathered(labels), gathered(rows)
