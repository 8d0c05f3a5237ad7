"""Queries that never speak need not be read.

Shape legend: B images, Q queries, K classes, H×W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from queryseg.errors import InputError
from queryseg.inference.engine import Engine
from queryseg.inference.kept_queries import KeptQueries
from queryseg.inference.precision import InferencePrecision
from queryseg.readouts.mixture import Mixture
from queryseg.segmenter import Segmenter

TOLERANCE = 0.05


@dataclass(frozen=True)
class PruningReport:
    """What was dropped, and what that changed on the calibration images.

    num_queries      before
    kept             rows that are still read
    tolerance        that was allowed
    bound            no score of a calibration image can have changed by more; at most the tolerance
    largest_change   of a score, measured
    agreement        share of the calibration images' pixels that keep their label
    num_images       that calibrated
    """

    num_queries: int
    kept: tuple[int, ...]
    tolerance: float
    bound: float
    largest_change: float
    agreement: float
    num_images: int

    def __str__(self) -> str:
        return (
            f"{len(self.kept)} of {self.num_queries} queries are read; on {self.num_images} images no score changes "
            f"by more than {self.largest_change:.4f} (allowed {self.tolerance:g}), "
            f"{100 * self.agreement:.3f} % of labels stay"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def prune_queries(
    model: Segmenter, images: Iterable[Tensor], tolerance: float = TOLERANCE, precision: InferencePrecision = "fp32"
) -> tuple[Segmenter, PruningReport]:
    """A copy of a trained model that reads only the queries which `images` need, and what that changes on them.

    images     (3, H, W) uint8 RGB at the size the model is shown; of the source and of shifted domains
    tolerance  largest change of any score (0…1) on them; 0 drops only queries whose weight is exactly zero
    precision  in which the model predicts, see `Predictor`

    A query adds p_q(c) · σ(mask_q) to the score of class c, hence never more than w_q = max_c p_q(c) · max σ(mask_q).
    The queries with the smallest w_q, each its largest over the images, are dropped as long as their sum stays within
    the tolerance. They keep taking part in attention: what the others see is the same. On other images the bound is no
    promise; measure it there.

    Source: ours. Raises: InputError for a model whose queries are read more than once or are not mixed by weights, for
    a negative tolerance, and without images
    """
    if type(model.readout) is not Mixture or not model.decoder.reads_once:
        raise InputError(
            f"Queries of {type(model.decoder).__name__} with {type(model.readout).__name__} cannot be left out: that "
            "needs a decoder which reads them once, at its end, and the readout Mixture."
        )
    if tolerance < 0:
        raise InputError(f"The tolerance of pruning is {tolerance:g}; give the change of scores to allow, 0 or above.")
    calibration = list(images)
    if not calibration:
        raise InputError("Pruning has no images to calibrate with; give some of every domain that matters.")
    device = model.mean.device
    whole = Engine(copy.deepcopy(model).eval(), precision)
    weights = torch.stack([_weights(whole, image[None].to(device)) for image in calibration]).amax(0)
    order = weights.argsort()
    sums = weights[order].double().cumsum(0)
    num_dropped = min(int((sums <= tolerance).sum()), len(order) - 1)
    kept = sorted(order[num_dropped:].tolist())
    pruned = copy.deepcopy(whole.model)
    pruned.decoder.heads = KeptQueries(pruned.decoder.heads, kept).to(device)
    engines = whole, Engine(pruned, precision)
    change, num_equal, num_pixels = 0.0, 0, 0
    for image in calibration:
        before, after = (engine.find(image[None].to(device)).scores() for engine in engines)
        change = max(change, float((before - after).abs().max()))
        num_equal += int((before.argmax(1) == after.argmax(1)).sum())
        num_pixels += before[0, 0].numel()
    bound = float(sums[num_dropped - 1]) if num_dropped else 0.0
    report = PruningReport(len(order), tuple(kept), tolerance, bound, change, num_equal / num_pixels, len(calibration))
    return pruned, report


def _weights(engine: Engine, images: Tensor) -> Tensor:
    """(Q,) w_q of one image"""
    reading = engine.read(images)[0]
    return (reading.class_scores.amax(-1) * reading.mask_logits.sigmoid().flatten(2).amax(-1))[0]
