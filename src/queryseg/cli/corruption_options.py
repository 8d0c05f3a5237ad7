"""Corruptions as verbs ask for them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from queryseg.data.corruptions import Corrupted, parse_corruptions, parse_severities
from queryseg.data.corruptions.corrupted import corrupted_name
from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import UsageError

WORDS_HELP = (
    "between commas: corruptions (fog, jpeg …) or noise, blur, digital, weather, extra, cityscapes-c, all; with "
    "severities as in fog:3 or noise:1-3 (docs/corruptions.md)"
)


def add_corruption_options(parser: argparse.ArgumentParser, default: str | None, severities: str) -> None:
    """--corruptions and --severities."""
    parser.add_argument("--corruptions", default=default, metavar="WORDS", help=WORDS_HELP)
    parser.add_argument(
        "--severities",
        default=severities,
        metavar="1,3,5",
        help=f"1 (weak) to 5, of corruptions that name none (default {severities})",
    )


def chosen_corruptions(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Names and severities; none without --corruptions. Raises: UsageError"""
    severities = parse_severities(options.severities)
    return [] if options.corruptions is None else parse_corruptions(options.corruptions, severities)


def with_corruptions(
    datasets: Mapping[str, SegmentationDataset], sources: Mapping[str, str], options: argparse.Namespace
) -> tuple[dict[str, SegmentationDataset], dict[str, str]]:
    """Every data set and where it comes from, then every data set under every corruption as one more.

    Raises: UsageError
    """
    datasets, sources = dict(datasets), dict(sources)
    for name, dataset in list(datasets.items()):
        for corruption, severity in chosen_corruptions(options):
            corrupted = corrupted_name(name, corruption, severity)
            if corrupted in datasets:
                raise UsageError(
                    f"--data names '{corrupted}', and so does --corruptions; give the data set another name."
                )
            datasets[corrupted] = Corrupted(dataset, corruption, severity)
            sources[corrupted] = f"{sources[name]} under {corruption}, severity {severity}"
    return datasets, sources
