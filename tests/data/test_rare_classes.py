import json
from pathlib import Path

import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.rare_classes import class_pixel_counts, rare_class_shares
from queryseg.errors import InputError
from queryseg.types import Sample


class Rows(SegmentationDataset):
    """Sample i has i pixels of class 1, the rest of class 0, and one ignored pixel."""

    name = "rows"
    reads = 0

    def __init__(self, num: int = 4) -> None:
        self.num = num
        self.classes = class_table(["road", "car", "train"])

    def __len__(self) -> int:
        return self.num

    def __getitem__(self, index: int) -> Sample:
        self.reads += 1
        label_map = torch.zeros(1, 10, dtype=torch.uint8)
        label_map[0, :index] = 1
        label_map[0, 9] = 255
        return Sample(torch.zeros(3, 1, 10, dtype=torch.uint8), label_map, f"row{index}")


def test_counts() -> None:
    seen: list[tuple[int, int]] = []
    counts = class_pixel_counts(Rows(), progress=lambda done, total: seen.append((done, total)))
    assert counts.tolist() == [[9, 0, 0], [8, 1, 0], [7, 2, 0], [6, 3, 0]]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_cache(tmp_path: Path) -> None:
    dataset, cache = Rows(), tmp_path / "counts.json"
    counts = class_pixel_counts(dataset, cache=cache)
    assert torch.equal(class_pixel_counts(dataset, cache=cache), counts)
    assert dataset.reads == 4
    with pytest.raises(InputError, match=r"counts\.json' are of other images"):
        class_pixel_counts(Rows(3), cache=cache)
    cache.write_text(json.dumps([1]))
    with pytest.raises(InputError, match=r"counts\.json' cannot be read"):
        class_pixel_counts(dataset, cache=cache)


def test_weights_are_those_of_the_two_stage_draw() -> None:
    counts = torch.tensor([[90, 0, 0], [80, 10, 0], [95, 5, 0]])
    frequency = counts.sum(0) / counts.sum()
    probability = torch.exp((1 - frequency[:2]) / 0.5)
    probability = probability / probability.sum()
    expected = torch.tensor([probability[0] / 3, *[probability[0] / 3 + probability[1] / 2] * 2])
    assert torch.allclose(rare_class_shares(counts, 0.5).sum(1), expected.double(), atol=1e-6)


def test_low_temperature_draws_the_rarest_class_alone() -> None:
    weights = rare_class_shares(torch.tensor([[90, 0, 0], [80, 10, 0], [95, 5, 0]])).sum(1)
    assert torch.allclose(weights, torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64), atol=1e-6)


# percent of all pixels, about as in a street scene with 19 classes
SHARES = torch.tensor(
    [36.9, 6.1, 22.8, 0.7, 0.9, 1.2, 0.2, 0.6, 15.9, 1.2, 4.0, 1.2, 0.1, 7.0, 0.3, 0.2, 0.2, 0.1, 0.4]
)  # fmt: skip


@pytest.mark.parametrize(("temperature", "least", "most"), [(100.0, 1.003, 1.01), (0.01, 1e15, 1e17)])
def test_a_high_temperature_draws_all_classes_alike(temperature: float, least: float, most: float) -> None:
    """tqdm's T = 100: the rarest class is drawn 0.4 % more often than the commonest. DAFormer's 0.01: 10¹⁶ times."""
    counts = (1000 * SHARES).long().expand(5, -1)
    by_class = rare_class_shares(counts, temperature).sum(0)
    assert by_class.sum().item() == pytest.approx(1)
    assert least < (by_class.max() / by_class.min()).item() < most


def test_images_count_for_a_class_with_enough_of_it() -> None:
    counts = torch.tensor([[9000, 3000, 0], [9000, 3001, 10], [9000, 8000, 0]])
    shares = rare_class_shares(counts, 1.0, min_pixels=3000)
    assert (shares > 0).tolist() == [[True, False, False], [True, True, False], [True, True, False]]
    assert shares.sum().item() == pytest.approx(1)
    assert (shares[:, 0] == shares[0, 0]).all()
    with pytest.raises(InputError, match="No image has more than 9000 pixels of any class"):
        rare_class_shares(counts, 1.0, min_pixels=9000)


def test_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        rare_class_shares(torch.ones(2, 2), 0)
    with pytest.raises(InputError, match="No image has a labelled pixel"):
        rare_class_shares(torch.zeros(2, 2))
