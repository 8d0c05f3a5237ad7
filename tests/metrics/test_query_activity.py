from math import isnan, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from queryseg.metrics.mask_overlaps import mask_overlaps
from queryseg.metrics.query_activity import normalised_entropy, overlap_sums


@pytest.mark.parametrize(
    ("counts", "entropy"),
    [([5, 0, 0], 0.0), ([2, 2, 2, 2], 1.0), ([1, 1, 0, 0], log(2) / log(4)), ([3, 1], 0.8112781244591328)],
)
def test_entropy(counts: list[int], entropy: float) -> None:
    assert normalised_entropy(torch.tensor(counts)) == pytest.approx(entropy, abs=1e-12)


def test_entropy_of_nothing_or_of_one_entry_is_not_defined() -> None:
    assert isnan(normalised_entropy(torch.zeros(4)))
    assert isnan(normalised_entropy(torch.tensor([7])))


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=20).filter(any), st.integers(2, 9), st.randoms())
def test_entropy_ignores_order_and_scale_and_stays_in_bounds(counts: list[int], factor: int, random) -> None:
    shuffled = random.sample(counts, len(counts))
    found = normalised_entropy(torch.tensor(counts))
    assert -1e-12 <= found <= 1 + 1e-12
    assert normalised_entropy(factor * torch.tensor(shuffled)) == pytest.approx(found, abs=1e-9)
    wider = normalised_entropy(torch.tensor([*counts, 0]))  # the same distribution among more
    assert wider * log(len(counts) + 1) == pytest.approx(found * log(len(counts)), abs=1e-9)


def test_overlaps_of_pairs() -> None:
    masks = torch.zeros(4, 2, 3, dtype=torch.bool)
    masks[0, 0] = True  # 3 pixels
    masks[1, 0, :2] = masks[1, 1, 0] = True  # 3 pixels, 2 of them shared
    overlaps = mask_overlaps(masks, masks)  # 2 and 3 are empty
    assert overlaps[0, 1] == overlaps[1, 0] == 0.5
    assert overlaps[0, 0] == 1
    assert overlaps[0, 2] == 0
    assert overlaps[2, 3].isnan()
    assert overlap_sums(overlaps, torch.tensor([7, 7, 7, 7])).tolist() == [[0.5, 5], [0.5, 5]]
    assert overlap_sums(overlaps, torch.tensor([7, 1, 7, 1])).tolist() == [[0.5, 5], [0, 2]]


@given(st.integers(0, 6), st.integers(0, 2**31))
def test_overlap_sums_equal_a_loop_over_pairs(num_masks: int, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    masks = torch.rand(num_masks, 4, 5, generator=random) > torch.rand(num_masks, 1, 1, generator=random) + 0.3
    classes = torch.randint(0, 2, (num_masks,), generator=random)
    wanted = torch.zeros(2, 2)
    for i in range(num_masks):
        for j in range(i):
            union = int((masks[i] | masks[j]).sum())
            if union:
                term = torch.tensor([int((masks[i] & masks[j]).sum()) / union, 1.0])
                wanted[0] += term
                wanted[1] += term * (classes[i] == classes[j])
    torch.testing.assert_close(overlap_sums(mask_overlaps(masks, masks), classes), wanted)
