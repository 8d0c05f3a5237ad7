"""What corruptions there are, and `corrupt`.

Shape legend: images (3, H, W) uint8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from queryseg.data.corruptions import blur, digital, noise, spatter, weather
from queryseg.data.corruptions.draws import Draws, Floats
from queryseg.data.corruptions.levels import from_levels, to_levels
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean

SEVERITIES = (1, 2, 3, 4, 5)
Group = Literal["noise", "blur", "digital", "weather", "extra"]


@dataclass(frozen=True)
class Corruption:
    """One way to spoil an image.

    name       as published, the folder's name in a corrupted tree
    group      "extra": not part of Cityscapes-C
    meaning    of the constants
    constants  for each severity 1 … 5
    apply      (image (3, H, W) float32 in 0…1, the severity's constants, random numbers) → the same shape, unclipped
    """

    name: str
    group: Group
    meaning: str
    constants: tuple[Any, ...]
    apply: Callable[[Floats, Any, Draws], Floats]


CORRUPTIONS: Mapping[str, Corruption] = {
    corruption.name: corruption
    for corruption in (
        Corruption("gaussian_noise", "noise", "standard deviation", noise.GAUSSIAN_NOISE, noise.gaussian_noise),
        Corruption("shot_noise", "noise", "photons of a white pixel", noise.SHOT_NOISE, noise.shot_noise),
        Corruption("impulse_noise", "noise", "share of values", noise.IMPULSE_NOISE, noise.impulse_noise),
        Corruption("speckle_noise", "noise", "share of the value", noise.SPECKLE_NOISE, noise.speckle_noise),
        Corruption("defocus_blur", "blur", "radius, σ of the rim", blur.DEFOCUS_BLUR, blur.defocus_blur),
        Corruption("glass_blur", "blur", "σ, reach, iterations", blur.GLASS_BLUR, blur.glass_blur),
        Corruption("motion_blur", "blur", "radius, σ", blur.MOTION_BLUR, blur.motion_blur),
        Corruption("gaussian_blur", "blur", "σ", blur.GAUSSIAN_BLUR, blur.gaussian_blur),
        Corruption("brightness", "digital", "added to HSV's value", digital.BRIGHTNESS, digital.brightness),
        Corruption("contrast", "digital", "factor", digital.CONTRAST, digital.contrast),
        Corruption("saturate", "digital", "factor, offset of HSV's saturation", digital.SATURATE, digital.saturate),
        Corruption("jpeg_compression", "digital", "quality", digital.JPEG_COMPRESSION, digital.jpeg_compression),
        Corruption("snow", "weather", "mean, deviation, zoom, threshold, radius, σ, share", weather.SNOW, weather.snow),
        Corruption("spatter", "weather", "mean, deviation, σ, threshold, rim, mud", spatter.SPATTER, spatter.spatter),
        Corruption("fog", "weather", "brightness, decay", weather.FOG, weather.fog),
        Corruption("frost", "weather", "weight of the image, of the frost", weather.FROST, weather.frost),
        Corruption("zoom_blur", "extra", "number of factors, step", blur.ZOOM_BLUR, blur.zoom_blur),
        Corruption("elastic_transform", "extra", "amplification", digital.ELASTIC_TRANSFORM, digital.elastic_transform),
        Corruption("pixelate", "extra", "factor of the sides", digital.PIXELATE, digital.pixelate),
    )
}
"""Cityscapes-C's 16 in its four groups of four (Kamann and Rother 2020, arXiv:1908.05005), and three more."""


def corrupt(image: Tensor, name: str, severity: int, key: str) -> Tensor:
    """(3, H, W) uint8 → the same shape, corrupted.

    key  all randomness is a function of key, name and severity: give the image's name

    Images of any size are taken (the published package asks for 32×32). Raises: InputError
    """
    if name not in CORRUPTIONS:
        raise InputError(f"There is no corruption '{name}'.{did_you_mean(name, CORRUPTIONS)}")
    check_severity(severity, name)
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
        raise InputError(
            f"'{key}' cannot be corrupted: it is {image.dtype} of shape {tuple(image.shape)}, but needed is uint8 of "
            "shape (3, height, width)."
        )
    corruption = CORRUPTIONS[name]
    values = from_levels(np.ascontiguousarray(image.cpu().numpy()))
    draws = Draws(key, name, severity)
    return torch.from_numpy(to_levels(corruption.apply(values, corruption.constants[severity - 1], draws)))


def check_severity(severity: object, name: str) -> None:
    """Raises: InputError"""
    if not isinstance(severity, int) or severity not in SEVERITIES:
        raise InputError(f"Severity {severity} of '{name}' does not exist; choose a whole number from 1 (weak) to 5.")
