"""Renders one scene of the streets: plan, faces, light, weather, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from queryseg.data.streets import shading, weather
from queryseg.data.streets.city import HOME
from queryseg.data.streets.dice import Dice, generator
from queryseg.data.streets.domains import DOMAINS, TABLE, Domain
from queryseg.data.streets.layout import Street
from queryseg.data.streets.raster import Floats, Raster, draw_faces, draw_shadows
from queryseg.data.streets.roadside import furnish
from queryseg.data.streets.textures import grain
from queryseg.data.streets.traffic import populate
from queryseg.errors import InputError
from queryseg.spelling import did_you_mean

MIN_SIDE = 32
"""Pixels: below this, nothing but road, houses and sky is left."""


@dataclass(frozen=True)
class Scene:
    """One rendered street.

    image         (H, W, 3) uint8, RGB
    label_map     (H, W) uint8, Cityscapes trainIds; no pixel is ignored
    instance_map  (H, W) int32: 0 = no instance; every object of the classes person … bicycle has its own number
    depth         (H, W) float32, metres along the viewing axis; the sky is at `raster.SKY_DEPTH` (1000)
    """

    image: NDArray[np.uint8]
    label_map: NDArray[np.uint8]
    instance_map: NDArray[np.int32]
    depth: NDArray[np.float32]


def check_domain(domain: str) -> None:
    """Raises: InputError"""
    if domain not in TABLE:
        raise InputError(f"Streets have no domain '{domain}'.{did_you_mean(domain, DOMAINS)}")


def check_size(size: tuple[int, int]) -> None:
    """(height, width). Raises: InputError"""
    if len(size) != 2 or not all(isinstance(side, int) for side in size) or min(size) < MIN_SIDE:
        raise InputError(
            f"Streets cannot be drawn at size {size}; give (height, width), each at least {MIN_SIDE} pixels."
        )


def check_seed(seed: int) -> None:
    """Raises: InputError"""
    if seed < 0:
        raise InputError(f"The seed of streets is {seed}; give a whole number from 0 upwards.")


def render(domain: str, seed: int, index: int, size: tuple[int, int] = (256, 512)) -> Scene:
    """One street, a function of its arguments alone.

    domain  one of `DOMAINS`; all but `other_city` show the same streets, so their label maps are equal
    seed    ≥ 0; different seeds give different streets; index ≥ 0
    size    (height, width) in pixels, at least 32 each
    Raises InputError on anything else.
    """
    check_domain(domain)
    check_size(size)
    check_seed(seed)
    if index < 0:
        raise InputError(f"Street number {index} of seed {seed} does not exist; numbers start at 0.")
    conditions = TABLE[domain]
    plan = generator(seed, index, int(conditions.city is not HOME))
    return draw(conditions, plan, generator(seed, index, 2 + DOMAINS.index(domain)), size)


def draw(conditions: Domain, plan: np.random.Generator, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    """One street under any conditions. plan decides what stands where, rng the light and the weather."""
    street = Street.draw(conditions.city, Dice(plan))
    furnish(street)
    populate(street)
    placements = street.painted()
    raster = draw_faces(placements, street.wear(plan), street.camera, size)
    shadows = draw_shadows(placements, street.sun, street.camera, size) if conditions.sun[1] > 0 else None
    rgb = _develop(raster, street, conditions, shadows, rng)
    height, width = size
    label_map = raster.faces.label[raster.index].reshape(height, width)
    instance_map = raster.faces.instance[raster.index].reshape(height, width)
    return Scene(_expose(rgb, size, conditions, rng), label_map, instance_map, raster.depth.reshape(height, width))


def _develop(
    raster: Raster, street: Street, domain: Domain, shadows: Floats | None, rng: np.random.Generator
) -> Floats:
    """Light and weather: (3, N)."""
    faces, index = raster.faces, raster.index
    rows, factor, noise = shading.surface(raster, domain.texture)
    factor *= shading.ground_contact(raster)
    strength = float(rng.uniform(*domain.sun))
    ambient = np.array(domain.ambient, np.float32)
    light = shading.face_light(raster, street.sun, strength, ambient)
    colours = faces.colours
    if shadows is not None:
        level = strength * street.sun[1] / (strength * street.sun[1] + float(ambient.mean()))
        shade = shadows * np.float32(level)
        shade *= (faces.axis == 1).astype(np.float32).take(index)
        np.subtract(1, shade, out=shade)
        factor *= shade
    rgb = np.empty((3, len(index)), np.float32)
    if domain.lamps:
        pools, beam = shading.lamp_light(raster, street, domain.lamps)
        form = light / ambient
        for c, (warm, white) in enumerate(((1.0, 0.92), (0.80, 0.95), (0.50, 1.0))):
            shine = pools * np.float32(warm)
            shine += beam * np.float32(white)
            shine += ambient[c]
            shine *= factor
            np.multiply((colours[:, c] * np.repeat(form[:, c], 2)).take(rows), shine, out=rgb[c])
    else:
        lit_colours = colours * np.repeat(light, 2, axis=0)
        for c in range(3):
            np.multiply(lit_colours[:, c].take(rows), factor, out=rgb[c])

    if domain.snow:
        snow = ambient * np.float32(1.12) + np.float32(0.3 * strength)
        weather.covered(rgb, weather.snow_cover(raster, noise, domain.snow), snow)
    _hang_sky(rgb, raster, street, domain, rng)
    shining = _shine(rgb, raster, rows, domain, street) if domain.lit else None
    if domain.wet:
        weather.wet_road(rgb, raster, domain.wet)
    air = np.array(domain.air, np.float32)
    extinction = float(rng.uniform(*domain.haze))
    distance = weather.distance_along_rays(raster, *street.camera.rays(raster.size))
    distance[index == 0] = 60.0 / (1 + 1000 * domain.haze[0])  # the sky has its own colour: only a veil
    weather.haze(rgb, distance, extinction, air)
    if shining is not None:
        weather.glow(rgb, *shining, raster.size)
    if domain.streaks:
        weather.rain_streaks(rgb, raster.depth, raster.size, domain.streaks, (0.80, 0.82, 0.85), rng)
    if domain.flakes:
        weather.snowflakes(rgb, raster.depth, raster.size, domain.flakes, (0.95, 0.96, 0.98), rng)
    return rgb


def _hang_sky(rgb: Floats, raster: Raster, street: Street, domain: Domain, rng: np.random.Generator) -> None:
    cover = float(rng.uniform(*domain.cover))
    drift = (float(rng.uniform(0, 256)), float(rng.uniform(0, 256)))
    width = raster.size[1]
    open_sky = raster.index == 0
    if not open_sky.any():
        return
    rows = int(np.flatnonzero(open_sky)[-1]) // width + 1
    above = shading.sky(street.camera, raster.size, domain, cover, drift, rows)
    np.copyto(rgb[:, : rows * width], above, where=open_sky[: rows * width])


def _shine(
    rgb: Floats, raster: Raster, rows: NDArray[np.int64], domain: Domain, street: Street
) -> tuple[NDArray[np.int64], Floats]:
    """Lamps and lit windows give off their own light; returns what shines for its glow: pixels (M,), light (3, M)."""
    faces, index = raster.faces, raster.index
    lamps = np.flatnonzero((faces.emission > 0).take(index))
    light = (faces.colours[rows[lamps]] * faces.emission[index[lamps], None]).T * np.float32(1.15)
    rgb[:, lamps] = np.maximum(rgb[:, lamps], light)
    windows = shading.lit_windows(raster, rows, domain.lit, int(street.camera.focal * 1e6))
    warm = np.array([[0.86], [0.68], [0.38]], np.float32)
    rgb[:, windows] = warm
    glimmer = np.broadcast_to(warm * np.float32(0.16), (3, len(windows)))
    return np.concatenate([lamps, windows]), np.concatenate([light, glimmer], 1)


def _expose(rgb: Floats, size: tuple[int, int], domain: Domain, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lens blur, white balance, exposure, sensor noise."""
    height, width = size
    gain = float(rng.uniform(*domain.exposure)) * 255
    red, blue = float(rng.uniform(*domain.tint)), float(rng.uniform(*domain.tint))
    if domain.saturation != 1:
        grey = rgb.mean(0) * np.float32(1 - domain.saturation)
        rgb *= np.float32(domain.saturation)
        rgb += grey
    rgb *= np.array([[gain * red], [gain], [gain * blue]], np.float32)
    top, left = int(rng.integers(64)), int(rng.integers(64))
    rgb = rgb.reshape(3, height, width)
    rgb += grain(height, width)[top : top + height, left : left + width] * np.float32(domain.noise)
    np.clip(rgb, 0, 255, out=rgb)
    image = Image.fromarray(np.ascontiguousarray(rgb.astype(np.uint8).transpose(1, 2, 0)))
    return np.array(image.filter(ImageFilter.BoxBlur(0.35)))
