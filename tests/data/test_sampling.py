from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator
from torch.utils.data import DataLoader

from queryseg.data.class_table import class_table
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.sampling import Draw, StepBatchSampler, TrainingSet, seeded
from queryseg.errors import InputError
from queryseg.types import Sample


class Numbers(SegmentationDataset):
    name = "numbers"
    classes = class_table(["one"])

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        return Sample(torch.full((3, 2, 2), index, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8), str(index))


def noisy(sample: Sample, generator: Generator, label: int | None = None) -> Sample:
    return Sample(sample.image + torch.randint(100, (), generator=generator).byte(), sample.label_map, sample.name)


sizes = st.integers(1, 30)


@settings(deadline=None)
@given(sizes, sizes, st.integers(0, 2**40), st.integers(0, 40), st.booleans())
def test_resuming_anywhere_continues_the_same_run(num: int, size: int, seed: int, start: int, weighted: bool) -> None:
    weights = torch.arange(1, num + 1) if weighted else None
    whole = list(islice(StepBatchSampler(num, size, seed, weights=weights), start + 3))
    resumed = list(islice(StepBatchSampler(num, size, seed, start_batch=start, weights=weights), 3))
    assert resumed == whole[start:]
    assert [draw.position for batch in whole for draw in batch] == list(range((start + 3) * size))


@given(sizes, st.integers(1, 5), st.integers(1, 4), st.integers(0, 99))
def test_every_epoch_sees_every_sample_once_over_all_processes(num: int, size: int, world: int, seed: int) -> None:
    num_batches = -(-2 * num // (size * world))
    draws = [
        draw
        for rank in range(world)
        for batch in StepBatchSampler(num, size, seed, num_batches=num_batches, rank=rank, world_size=world)
        for draw in batch
    ]
    index = {draw.position: draw.index for draw in draws}
    assert len(index) == len(draws) == num_batches * size * world
    for epoch in range(2):
        assert sorted(index[p] for p in range(epoch * num, (epoch + 1) * num)) == list(range(num))
    alone = StepBatchSampler(num, 1, seed)
    assert all(alone.index(position) == index[position] for position in index)


def test_epochs_and_seeds_differ() -> None:
    orders = [
        [StepBatchSampler(50, 1, seed).index(epoch * 50 + i) for i in range(50)] for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 4


def test_length_counts_what_is_left() -> None:
    assert len(StepBatchSampler(5, 2, 0, start_batch=3, num_batches=10)) == 7
    assert len(list(StepBatchSampler(5, 2, 0, start_batch=3, num_batches=10))) == 7
    assert len(StepBatchSampler(5, 2, 0, start_batch=12, num_batches=10)) == 0
    with pytest.raises(TypeError):
        len(StepBatchSampler(5, 2, 0))


def test_weights_set_frequencies() -> None:
    sampler = StepBatchSampler(3, 3000, 0, num_batches=1, weights=torch.tensor([0.0, 1.0, 3.0]))
    counts = torch.bincount(torch.tensor([draw.index for draw in next(iter(sampler))]), minlength=3)
    assert counts[0] == 0
    assert counts[2] / counts[1] == pytest.approx(3, rel=0.15)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0]])
def test_refused_weights(weights: list[float]) -> None:
    with pytest.raises(InputError, match="weights"):
        StepBatchSampler(2, 1, 0, weights=torch.tensor(weights))
    with pytest.raises(InputError, match="at least 1"):
        StepBatchSampler(0, 1, 0)


def test_a_drawn_sample_depends_on_seed_and_position_alone() -> None:
    training = TrainingSet(Numbers(), noisy, seed=3)
    first = training[Draw(7, 2)]
    torch.manual_seed(9)
    again = TrainingSet(Numbers(), noisy, seed=3)[Draw(7, 2)]
    assert torch.equal(first.image, again.image)
    assert (first.position, first.name) == (7, "2")
    assert len({int(training[Draw(position, 2)].image[0, 0, 0]) for position in range(30)}) > 10
    assert len(training) == 10


def test_a_sample_is_drawn_for_the_sake_of_one_of_its_classes() -> None:
    """As often as its share says, and as a function of seed and position; without shares, for none."""
    told: list[int | None] = []

    def listen(sample: Sample, generator: Generator, label: int | None = None) -> Sample:
        told.append(label)
        return sample

    shares = torch.zeros(10, 3, dtype=torch.float64)
    shares[4] = torch.tensor([0.3, 0.0, 0.1])
    training = TrainingSet(Numbers(), listen, seed=0, shares=shares)
    for position in [*range(1000), *range(1000)]:
        training[Draw(position, 4)]
    assert told[:1000] == told[1000:]
    assert [told.count(label) / 2000 for label in range(3)] == pytest.approx([0.75, 0, 0.25], abs=0.05)
    TrainingSet(Numbers(), listen, seed=0)[Draw(0, 4)]
    assert told[-1] is None


def test_results_do_not_depend_on_the_number_of_workers() -> None:
    def images(num_workers: int) -> list[torch.Tensor]:
        sampler = StepBatchSampler(10, 3, 0, start_batch=2, num_batches=6)
        loader = DataLoader(
            TrainingSet(Numbers(), noisy, 0), batch_sampler=sampler, num_workers=num_workers, collate_fn=list
        )
        return [torch.stack([sample.image for sample in samples]) for samples in loader]

    for a, b in zip(images(0), images(2), strict=True):
        assert torch.equal(a, b)


def test_streams_of_near_keys_are_unrelated() -> None:
    draws = {
        int(torch.randint(2**30, (), generator=seeded(*key))) for key in ((0, 1, 2), (0, 1, 3), (0, 2, 1), (1, 0, 2))
    }
    assert len(draws) == 4
