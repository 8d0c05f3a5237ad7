"""Images by which an int8 export learns the ranges of its activations.

Quantisation fits its ranges to what it is shown; a model that must hold outside its training domain is therefore shown
that outside, too.

Shape legend: H×W pixels, h×w the size that the file is made for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from queryseg.data.dataset import SegmentationDataset
from queryseg.data.streets import DOMAINS, Streets
from queryseg.evaluation.evaluator import spread
from queryseg.export.export_record import ExportRecord
from queryseg.export.exported_engine import fit
from queryseg.inference.engine import Size

NUM_IMAGES = 30
"""Of each data set at most; each gives two calibration images."""
NUM_STREETS = 10
"""Of each domain, if no data set is given."""
_SEED = 3_000_000
_SMALLEST_STREET = 32


def _noise(image: Tensor) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        return (image + 20 * torch.randn(image.shape)).clamp(0, 255).byte()


SHIFTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "darker": lambda image: transforms.adjust_brightness(image, 0.4),
    "brighter": lambda image: transforms.adjust_brightness(image, 1.7),
    "less contrast": lambda image: transforms.adjust_contrast(image, 0.4),
    "more contrast": lambda image: transforms.adjust_contrast(image, 1.7),
    "blurred": lambda image: transforms.gaussian_blur(image, [9, 9], [2.5, 2.5]),
    "noisy": _noise,
}
"""(3, H, W) uint8 → the same; what weather, light and cameras do to an image, the same every time."""


@dataclass(frozen=True)
class Calibration:
    """images  each (1, 3, h, w) uint8
    sources    how many come from where
    """

    images: tuple[Tensor, ...]
    sources: Mapping[str, int]


def streets_of_all_domains(size: Size, num_images: int, seed: int) -> dict[str, Streets]:
    """Domain → generated streets at this size, or at the smallest that streets have."""
    size = (max(size[0], _SMALLEST_STREET), max(size[1], _SMALLEST_STREET))
    return {domain: Streets(domain, num_images, seed, size) for domain in DOMAINS}


def calibration(record: ExportRecord, datasets: Mapping[str, SegmentationDataset] | None = None) -> Calibration:
    """Images of the data sets, evenly spread, and a shifted copy of each, taking turns among `SHIFTS`; without data
    sets, generated streets of every domain, none of which the parity gate sees. Labels are not read."""
    images: list[Tensor] = []
    sources: dict[str, int] = {}
    if datasets is None:
        for streets in streets_of_all_domains(record.size, NUM_STREETS, _SEED).values():
            images += [streets[index].image for index in range(len(streets))]
            sources[streets.name] = len(streets)
    else:
        shifts = list(SHIFTS.values())
        for name, dataset in datasets.items():
            own = [dataset[index].image for index in spread(len(dataset), NUM_IMAGES)]
            images += own + [shifts[turn % len(shifts)](image) for turn, image in enumerate(own)]
            sources |= {name: len(own), f"{name}, shifted": len(own)}
    return Calibration(tuple(fit(image[None], record)[0] for image in images), sources)
