"""What stands along a street: ground pieces, blocks, fences, poles with lamps, lights and signs, and plants."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from queryseg.data.streets.mesh import Mesh, MeshBuilder, Point2, bar, disc
from queryseg.data.streets.textures import MATERIALS


@lru_cache
def ground(material: str) -> Mesh:
    """A unit square on the ground, x and z from 0 to 1; slots: colour, colour of the cells."""
    mesh = MeshBuilder()
    mesh.face([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], 0, cell_slot=1, material=MATERIALS[material])
    return mesh.build()


@lru_cache
def slab(material: str) -> Mesh:
    """A unit block with its top; slots: top, cells of the top, kerb."""
    mesh = MeshBuilder()
    mesh.box((0, 1), (0, 1), (0, 1), 2, sides="xXz", material=MATERIALS["plain"])
    mesh.box((0, 1), (0, 1), (0, 1), 0, sides="Y", cell_slot=1, material=MATERIALS[material])
    return mesh.build()


@lru_cache
def block(material: str) -> Mesh:
    """A unit block without a roof: a storey, a wall, a hedge; slots: colour, colour of the cells."""
    mesh = MeshBuilder()
    mesh.box((0, 1), (0, 1), (0, 1), 0, sides="xXz", cell_slot=1, material=MATERIALS[material])
    return mesh.build()


@lru_cache
def roof() -> Mesh:
    """A unit roof whose ridge runs along z; slots: tiles, gable."""
    mesh = MeshBuilder()
    grain = MATERIALS["blocks"]
    mesh.face([(0, 0, 0), (1, 0, 0), (0.5, 1, 0)], 1, material=MATERIALS["render"])
    mesh.face([(0, 0, 1), (0, 0, 0), (0.5, 1, 0), (0.5, 1, 1)], 0, material=grain)
    mesh.face([(1, 0, 0), (1, 0, 1), (0.5, 1, 1), (0.5, 1, 0)], 0, material=grain)
    return mesh.build()


@lru_cache
def fence(material: str) -> Mesh:
    """A unit panel between posts; slots: frame, what shows through."""
    mesh = MeshBuilder()
    for x in (0.0, 1.0):
        side = [(x, 0, 0), (x, 0, 1), (x, 1, 1), (x, 1, 0)]
        mesh.face(side, 0, cell_slot=1, material=MATERIALS[material], two_sided=True)
        for v in ((0.06, 0.13), (0.88, 0.96)):
            rail = [(x, v[0], 0), (x, v[0], 1), (x, v[1], 1), (x, v[1], 0)]
            mesh.face(rail, 0, two_sided=True)
    return mesh.build()


@lru_cache
def lamp_post() -> Mesh:
    """7.5 m, its arm towards +x; slots: metal, lamp."""
    mesh = MeshBuilder()
    mesh.flat([(-0.12, 0), (0.12, 0), (0.08, 7.4), (-0.08, 7.4)], 0)
    mesh.flat(bar((0, 7.3), (1.7, 7.7), 0.14), 0)
    mesh.flat([(1.3, 7.52), (2.1, 7.60), (2.1, 7.80), (1.3, 7.76)], 1, emission=1.0)
    return mesh.build()


@lru_cache
def bollard() -> Mesh:
    """A post of one metre with a stripe, labelled pole."""
    mesh = MeshBuilder()
    mesh.flat([(-0.09, 0), (0.09, 0), (0.08, 1.0), (-0.08, 1.0)], 0)
    mesh.flat([(-0.09, 0.74), (0.09, 0.74), (0.09, 0.88), (-0.09, 0.88)], 1)
    return mesh.build()


@lru_cache
def mast() -> Mesh:
    """A tall pole with a cross-arm; slots: metal, lamp."""
    mesh = MeshBuilder()
    mesh.flat([(-0.16, 0), (0.16, 0), (0.12, 8.6), (-0.12, 8.6)], 0)
    mesh.flat([(-0.9, 7.9), (0.9, 7.9), (0.9, 8.05), (-0.9, 8.05)], 0)
    return mesh.build()


@lru_cache
def traffic_light(lit: int, hanging: bool) -> Mesh:
    """lit: 0 red, 1 amber, 2 green. Group 0 pole, group 1 light; slots: pole, case, red, amber, green, dark lens.

    hanging: on an arm towards −x, over the road, as well as on the pole.
    """
    mesh = MeshBuilder()
    mesh.flat([(-0.09, 0), (0.09, 0), (0.09, 5.6 if hanging else 3.0), (-0.09, 5.6 if hanging else 3.0)], 0)
    heads: list[Point2] = [(0.0, 2.3)]
    if hanging:
        mesh.flat(bar((0, 5.5), (-3.4, 5.5), 0.14), 0)
        heads.append((-3.2, 4.8))
    for x, y in heads:
        mesh.flat([(x - 0.24, y), (x + 0.24, y), (x + 0.24, y + 1.25), (x - 0.24, y + 1.25)], 1, group=1)
        for lens in range(3):
            on = lens == lit
            mesh.flat(disc(x, y + 1.02 - 0.4 * lens, 0.155, 8), 2 + lens if on else 5, group=1, emission=float(on))
    return mesh.build()


SIGNS = ("round", "triangle", "square", "octagon")
"""Shapes of signs on one pole; `sign` also draws a "board" on two."""


@lru_cache
def sign(kind: str) -> Mesh:
    """Group 0 pole, group 1 sign; slots: pole, face, border, symbol."""
    mesh = MeshBuilder()
    if kind == "board":
        for x in (-0.9, 0.9):
            mesh.flat([(x - 0.07, 0), (x + 0.07, 0), (x + 0.07, 3.0), (x - 0.07, 3.0)], 0)
        mesh.flat([(-1.35, 2.0), (1.35, 2.0), (1.35, 3.6), (-1.35, 3.6)], 2, group=1)
        mesh.flat([(-1.27, 2.08), (1.27, 2.08), (1.27, 3.52), (-1.27, 3.52)], 1, group=1)
        for y, end in ((3.1, 0.9), (2.7, 0.5), (2.3, 0.8)):
            mesh.flat(bar((-1.0, y), (end, y), 0.15), 3, group=1)
        return mesh.build()
    mesh.flat([(-0.08, 0), (0.08, 0), (0.08, 2.8), (-0.08, 2.8)], 0)
    y = 2.6
    outlines: dict[str, list[Point2]] = {
        "round": disc(0, 0, 0.46, 14),
        "octagon": disc(0, 0, 0.48, 8),
        "triangle": [(-0.56, -0.40), (0.56, -0.40), (0.0, 0.58)],
        "square": [(-0.44, -0.44), (0.44, -0.44), (0.44, 0.44), (-0.44, 0.44)],
    }
    outline = outlines[kind]
    mesh.flat([(px, py + y) for px, py in outline], 2, group=1)
    mesh.flat([(px * 0.76, py * 0.76 + y) for px, py in outline], 1, group=1)
    if kind in ("round", "octagon"):
        mesh.flat(bar((-0.24, y), (0.24, y), 0.15), 3, group=1)
    else:
        mesh.flat(bar((0, y - 0.18), (0, y + 0.20), 0.13), 3, group=1)
    return mesh.build()


NUM_TREES = 8
"""Different outlines of each tree shape."""


def _blob(rng: np.random.Generator, cx: float, cy: float, rx: float, ry: float) -> list[Point2]:
    angles = (np.arange(16) + rng.random(16) * 0.6) * (2 * np.pi / 16)
    radii = 0.80 + 0.32 * rng.random(16)
    return [
        (cx + rx * r * float(np.cos(a)), cy + ry * r * float(np.sin(a))) for a, r in zip(angles, radii, strict=True)
    ]


@lru_cache
def tree(shape: str, variant: int) -> Mesh:
    """shape: "round", "tall", "conifer" or "bush", 8 m high (bush: 1.4 m); slots: trunk, dark, middle, light leaves."""
    rng = np.random.Generator(np.random.PCG64([17, len(shape), variant]))
    mesh = MeshBuilder()
    leaf = MATERIALS["leaf"]
    if shape == "bush":
        for slot, cy, scale in ((1, 0.55, 1.0), (2, 0.70, 0.85), (3, 0.88, 0.55)):
            mesh.flat(_blob(rng, float(rng.uniform(-0.15, 0.15)), cy, 1.2 * scale, 0.6 * scale), slot, material=leaf)
        return mesh.build()
    trunk_top = 1.6 if shape == "conifer" else 4.0
    mesh.flat([(-0.20, 0), (0.20, 0), (0.13, trunk_top), (-0.13, trunk_top)], 0, material=MATERIALS["render"])
    if shape == "conifer":
        for level in range(5):
            low, half = 1.2 + 1.3 * level, 1.75 - 0.31 * level
            outline: list[Point2] = [
                (-half, low),
                (-half * 0.4, low - 0.25),
                (half * 0.3, low - 0.1),
                (half, low),
                (0.0, low + 2.2),
            ]
            mesh.flat(outline, 1 + (level % 3 > 0) + (level == 4), material=leaf)
        return mesh.build()
    mesh.flat(bar((0, 2.6), (0.9, 4.4), 0.16), 0)
    mesh.flat(bar((0, 2.4), (-0.8, 4.2), 0.15), 0)
    spread, low, high = (1.25, 2.0, 7.6) if shape == "tall" else (2.2, 2.9, 7.2)
    for slot, count, lift, size in ((1, 4, 0.0, 1.25), (2, 4, 0.35, 1.0), (3, 3, 0.9, 0.72)):
        for _ in range(count):
            cx = float(rng.uniform(-1, 1)) * spread * 0.75
            cy = float(rng.uniform(low + 1.0, high - 1.4)) + lift * 0.6
            mesh.flat(_blob(rng, cx - 0.25 * lift, cy, spread * 0.78 * size, spread * 0.66 * size), slot, material=leaf)
    return mesh.build()
