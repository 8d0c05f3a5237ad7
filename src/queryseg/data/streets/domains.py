"""Domains as tables of numbers: one city, one weather, one light."""

from __future__ import annotations

from dataclasses import dataclass

from queryseg.data.streets.city import HOME, OTHER, City, Range
from queryseg.data.streets.mesh import Colour


@dataclass(frozen=True)
class Domain:
    """city; a pair is a range that every image draws from.

    sun        strength of direct light, casts shadows; ambient: colour of the light from everywhere
    zenith, skyline, clouds   colours of the sky; cover: share of clouds
    haze       extinction per metre (Koschmieder); air: colour of the air light
    lamps      strength of street lamps and head lights; lit: share of lit windows
    wet        reflectance of the road; streaks: rain streaks per 256×512 image
    snow       share of upward surfaces that are white; flakes: per 256×512 image
    exposure, tint (red gain, blue gain), saturation, noise (standard deviation, grey levels)
    texture    strength of the noise of every material, 1 as in its table
    """

    city: City = HOME
    sun: Range = (0.30, 0.85)
    ambient: Colour = (0.60, 0.62, 0.66)
    zenith: Colour = (0.40, 0.58, 0.82)
    skyline: Colour = (0.78, 0.85, 0.92)
    clouds: Colour = (0.95, 0.95, 0.96)
    cover: Range = (0.15, 0.95)
    haze: Range = (0.0008, 0.0030)
    air: Colour = (0.76, 0.81, 0.87)
    lamps: float = 0.0
    lit: float = 0.0
    wet: float = 0.0
    streaks: int = 0
    snow: float = 0.0
    flakes: int = 0
    exposure: Range = (0.80, 1.18)
    tint: Range = (0.92, 1.08)
    saturation: float = 1.0
    noise: float = 2.5
    texture: float = 1.0


TABLE: dict[str, Domain] = {
    "clear": Domain(),
    "fog": Domain(
        sun=(0.0, 0.06), ambient=(0.80, 0.81, 0.82), zenith=(0.72, 0.74, 0.76), skyline=(0.76, 0.77, 0.78),
        clouds=(0.78, 0.79, 0.80), haze=(0.016, 0.038), air=(0.76, 0.77, 0.78), saturation=0.85,
    ),
    "night": Domain(
        sun=(0.0, 0.0), ambient=(0.12, 0.14, 0.19), zenith=(0.03, 0.04, 0.08), skyline=(0.13, 0.13, 0.15),
        clouds=(0.09, 0.09, 0.10), haze=(0.001, 0.003), air=(0.07, 0.07, 0.08), lamps=1.0, lit=0.32,
        exposure=(0.95, 1.25), noise=6.0,
    ),
    "rain": Domain(
        sun=(0.0, 0.05), ambient=(0.52, 0.55, 0.60), zenith=(0.48, 0.51, 0.55), skyline=(0.66, 0.68, 0.71),
        clouds=(0.58, 0.60, 0.63), cover=(0.7, 0.95), haze=(0.007, 0.014), air=(0.64, 0.66, 0.69), lit=0.20,
        wet=0.42, streaks=420, saturation=0.75, noise=3.5,
    ),
    "snow": Domain(
        sun=(0.02, 0.15), ambient=(0.74, 0.77, 0.83), zenith=(0.70, 0.73, 0.78), skyline=(0.84, 0.86, 0.89),
        clouds=(0.82, 0.84, 0.87), cover=(0.6, 0.9), haze=(0.005, 0.011), air=(0.84, 0.86, 0.89),
        snow=0.78, flakes=420, saturation=0.8,
    ),
    "other_city": Domain(
        city=OTHER, sun=(0.6, 0.9), ambient=(0.62, 0.57, 0.50), zenith=(0.46, 0.56, 0.66), skyline=(0.90, 0.84, 0.72),
        clouds=(0.97, 0.93, 0.86), cover=(0.0, 0.5), haze=(0.002, 0.006), air=(0.88, 0.80, 0.68), exposure=(0.80, 1.15),
        saturation=1.1,
    ),
}  # fmt: skip

DOMAINS: tuple[str, ...] = tuple(TABLE)
"""Names of the domains, the source first."""
