"""What all metrics share: images one by one, in parts, in several processes, with intervals."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from queryseg.errors import InputError
from queryseg.metrics import (
    BoundaryIoU,
    Calibration,
    Metric,
    PanopticMap,
    PanopticQuality,
    PixelScores,
    PredictedMaps,
    Trimap,
    gathered,
    mean_iou_interval,
)
from queryseg.types import Sample

K = 5
KINDS = {
    "pixels": lambda: PixelScores(K),
    "trimap": lambda: Trimap(K, (1, 3)),
    "boundary_iou": lambda: BoundaryIoU(K),
    "panoptic": lambda: PanopticQuality(K, {1, 3}),
    "calibration": lambda: Calibration(K, classwise=True),
}


def pair(seed: int) -> tuple[PredictedMaps, Sample]:
    """Blocks of 4 pixels, three quarters of them right, sizes that differ."""
    draw = torch.Generator().manual_seed(seed)
    shape = (3 + seed % 3, 5)
    labels = torch.randint(0, K, shape, generator=draw)
    found = torch.where(torch.rand(shape, generator=draw) < 0.75, labels, torch.randint(0, K, shape, generator=draw))
    labels[0, 0] = 255

    def enlarged(values: torch.Tensor) -> torch.Tensor:
        return values.repeat_interleave(4, 0).repeat_interleave(4, 1)

    label_map, prediction = enlarged(labels).byte(), enlarged(found).byte()
    things = (label_map == 1) | (label_map == 3)
    instance_map = (things * (1 + enlarged(torch.arange(5).expand(shape) // 2))).int()
    found_things = (prediction == 1) | (prediction == 3)
    found_numbers = (found_things * (1 + enlarged(torch.arange(5).expand(shape) // 2))).int()
    probabilities = torch.rand(K, *shape, generator=draw).softmax(0)
    maps = PredictedMaps(prediction, PanopticMap(prediction, found_numbers), probabilities)
    return maps, Sample(torch.empty(0), label_map, f"image {seed}", instance_map)


def after(metric: Metric, seeds) -> Metric:
    for seed in seeds:
        metric.update(*pair(seed))
    return metric


@pytest.mark.parametrize("kind", KINDS)
def test_merged_parts_equal_the_whole(kind):
    whole = after(KINDS[kind](), range(7)).compute()
    merged, second = after(KINDS[kind](), range(3)), after(KINDS[kind](), range(3, 7))
    merged.merge(pickle.loads(pickle.dumps(second)))
    found = merged.compute()
    assert torch.equal(found.statistics, whole.statistics)
    assert found.scores() == whole.scores()
    assert found.intervals == whole.intervals
    if whole.total is not None:
        assert torch.equal(found.total, whole.total)


@pytest.mark.parametrize("kind", KINDS)
def test_every_score_has_an_interval_around_it_within_its_limits(kind):
    found = after(KINDS[kind](), range(12)).compute()
    assert found.num_images == 12
    for name, score in found.scores().items():
        low, high = found.interval(name)
        lowest, highest = found.metric.limits(name)
        assert lowest <= low <= score <= high <= highest, name
        assert high > low, name
    one = after(KINDS[kind](), [3]).compute()
    assert all(math.isnan(bound) for name in one.scores() for bound in one.interval(name))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_takes_little_memory_whatever_its_size(kind):
    """Of a blank metric nothing is left; a row takes at most 5 KB with 19 classes."""
    found = after(KINDS[kind](), range(2)).compute()
    row = found.statistics[0]
    assert row.numel() * row.element_size() * 19 / K <= 5000
    assert found.statistics.shape[1:] == after(KINDS[kind](), range(5)).compute().statistics.shape[1:]
    with pytest.raises(InputError, match=f"'{kind}' has seen no image"):
        found.metric.compute()


def test_json_holds_scores_with_intervals_classes_and_settings():
    names = ["road", "car", "sky", "bus", "pole"]
    found = after(BoundaryIoU(K, (2,)), range(4)).compute()
    plain = found.to_json(names)
    assert list(plain["scores"]) == ["mean_iou_2px", "mean_iou_2%"]
    assert plain["scores"]["mean_iou_2px"]["value"] == found.scores()["mean_iou_2px"]
    assert plain["scores"]["mean_iou_2px"]["interval"] == list(found.interval("mean_iou_2px"))
    assert plain["classes"]["car"]["iou_2px"] == float(found.per_class()["iou_2px"][1])
    assert plain["settings"] == {"widths_px": [2], "dilation_ratio": 0.02, "void": "contour"}
    assert plain["num_images"] == 4
    undefined = after(PixelScores(K), [0]).compute().to_json(names)
    assert undefined["scores"]["mean_iou"]["interval"] == [None, None]


def test_pixel_scores_keep_the_confusion_matrix_and_its_margins():
    found = after(PixelScores(K), range(6)).compute()
    assert torch.equal(found.pooled[0], found.total.diagonal().double())
    assert torch.equal(found.pooled[1], found.total.sum(1).double())
    assert torch.equal(found.pooled[2], found.total.sum(0).double())
    assert found.interval("mean_iou") == mean_iou_interval(found.statistics)


@pytest.mark.parametrize("other", [Trimap(K, (1, 5)), PixelScores(K)])
def test_what_was_measured_otherwise_is_not_merged(other):
    with pytest.raises(AssertionError):
        Trimap(K, (1, 3)).merge(other)


@pytest.mark.parametrize("widths", [(), (0, 1), (3, 3)])
def test_impossible_widths_are_refused(widths):
    with pytest.raises(InputError, match="different whole numbers"):
        Trimap(K, widths)
    with pytest.raises(InputError, match="different whole numbers"):
        BoundaryIoU(K, widths)


@pytest.mark.parametrize("ratio", [0, -0.02, 2])
def test_an_impossible_share_of_the_diagonal_is_refused(ratio):
    with pytest.raises(InputError, match="share of the diagonal"):
        BoundaryIoU(K, dilation_ratio=ratio)


def test_the_published_width_is_a_share_of_each_images_diagonal():
    """2 % of the diagonal of 60×80 pixels are 2, of 6×8 pixels 0.2, which becomes 1."""
    for size, width in (((60, 80), 2), ((6, 8), 1)):
        draw = torch.Generator().manual_seed(1)
        label_map, prediction = (torch.randint(0, 2, size, generator=draw).byte() for _ in range(2))
        both = BoundaryIoU(2, (width,))
        both.update(PredictedMaps(prediction), Sample(torch.empty(0), label_map, ""))
        first, second = both.compute().statistics[0]
        assert torch.equal(first, second)


def _share(rank: int, size: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    metric = after(PanopticQuality(K, {1, 3}), range(rank, 5, size))
    torch.save(gathered(metric).compute().statistics, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_gather_what_each_has_seen(tmp_path):
    """Two processes with three and two images: both hold all five, in order of rank."""
    mp.spawn(_share, (2, str(tmp_path)), nprocs=2)
    expected = after(PanopticQuality(K, {1, 3}), [0, 2, 4, 1, 3]).compute().statistics
    assert all(torch.equal(torch.load(tmp_path / f"{rank}.pt"), expected) for rank in range(2))


def test_a_single_process_has_nothing_to_gather():
    metric = after(PixelScores(K), range(2))
    assert gathered(metric) is metric
