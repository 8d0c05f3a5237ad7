"""Rare-class sampling: images with rare classes are drawn more often.

Shape legend: N samples, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from queryseg.data.dataset import SegmentationDataset, read_label_map, sample_name
from queryseg.data.label_map import pixels_per_label
from queryseg.data.ordered_map import ordered_map
from queryseg.data.whole_file import write_whole
from queryseg.errors import InputError


def rare_class_shares(pixel_counts: Tensor, temperature: float = 0.01, min_pixels: int = 0) -> Tensor:
    """How often each image is drawn for the sake of each class, from the pixels of each class in it: (N, K) → (N, K)
    float64, summing to 1. The sum of a row is how often the image is drawn; within a row, the classes it is drawn for.

    A class is drawn with P(c) ∝ exp((1 − f_c)/T), where f_c is its share of all pixels, then one of the images with
    more than `min_pixels` of it. Classes that no image shows enough of are never drawn.

    Source: DAFormer (Hoyer et al. 2022), eq. 4–5, T = 0.01, images with more than 3000 pixels of the class; tqdm's code
    sets T = 100, which draws all classes nearly alike.
    """
    if temperature <= 0:
        raise InputError(
            f"The temperature of rare-class sampling is {temperature}; it must be above 0 (DAFormer: 0.01)."
        )
    counts = pixel_counts.double()
    if counts.sum() == 0:
        raise InputError("No image has a labelled pixel, so rare classes cannot be sampled; check the label map.")
    contains = (counts > min_pixels).double()
    if contains.sum() == 0:
        raise InputError(
            f"No image has more than {min_pixels} pixels of any class, so rare classes cannot be sampled; lower "
            "data.rare_class_min_pixels."
        )
    frequency = counts.sum(0) / counts.sum()
    never = contains.sum(0) == 0
    probability = ((1 - frequency) / temperature).masked_fill(never, -torch.inf).softmax(0)
    return contains * (probability / contains.sum(0).clamp(min=1))


def class_pixel_counts(
    dataset: SegmentationDataset,
    num_workers: int = 0,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """(N, K) int64, the pixels of each class in each image. Reads every label file once.

    cache     JSON file that keeps the counts; one made for other samples or classes is refused
    progress  called with (images read, images in all)
    """
    path = Path(cache) if cache is not None else None
    key = {
        "classes": list(dataset.classes.names),
        "samples": [sample_name(dataset, i) for i in range(len(dataset))],
    }
    if path is not None and path.exists():
        return _cached(path, key)
    counts = torch.stack(list(ordered_map(partial(_count, dataset), len(dataset), num_workers, progress)))
    if path is not None:
        text = json.dumps({**key, "pixels": counts.tolist()})
        write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    return counts


def _count(dataset: SegmentationDataset, index: int) -> Tensor:
    return pixels_per_label(read_label_map(dataset, index))[: len(dataset.classes)]


def _cached(path: Path, key: dict[str, list[str]]) -> Tensor:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = all(content[name] == value for name, value in key.items())
        pixels = content["pixels"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"The class counts in '{path}' cannot be read; delete the file to count again.") from error
    if not same:
        raise InputError(
            f"The class counts in '{path}' are of other images or classes; delete the file to count again."
        )
    return torch.tensor(pixels, dtype=torch.int64)
