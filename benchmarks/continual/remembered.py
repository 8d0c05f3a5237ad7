"""Does a step still call old classes by their names: virtual queries, and the queries of real segments?

    python benchmarks/continual/remembered.py runs/continual/vanished/gone/simcis/order_2/step_{1..5}

Virtual queries are the first step's bank, shown as in training: they meet neither pixels nor other queries. Of a real
segment the query that outlines it best is asked, if its IoU is above 0.5, on generated streets that no run has seen.
Scores of the right class, mean over a class's entries or segments, and the class that most of the segments are called.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import fmean

import torch
from torch import Tensor
from unseen_streets import SAME, SCENES, Figures, Step, ask_steps, outlines

from queryseg.data.class_table import CITYSCAPES
from queryseg.metrics.mask_overlaps import mask_overlaps
from queryseg.objectives.query_bank import BANK_FILE, QueryBank
from queryseg.types import Queries


def virtual_scores(step: Step) -> dict[int, float]:
    """Class → what its entries in the first step's bank score of it, after the last reading."""
    dims = step.model.dims
    bank = QueryBank(dims.num_classes, 80, dims.width)
    bank.read(step.folder.with_name("step_1") / BANK_FILE, dims.class_names)
    labels = torch.arange(dims.num_classes).repeat_interleave(bank.counts)
    rows = torch.cat([bank.entries(label) for label in range(dims.num_classes)]).float()

    def show(queries: Queries) -> Queries:
        return queries.with_isolated(rows[None])

    with torch.no_grad():
        answer = step.model(torch.zeros(1, 3, *SCENES["size"]), show)
    scores = answer.isolated[-1].class_logits[0].sigmoid()[torch.arange(len(labels)), labels]
    return {label: float(scores[labels == label].mean()) for label in labels.unique().tolist()}


def measure(step: Step, num_images: int) -> Figures:
    """Of the classes in the first step's bank that were outlined at all."""
    virtual, real = virtual_scores(step), defaultdict[int, list[tuple[float, int]]](list)
    for answer, labels, masks in step.answers(num_images):
        for label, score, called in best_answers(outlines(answer, masks), answer.class_scores[0], labels, masks):
            real[label].append((score, called))
    return {
        CITYSCAPES.names[label]: {"virtual": round(score, 3), **summary(found)}
        for label, score in virtual.items()
        if (found := real[label])
    }


def summary(found: list[tuple[float, int]]) -> Figures:
    """found: score and what it is called, of every segment"""
    ((label, often),) = Counter(called for _, called in found).most_common(1)
    score = round(fmean(score for score, _ in found), 3)
    return {"real": score, "segments": len(found), "called": CITYSCAPES.names[label], "so_called": often}


def best_answers(
    regions: Tensor, class_scores: Tensor, labels: Tensor, masks: Tensor
) -> Iterator[tuple[int, float, int]]:
    """regions (Q, h, w) bool, class_scores (Q, K), labels (M,), masks (M, h, w) bool → of segments that a query
    outlines: the class, and of the query that does it best the score of this class and the class that it says."""
    iou, best = mask_overlaps(regions, masks).max(0)
    for segment in (iou > SAME).nonzero()[:, 0].tolist():
        label, scores = int(labels[segment]), class_scores[best[segment]]
        yield label, float(scores[label]), int(scores.argmax())


def lines(found: Figures) -> Iterator[str]:
    for name, scores in found.items():
        called = f"{scores['so_called']} of {scores['segments']} segments are called {scores['called']}"
        yield f"{name}: virtual {scores['virtual']:.2f}, real {scores['real']:.2f}; {called}"


if __name__ == "__main__":
    ask_steps(__doc__, measure, lines, {"outlined_above_iou": SAME})
