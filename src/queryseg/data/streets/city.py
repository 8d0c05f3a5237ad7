"""Cities: proportions, camera and colours that a scene is drawn from.

Classes draw from shared palettes on purpose: a grey may be a wall, a house, a truck or a coat, so that only shape and
context tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from queryseg.data.streets.mesh import Colour

Range = tuple[float, float]

GREYS: tuple[Colour, ...] = (
    (0.30, 0.30, 0.32), (0.42, 0.42, 0.43), (0.52, 0.51, 0.50), (0.60, 0.60, 0.61), (0.70, 0.69, 0.67),
    (0.80, 0.80, 0.80), (0.46, 0.44, 0.41), (0.36, 0.37, 0.40),
)  # fmt: skip
EARTHS: tuple[Colour, ...] = (
    (0.58, 0.36, 0.28), (0.68, 0.56, 0.42), (0.74, 0.66, 0.54), (0.50, 0.40, 0.32), (0.62, 0.48, 0.36),
    (0.80, 0.74, 0.62), (0.44, 0.30, 0.24),
)  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (0.62, 0.14, 0.14), (0.16, 0.26, 0.52), (0.12, 0.14, 0.18), (0.86, 0.86, 0.85), (0.20, 0.38, 0.28),
    (0.74, 0.60, 0.16), (0.30, 0.48, 0.62), (0.46, 0.18, 0.30), (0.78, 0.42, 0.16), (0.08, 0.08, 0.09),
)  # fmt: skip
GREENS: tuple[Colour, ...] = (
    (0.22, 0.34, 0.14), (0.30, 0.40, 0.18), (0.18, 0.28, 0.16), (0.36, 0.40, 0.20),
    (0.28, 0.33, 0.22), (0.42, 0.44, 0.26),
)  # fmt: skip
SKINS: tuple[Colour, ...] = ((0.78, 0.58, 0.47), (0.62, 0.44, 0.34), (0.42, 0.29, 0.22), (0.84, 0.66, 0.56))
HAIRS: tuple[Colour, ...] = (
    (0.14, 0.10, 0.08), (0.30, 0.20, 0.12), (0.55, 0.42, 0.25), (0.08, 0.08, 0.08), (0.6, 0.6, 0.6),
)  # fmt: skip


@dataclass(frozen=True)
class City:
    """Ranges are (low, high), metres unless said otherwise.

    focal, horizon    camera: focal length / image width, horizon row / image height
    colours           of houses, walls, vehicles and clothes alike
    leaves, lawns     greens
    line              colour of the road markings
    facades           materials of upper storeys
    tall_trees        share of poplars among broad-leaved trees
    """

    focal: Range
    horizon: Range
    camera_height: Range
    lane: Range
    sidewalk: Range
    storeys: tuple[int, int]
    house_length: Range
    colours: tuple[Colour, ...]
    asphalt: tuple[Colour, Colour]
    paving: tuple[Colour, Colour]
    leaves: tuple[Colour, ...]
    lawns: tuple[Colour, ...]
    line: Colour
    facades: tuple[str, ...]
    roofs: float
    tall_trees: float
    conifers: float


HOME = City(
    focal=(0.80, 0.94),
    horizon=(0.41, 0.47),
    camera_height=(1.35, 1.65),
    lane=(3.0, 3.4),
    sidewalk=(3.2, 5.4),
    storeys=(2, 6),
    house_length=(9, 19),
    colours=GREYS + EARTHS + PAINTS + GREENS,
    asphalt=((0.29, 0.29, 0.30), (0.47, 0.46, 0.45)),
    paving=((0.40, 0.40, 0.40), (0.62, 0.59, 0.56)),
    leaves=(*GREENS, *GREENS, *GREENS, (0.34, 0.32, 0.28), (0.46, 0.34, 0.18)),
    lawns=(*GREENS[:4], (0.46, 0.42, 0.28), (0.50, 0.44, 0.36), (0.42, 0.38, 0.34), (0.38, 0.40, 0.36)),
    line=(0.84, 0.84, 0.82),
    facades=("windows_tall", "windows_wide", "windows_dense", "windows_brick", "windows_small"),
    roofs=0.45,
    tall_trees=0.15,
    conifers=0.10,
)

OTHER = City(
    focal=(0.62, 0.74),
    horizon=(0.45, 0.52),
    camera_height=(1.75, 2.15),
    lane=(2.7, 3.1),
    sidewalk=(2.0, 3.6),
    storeys=(4, 11),
    house_length=(12, 30),
    colours=(
        *EARTHS, (0.72, 0.36, 0.26), (0.78, 0.52, 0.36), (0.66, 0.62, 0.50), (0.86, 0.80, 0.68), (0.36, 0.52, 0.50),
        (0.85, 0.82, 0.76), (0.30, 0.28, 0.30), (0.52, 0.50, 0.46), (0.80, 0.68, 0.20), (0.20, 0.32, 0.40),
    ),
    asphalt=((0.42, 0.39, 0.36), (0.55, 0.52, 0.47)),
    paving=((0.52, 0.42, 0.36), (0.66, 0.58, 0.50)),
    leaves=((0.44, 0.36, 0.14), (0.50, 0.30, 0.12), (0.34, 0.36, 0.16), (0.26, 0.32, 0.20)),
    lawns=((0.52, 0.46, 0.26), (0.44, 0.42, 0.22), (0.56, 0.48, 0.34)),
    line=(0.82, 0.72, 0.34),
    facades=("windows_band", "windows_dense", "windows_small", "windows_brick"),
    roofs=0.10,
    tall_trees=0.70,
    conifers=0.25,
)  # fmt: skip


def mix(low: Colour, high: Colour, share: float) -> Colour:
    """`share` of the way from low to high."""
    return (
        low[0] + (high[0] - low[0]) * share,
        low[1] + (high[1] - low[1]) * share,
        low[2] + (high[2] - low[2]) * share,
    )


def dim(colour: Colour, factor: float) -> Colour:
    """Scale brightness, up to white."""
    return (min(colour[0] * factor, 1.0), min(colour[1] * factor, 1.0), min(colour[2] * factor, 1.0))
