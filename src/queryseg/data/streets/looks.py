"""Streets of many looks: every image has a city, a light and a camera of its own.

A stand-in for the unlabelled images that a foundation model has seen. The ranges leave out what the unseen domains are
made of: weather, lamps and darkness, and the proportions and colours of `other_city`.
"""

from __future__ import annotations

from queryseg.data.streets.city import EARTHS, GREENS, GREYS, HOME, OTHER, PAINTS, City
from queryseg.data.streets.dice import Dice, generator
from queryseg.data.streets.domains import Domain
from queryseg.data.streets.mesh import Colour
from queryseg.data.streets.renderer import Scene, check_seed, check_size, draw

FOREIGN: tuple[Colour, ...] = tuple(
    {
        colour
        for table in (OTHER.colours, OTHER.leaves, OTHER.lawns, OTHER.asphalt, OTHER.paving, (OTHER.line,))
        for colour in table
    }
    - {*GREYS, *EARTHS, *PAINTS, *GREENS}
)
"""Colours that only `other_city` has."""
DISTANCE = 0.05
"""No colour of a look comes nearer to a foreign one (Euclidean, RGB in 0…1)."""

PROPORTIONS: dict[str, tuple[float, float]] = {
    "focal": (0.76, 1.15),
    "horizon": (0.37, 0.47),
    "camera_height": (1.1, 1.7),
    "lane": (3.0, 3.8),
    "sidewalk": (3.0, 7.0),
    "house_length": (5.0, 19.0),
}
"""Limits of the ranges that a look's city draws from; none holds the whole range of `other_city`."""
STOREYS = (1, 7)
TALL_TREES, CONIFERS, ROOFS = (0.0, 0.4), (0.0, 0.2), (0.25, 1.0)

_LOOKS = 100  # keeps these streams apart from those of the domains


def render_look(seed: int, index: int, size: tuple[int, int] = (256, 512)) -> Scene:
    """One street in a look of its own, a function of its arguments alone; see `render`."""
    check_size(size)
    check_seed(seed)
    plan = generator(seed, index, _LOOKS)
    return draw(draw_look(Dice(generator(seed, index, _LOOKS, 0))), plan, generator(seed, index, _LOOKS, 1), size)


def draw_look(dice: Dice) -> Domain:
    """Conditions without weather: sun, haze of a clear day, exposure from dusk-like to glaring, any white balance."""
    light = dice.uniform(0.40, 0.85)
    zenith = _colour(dice, (0.45, 0.55, 0.70), 0.3)
    haze = dice.uniform(0.0005, 0.0035)
    tint = dice.uniform(0.75, 0.95)
    return Domain(
        city=_draw_city(dice),
        sun=(0.15, 1.1),
        ambient=(light * dice.uniform(0.85, 1.15), light, light * dice.uniform(0.85, 1.15)),
        zenith=zenith,
        skyline=_colour(dice, (0.70, 0.75, 0.80), 0.2),
        clouds=_colour(dice, (0.85, 0.85, 0.85), 0.15),
        cover=(0.0, 1.0),
        haze=(haze, haze),
        air=_colour(dice, (0.75, 0.78, 0.82), 0.15),
        exposure=(0.45, 1.6),
        tint=(tint, 2 - tint),
        saturation=dice.uniform(0.0, 1.5),
        noise=dice.uniform(0.5, 6.0),
        texture=dice.uniform(0.3, 2.5),
    )


def _draw_city(dice: Dice) -> City:
    """Proportions within the limits, materials of the home city, colours of its own."""

    def within(name: str) -> tuple[float, float]:
        low, high = PROPORTIONS[name]
        middle, half = dice.uniform(low, high), 0.25 * (high - low)
        return max(low, middle - half), min(high, middle + half)

    storeys = dice.integer(*STOREYS)
    ground = dice.uniform(0.2, 0.6)
    paving = dice.uniform(0.3, 0.7)
    return City(
        focal=within("focal"),
        horizon=within("horizon"),
        camera_height=within("camera_height"),
        lane=within("lane"),
        sidewalk=within("sidewalk"),
        storeys=(storeys, min(storeys + 2, STOREYS[1])),
        house_length=within("house_length"),
        colours=tuple(_colour(dice, (0.5, 0.5, 0.5), 0.45) for _ in range(24)),
        asphalt=(_colour(dice, (ground,) * 3, 0.06), _colour(dice, (ground,) * 3, 0.12)),
        paving=(_colour(dice, (paving,) * 3, 0.08), _colour(dice, (paving,) * 3, 0.15)),
        leaves=tuple(_colour(dice, (0.33, 0.38, 0.25), 0.16) for _ in range(8)),
        lawns=tuple(_colour(dice, (0.40, 0.40, 0.28), 0.14) for _ in range(6)),
        line=_colour(dice, (0.84, 0.84, 0.82), 0.12),
        facades=HOME.facades,
        roofs=dice.uniform(*ROOFS),
        tall_trees=dice.uniform(*TALL_TREES),
        conifers=dice.uniform(*CONIFERS),
    )


def _colour(dice: Dice, middle: Colour, spread: float) -> Colour:
    """Any colour around `middle` that is not near a foreign one."""
    while True:
        red, green, blue = (min(1.0, max(0.02, c + dice.uniform(-spread, spread))) for c in middle)
        if all((red - r) ** 2 + (green - g) ** 2 + (blue - b) ** 2 >= DISTANCE**2 for r, g, b in FOREIGN):
            return red, green, blue
