"""What is a function of the step alone: the learning rate, and the state of every random generator.

Nothing here is counted or stored, so a run that resumes at step k continues as if it had never stopped.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import torch

from queryseg.recipe import TrainingSettings

_MMCV_WARMUP_FROM = 1e-6


def rate_factor(step: int, steps: int, warmup: float = 0.0, power: float = 0.9) -> float:
    """Share of the full learning rate at 0 ≤ step < steps.

    With w = warmup · steps rounded, it rises linearly over the first w steps, is 1 at step w, and then falls as
    (1 − (step − w) / (steps − w))^power; it would reach 0 at `steps`.

    Source: QPrompt-R1 spec §4 (poly 0.9), as in mmsegmentation; the warm-up never wastes a step at rate 0.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    falling: float = (1 - (step - rising) / (steps - rising)) ** power
    return falling


def learning_rate(step: int, settings: TrainingSettings, factor: float = 1.0) -> float:
    """Of parameters that learn at `factor` of the full rate, at 0 ≤ step < steps.

    With the full rate r and the floor m = min(r, min_learning_rate), "poly" decays from r to m after the warm-up, see
    `rate_factor`; with milestones it drops there instead, see `milestone_factor`. "mmcv_poly", with w warm-up steps:
    (m + (r − m) · (1 − step/steps)^power) · (1 − (1 − step/w) · (1 − 1e-6)), the last factor before step w alone.

    Source: mmcv 1's PolyLrUpdaterHook with a linear warm-up, whose floor is the same for every group of parameters; as
    tqdm's configurations use it, spec §6. Deviation: there, a rate below the floor rises to it.
    """
    full = factor * settings.learning_rate
    floor = min(full, settings.min_learning_rate)
    rising = round(settings.warmup * settings.steps)
    if settings.schedule == "mmcv_poly":
        rise = 1 - (1 - step / rising) * (1 - _MMCV_WARMUP_FROM) if step < rising else 1.0
        return rise * (floor + (full - floor) * rate_factor(step, settings.steps, power=settings.power))
    if settings.milestones is not None:
        share = milestone_factor(step, settings.steps, settings.milestones, settings.drop, settings.warmup)
    else:
        share = rate_factor(step, settings.steps, settings.warmup, settings.power)
    return full * share if step < rising else floor + (full - floor) * share


def milestone_factor(
    step: int, steps: int, milestones: Sequence[float], drop: float = 0.1, warmup: float = 0.0
) -> float:
    """Share of the full learning rate at 0 ≤ step < steps: `drop` to the power of how many milestones (shares of the
    steps) have passed, after a linear rise as in `rate_factor`.

    Source: SimCIS spec §6; torch's MultiStepLR with whole steps.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    factor: float = drop ** sum(step >= round(share * steps) for share in milestones)
    return factor


def decayed(step: int, steps: int, first: float, final: float | None) -> float:
    """Weight decay at 0 ≤ step < steps: from `first` to `final` along half a cosine; None: always `first`.

    Source: the configurations of SoMA (CVPR 2025): final + (first − final) · (1 + cos(π · step / steps)) / 2.
    """
    if final is None:
        return first
    return final + (first - final) * (1 + math.cos(math.pi * step / steps)) / 2


def reseed(seed: int, step: int, part: int, rank: int) -> None:
    """Put Python's, NumPy's and torch's generators (every device's) into the state that belongs to one forward pass.

    part: number of the micro-batch within the step. What ran before, such as a validation, leaves no trace.
    """
    words = np.random.SeedSequence([abs(seed), step, part, rank]).generate_state(4, np.uint32)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))
