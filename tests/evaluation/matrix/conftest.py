from dataclasses import replace

import pytest

from queryseg.evaluation.corruption_scores import CorruptedTarget
from queryseg.evaluation.domain_table import DomainTable, RunFacts
from queryseg.evaluation.matrix.domain_matrix import DomainMatrix
from queryseg.evaluation.matrix.latency import Latency
from queryseg.evaluation.matrix.published_points import published_points


def right(share: int) -> list[list[int]]:
    """Confusion of an image of 200 pixels, two of the three classes equally often right: IoU share / (200 − share)."""
    wrong = 100 - share
    return [[share, wrong, 0], [wrong, share, 0], [0, 0, 0]]


def iou(share: int) -> float:
    return share / (200 - share)


CORRUPTED = {
    "a/fog-1": CorruptedTarget("a", "fog", 1),
    "a/fog-5": CorruptedTarget("a", "fog", 5),
    "a/snow-5": CorruptedTarget("a", "snow", 5),
    "a/contrast-3": CorruptedTarget("a", "contrast", 3),
}


@pytest.fixture
def make_table(make_evaluation):
    """Shares of right pixels of data set → table; three images, the first one a little worse, the last better."""

    def make(shares: dict[str, int], seen: str, run: str = "runs/x") -> DomainTable:
        evaluations = [
            replace(
                make_evaluation(name, [right(share - 4), right(share), right(share + 4)]),
                image_names=("fog/1", "fog/2", "night/3"),
                layout="acdc" if name == "c" else None,
            )
            for name, share in shares.items()
        ]
        corrupted = {name: one for name, one in CORRUPTED.items() if name in shares}
        return DomainTable(evaluations, frozenset({seen}), RunFacts(run, 5), {}, ("Be careful <&>.",), corrupted)

    return make


@pytest.fixture
def matrix(make_table):
    first = {"a": 90, "b_1": 60, "c": 70, "a/fog-1": 80, "a/fog-5": 40, "a/snow-5": 50, "a/contrast-3": 30}
    second = {"a": 50, "b_1": 92, "c": 80, "a/fog-1": 50, "a/fog-5": 50, "a/snow-5": 50, "a/contrast-3": 50}
    latencies = {"one <&>": Latency([9, 10, 11], "whole images", "a CPU"), "two": Latency([20, 21, 30], "", "")}
    tables = {"one <&>": make_table(first, "a"), "two": make_table(second, "b_1")}
    return DomainMatrix(tables, latencies, published_points("gtav_to_real"))
