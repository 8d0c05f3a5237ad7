"""From faces to light: surface colours, shadows, the sky, and lamps at night.

Shape legend: N = H·W pixels, row by row; F faces. Colours are planar, (3, N) float32.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from queryseg.data.streets.camera import Camera
from queryseg.data.streets.domains import Domain
from queryseg.data.streets.layout import Street
from queryseg.data.streets.raster import Floats, Raster
from queryseg.data.streets.textures import TILE, cloud_noise, material_table, surface_noise

MASK = TILE - 1


def surface(raster: Raster, texture: float) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Texture: rows of the colour table (N,) (inside or outside the grid cells), noise (N,) as a factor, and the bare
    noise (N,) in about ±1."""
    faces, index = raster.faces, raster.index
    table = material_table()
    axis = faces.axis.take(index)
    u = np.where(axis == 0, raster.z, raster.x)
    v = np.where(axis == 1, raster.z, raster.y)

    frequency = table.frequency[faces.material].take(index)
    column = (u * frequency).astype(np.int32)
    row = (v * frequency).astype(np.int32)
    column &= MASK
    row &= MASK
    row *= TILE
    row += column
    noise = surface_noise().take(row)
    factor = (table.amplitude * np.float32(texture))[faces.material].take(index)
    factor *= noise
    factor += 1

    inside = _in_cell(u, table.rate_u[faces.material], table.duty_u[faces.material], None, index)
    inside &= _in_cell(
        v, table.rate_v[faces.material], table.duty_v[faces.material], table.phase_v[faces.material], index
    )
    rows = index * 2
    rows += inside
    return rows, factor, noise


def _in_cell(
    u: Floats, rate: Floats, duty: Floats, phase: Floats | None, index: NDArray[np.int64]
) -> NDArray[np.bool_]:
    place = u * rate.take(index)
    if phase is not None:
        place += phase.take(index)
    place -= np.floor(place)
    return place < duty.take(index)


def face_light(raster: Raster, sun: tuple[float, float, float], strength: float, ambient: Floats) -> Floats:
    """Light on each face, (F, 3): from everywhere (more from above), and from the sun on faces turned to it."""
    faces = raster.faces
    towards = faces.normals @ np.array(sun, np.float32)
    direct = np.where(faces.flat, 0.55, np.maximum(towards, 0)) * strength
    sky = np.where(faces.flat, 0.92, 0.82 + 0.18 * faces.normals[:, 1])
    warm = np.array([1.0, 0.97, 0.90], np.float32)
    return (sky[:, None] * ambient + direct[:, None] * warm).astype(np.float32)


def ground_contact(raster: Raster) -> Floats:
    """Upright surfaces darken towards the ground, (N,): less of the sky reaches them there."""
    rise = np.clip(raster.y, 0.0, 1.2)
    rise *= np.float32(0.2 / 1.2)
    rise += np.float32(0.8)
    rise[(raster.faces.axis == 1).take(raster.index)] = 1
    return rise


def sky(
    camera: Camera, size: tuple[int, int], domain: Domain, cover: float, drift: tuple[float, float], rows: int
) -> Floats:
    """Gradient and clouds of the top `rows` rows, (3, rows·W)."""
    columns, slopes = camera.rays(size)
    slopes = np.maximum(slopes[:rows, None], 0)
    rise = np.sqrt(np.minimum(slopes / 0.45, 1)).astype(np.float32)
    # clouds lie on a plane above the street: they shrink and flatten towards the skyline
    stretch = 70.0 / (slopes + 0.16)
    u = (columns * stretch + drift[0]).astype(np.int32) & MASK
    v = (stretch * 0.9 + drift[1]).astype(np.int32) & MASK
    cloud = cloud_noise().take((v << 8) + u)
    cloud -= np.float32(1 - cover)
    cloud *= np.float32(2.2)
    np.clip(cloud, 0, 1, out=cloud)
    cloud *= np.minimum(rise * 1.6, 1)
    result = np.empty((3, rows, size[1]), np.float32)
    for c in range(3):
        base = domain.skyline[c] + (domain.zenith[c] - domain.skyline[c]) * rise
        np.multiply(cloud, domain.clouds[c] - base, out=result[c])
        result[c] += base
    return result.reshape(3, -1)


def lamp_light(raster: Raster, street: Street, strength: float) -> tuple[Floats, Floats]:
    """Light of the street lamps and of our own head lights, (N,) each, falling off with the square of the distance."""
    pools = np.zeros_like(raster.depth)
    for row in street.lamps:
        # lamps stand at even spacing: the distance along the street to the nearest one is a triangle wave
        along = raster.z - np.float32(row.start)
        along *= np.float32(1 / row.spacing)
        along -= np.round(np.maximum(along, 0))
        along *= np.float32(row.spacing)
        along *= along
        across = raster.x - np.float32(row.x)
        across *= across
        along += across
        across = raster.y - np.float32(row.height)
        across *= across
        along += across
        along += 5.0
        pools += np.float32(46.0 * strength) / along
    np.minimum(pools, 1.5, out=pools)
    side = raster.x - np.float32(street.camera.x + 0.3)
    side /= raster.depth
    beam = np.maximum(0, 1 - (side * np.float32(2.4)) ** 2)
    reach = raster.depth * np.float32(1 / 13)
    reach *= reach
    reach += 1
    beam /= reach
    low = np.clip((2.6 - raster.y) * np.float32(0.5), 0.06, 1.0)  # dipped: little light above the bonnet
    beam *= low
    beam *= np.float32(1.1 * strength)
    return pools, beam


def lit_windows(raster: Raster, rows: NDArray[np.int64], share: float, salt: int) -> NDArray[np.int64]:
    """Pixels (M,) inside windows that are lit; one decision per window, from its place and not from a stream."""
    table, faces = material_table(), raster.faces
    window = table.lit[faces.material]
    chosen = np.flatnonzero(window.take(raster.index) & (rows & 1).astype(bool))
    face = raster.index[chosen]
    kind = faces.material[face]
    u = np.where(faces.axis[face] == 0, raster.z[chosen], raster.x[chosen])
    column = np.floor(u * table.rate_u[kind]).astype(np.int64)
    row = np.floor(raster.y[chosen] * table.rate_v[kind] + table.phase_v[kind]).astype(np.int64)
    mixed = (column * 73856093) ^ (row * 19349663) ^ (face * 83492791) ^ (salt * 2654435761)
    return np.asarray(chosen[((mixed >> 7) & 1023) < int(share * 1024)])
