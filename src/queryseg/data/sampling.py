"""The order in which training sees samples: a pure function of the seed, so that a run resumes anywhere.

Shape legend: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import InputError
from queryseg.types import Sample

_ORDER, _TRANSFORM = 0, 1  # separate streams of random numbers

SHARDS_TOGETHER = 8
"""Shards whose samples are mixed; at 500 MB each, some thousand images of Cityscapes."""


@dataclass(frozen=True, slots=True)
class Draw:
    """The `position`-th sample that a run sees, over all processes, is sample `index` of the data set."""

    position: int
    index: int


@dataclass(frozen=True)
class DrawnSample(Sample):
    """A training sample that remembers its place in the run."""

    position: int = field(kw_only=True)


class Transform(Protocol):
    """Augments one sample with the randomness that its draw is given. label: the class that it was drawn for."""

    def __call__(self, sample: Sample, generator: Generator, label: int | None = None) -> Sample: ...


class StepBatchSampler(Sampler[list[Draw]]):
    """Batches of draws by number, for `DataLoader(batch_sampler=…)`.

    num_samples  N
    batch_size   per process
    seed         of the order
    start_batch  first batch to yield: the number of batches that the interrupted run has consumed
    num_batches  of the whole run, including those before `start_batch`; None: endless
    rank         of this process
    world_size   number of processes; batch k of process r holds the positions from (k·world_size + r)·batch_size on
    weights      (N,) how often each sample is drawn relative to the others, with replacement; None: every sample once
                 per epoch, in an order of its own
    shards       sizes of the files that hold the samples one after another: an epoch then reads `SHARDS_TOGETHER` of
                 them at a time (in an order of its own, samples mixed among those), which suits disks that dislike
                 random access; None, few shards, or weights: all samples are mixed

    Nothing is counted while iterating, so workers that read ahead do not matter, and an epoch may begin and end within
    a batch: no sample is dropped.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        start_batch: int = 0,
        num_batches: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        weights: Tensor | None = None,
        shards: Sequence[int] | None = None,
    ) -> None:
        if num_samples < 1 or batch_size < 1:
            raise InputError(
                f"{num_samples} samples in batches of {batch_size} cannot be drawn; both must be at least 1."
            )
        if weights is not None and (weights.shape != (num_samples,) or weights.min() < 0 or weights.sum() <= 0):
            raise InputError(f"Sampling weights must be {num_samples} numbers ≥ 0, not all 0.")
        assert 0 <= rank < world_size
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.start_batch = start_batch
        self.num_batches = num_batches
        self.rank = rank
        self.world_size = world_size
        self.weights = weights
        self.shards = shards if shards is not None and len(shards) > SHARDS_TOGETHER else None
        assert shards is None or sum(shards) == num_samples
        self._epoch, self._order = -1, torch.empty(0)

    def __len__(self) -> int:
        if self.num_batches is None:
            raise TypeError("an endless sampler has no length")  # the type that list() and DataLoader expect
        return max(0, self.num_batches - self.start_batch)

    def __iter__(self) -> Iterator[list[Draw]]:
        number = self.start_batch
        while self.num_batches is None or number < self.num_batches:
            yield self.batch(number)
            number += 1

    def batch(self, number: int) -> list[Draw]:
        """The draws of one batch of this process."""
        first = (number * self.world_size + self.rank) * self.batch_size
        return [Draw(position, self.index(position)) for position in range(first, first + self.batch_size)]

    def index(self, position: int) -> int:
        """The sample at a position of the run."""
        epoch, place = divmod(position, self.num_samples)
        if epoch != self._epoch:  # a batch may span two epochs; the previous order is cheap to make again
            generator = seeded(self.seed, _ORDER, epoch)
            if self.weights is None and self.shards is None:
                self._order = torch.randperm(self.num_samples, generator=generator)
            elif self.weights is None:
                self._order = shard_order(self.shards or (), generator)
            else:
                self._order = self.weights.double().multinomial(self.num_samples, replacement=True, generator=generator)
            self._epoch = epoch
        return int(self._order[place])


def shard_order(sizes: Sequence[int], generator: Generator) -> Tensor:
    """(N,) every sample once: shards in random order, `SHARDS_TOGETHER` at a time, samples of those mixed."""
    ends = torch.tensor(list(sizes)).cumsum(0).tolist()
    shards = torch.split(torch.randperm(len(ends), generator=generator), SHARDS_TOGETHER)
    order = []
    for together in shards:
        samples = torch.cat([torch.arange(ends[shard] - sizes[shard], ends[shard]) for shard in together.tolist()])
        order.append(samples[torch.randperm(len(samples), generator=generator)])
    return torch.cat(order)


class TrainingSet(Dataset[DrawnSample]):
    """Maps a draw to its transformed sample; the transform's randomness depends on (seed, position) alone.

    shares  (N, K) how often each sample is drawn for the sake of each class (`rare_class_shares`); the transform is
            told one of these classes. None: samples are drawn for their own sake
    """

    def __init__(
        self, dataset: SegmentationDataset, transform: Transform, seed: int, shares: Tensor | None = None
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.shares = shares

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> DrawnSample:
        generator = seeded(self.seed, _TRANSFORM, draw.position)
        label = None if self.shares is None else int(self.shares[draw.index].multinomial(1, generator=generator))
        sample = self.transform(self.dataset[draw.index], generator, label)
        return DrawnSample(sample.image, sample.label_map, sample.name, sample.instance_map, position=draw.position)


def seeded(*keys: int) -> Generator:
    """A generator whose stream is a function of the keys; near keys give unrelated streams."""
    state = np.random.SeedSequence([abs(key) for key in keys]).generate_state(1, np.uint32)
    return Generator().manual_seed(int(state[0]))
