"""Cars, vans, trucks, buses and trams as meshes: origin under the centre, heading +z, true size in metres."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from queryseg.data.streets.mesh import Mesh, MeshBuilder, Point, disc
from queryseg.data.streets.textures import MATERIALS

BODY, GLASS, TYRE, TAIL, HEAD, TRIM, PLATE, ACCENT = range(8)
"""Slots of a vehicle's palette: paint, windows, tyres, tail and head lights, dark trim, plates and hubs, stripe."""


def patch(quad: list[Point], u: tuple[float, float], v: tuple[float, float]) -> list[Point]:
    """The part of a four-cornered face within u (along its first edge) and v (towards the opposite one), in [0, 1]."""

    def at(a: float, b: float) -> Point:
        p, q, r, s = quad
        x, y, z = ((1 - a) * (1 - b) * p[i] + a * (1 - b) * q[i] + a * b * r[i] + (1 - a) * b * s[i] for i in range(3))
        return (x, y, z)

    return [at(u[0], v[0]), at(u[1], v[0]), at(u[1], v[1]), at(u[0], v[1])]


class CarProfile(NamedTuple):
    """Side view of a car, metres: z from the rear end (−length/2) to the front.

    belt: height of the window line; rear, front: z of the cabin's foot; roof_rear, roof_front: z of the roof's ends
    """

    length: float
    width: float
    height: float
    belt: float
    hood: float
    rear: float
    roof_rear: float
    roof_front: float
    front: float


CAR_PROFILES = {
    "hatchback": CarProfile(4.0, 1.78, 1.48, 0.92, 0.80, -1.95, -1.60, 0.15, 0.85),
    "sedan": CarProfile(4.7, 1.84, 1.44, 0.92, 0.82, -1.75, -0.95, 0.25, 0.95),
    "suv": CarProfile(4.5, 1.90, 1.74, 1.08, 0.98, -2.20, -1.95, 0.25, 0.90),
    "van": CarProfile(5.0, 1.98, 2.05, 1.12, 1.05, -2.45, -2.38, 1.15, 1.85),
}


def _wheels(mesh: MeshBuilder, half_width: float, axles: list[float], radius: float) -> None:
    for side in (-1, 1):
        for z in axles:
            for slot, part in ((TYRE, 1.0), (PLATE, 0.52)):
                ring = [(side * half_width, y, z + dz) for dz, y in disc(0, radius, radius * part, 10)]
                mesh.face(ring if side > 0 else ring[::-1], slot)


def _stub_wheels(mesh: MeshBuilder, half_width: float, z_rear: float, z_front: float, width: float, top: float) -> None:
    """The tyres that show below the body when it is seen from behind or from the front."""
    for x in (-half_width + 0.02, half_width - width - 0.02):
        mesh.box((x, x + width), (0.0, top), (z_rear, z_front), TYRE, sides="zZ")


@lru_cache
def car(kind: str) -> Mesh:
    """A car by its profile; kind: a key of `CAR_PROFILES`."""
    p = CAR_PROFILES[kind]
    mesh = MeshBuilder()
    half, rear, front = p.width / 2, -p.length / 2, p.length / 2
    radius = 0.34 if p.height > 1.6 else 0.31
    _stub_wheels(mesh, half, rear + 0.35, front - 0.35, 0.22, 0.5)

    low, roof = 0.24, half * 0.80
    body = [  # half outline of the side, rear to front: the hood falls towards the front
        (low, rear), (low, front), (0.62, front), (p.hood, front - 0.25), (p.belt, p.front), (p.belt, rear),
    ]  # fmt: skip
    mesh.face([(half, y, z) for y, z in body], BODY)
    mesh.face([(-half, y, z) for y, z in reversed(body)], BODY)
    back: list[Point] = [(-half, low, rear), (half, low, rear), (half, p.belt, rear), (-half, p.belt, rear)]
    mesh.face(back, BODY)
    nose: list[Point] = [(half, low, front), (-half, low, front), (-half, 0.66, front), (half, 0.66, front)]
    mesh.face(nose, BODY)
    mesh.face(
        [(-half, p.hood, front - 0.25), (-half, 0.62, front), (half, 0.62, front), (half, p.hood, front - 0.25)][::-1],
        BODY,
    )
    hood = [
        (-half, p.belt, p.front), (-half, p.hood, front - 0.25), (half, p.hood, front - 0.25), (half, p.belt, p.front),
    ]  # fmt: skip
    mesh.face(hood[::-1], BODY)
    mesh.face([(-half, p.belt, rear), (half, p.belt, rear), (half, p.belt, p.rear), (-half, p.belt, p.rear)], BODY)

    for side in (-1, 1):
        cabin: list[Point] = [
            (side * half, p.belt, p.rear), (side * half, p.belt, p.front),
            (side * roof, p.height, p.roof_front), (side * roof, p.height, p.roof_rear),
        ]  # fmt: skip
        quad = cabin if side > 0 else [cabin[1], cabin[0], cabin[3], cabin[2]]
        mesh.face(quad, BODY)
        panes = ((0.56, 0.93),) if kind == "van" else ((0.08, 0.48), (0.53, 0.92))
        for u0, u1 in panes:
            span = (u0, u1) if side > 0 else (1 - u1, 1 - u0)
            mesh.face(patch(quad, span, (0.10, 0.86)), GLASS)
    hatch: list[Point] = [
        (-half, p.belt, p.rear), (half, p.belt, p.rear), (roof, p.height, p.roof_rear), (-roof, p.height, p.roof_rear),
    ]  # fmt: skip
    screen: list[Point] = [
        (half, p.belt, p.front), (-half, p.belt, p.front),
        (-roof, p.height, p.roof_front), (roof, p.height, p.roof_front),
    ]  # fmt: skip
    for quad in (hatch, screen):
        mesh.face(quad, BODY)
        mesh.face(patch(quad, (0.08, 0.92), (0.10, 0.88)), GLASS)
    ends = ((p.roof_rear, p.roof_front),)
    mesh.box((-roof, roof), (p.height - 0.01, p.height), ends[0], BODY, sides="Y")

    for u in ((0.02, 0.20), (0.80, 0.98)):
        mesh.face(patch(back, u, (0.56, 0.86)), TAIL, emission=0.6)
        mesh.face(patch(nose, u, (0.62, 0.98)), HEAD, emission=1.0)
    mesh.face(patch(back, (0.36, 0.64), (0.40, 0.60)), PLATE)
    for quad, span in ((back, (0.0, 0.22)), (nose, (0.0, 0.26))):
        mesh.face(patch(quad, (0.0, 1.0), span), TRIM)
    mesh.face(patch(nose, (0.26, 0.74), (0.50, 0.92)), TRIM)
    _wheels(mesh, half, [rear + 0.78, front - 0.80], radius)
    return mesh.build()


def _cab(mesh: MeshBuilder, half: float, z0: float, z1: float, height: float) -> None:
    mesh.box((-half, half), (0.45, height), (z0, z1), BODY, top=(0.96, 0.92))
    for side in "xX":
        span = (0.30, 0.92) if side == "X" else (0.08, 0.70)
        x = half if side == "X" else -half
        quad: list[Point] = [(x, 0.45, z0), (x, 0.45, z1), (x * 0.96, height, z1 - 0.08), (x * 0.96, height, z0 + 0.08)]
        mesh.face(patch(quad if side == "X" else [quad[1], quad[0], quad[3], quad[2]], span, (0.52, 0.90)), GLASS)
    face: list[Point] = [
        (half, 0.45, z1), (-half, 0.45, z1), (-half * 0.96, height, z1 - 0.08), (half * 0.96, height, z1 - 0.08),
    ]  # fmt: skip
    mesh.face(patch(face, (0.05, 0.95), (0.50, 0.90)), GLASS)
    mesh.face(patch(face, (0.0, 1.0), (0.0, 0.14)), TRIM)
    mesh.face(patch(face, (0.22, 0.78), (0.20, 0.42)), TRIM)
    for u in ((0.03, 0.18), (0.82, 0.97)):
        mesh.face(patch(face, u, (0.14, 0.26)), HEAD, emission=1.0)
    for x in (-half - 0.28, half + 0.06):
        mesh.box((x, x + 0.22), (height * 0.62, height * 0.86), (z1 - 0.1, z1), TRIM, sides="zZ")


@lru_cache
def truck(kind: str, seen_from: str) -> Mesh:
    """kind: "box", "container" or "tipper"; seen_from: "rear" or "front", which end the painter draws last."""
    half, length = 1.25, 8.2 if kind != "tipper" else 7.0
    rear, front = -length / 2, length / 2
    cab_end = front - 2.0
    height = {"box": 3.6, "container": 3.75, "tipper": 2.5}[kind]
    material = MATERIALS["ribs" if kind == "container" else "plain"]

    def cargo(mesh: MeshBuilder) -> None:
        low = 1.05
        flare = (1.0, 1.0) if kind != "tipper" else (1.06, 1.04)
        mesh.box(
            (-half, half), (low, height), (rear, cab_end - 0.25), ACCENT, top=flare, cell_slot=ACCENT, sides="xXZY"
        )
        quad: list[Point] = [(-half, low, rear), (half, low, rear), (half, height, rear), (-half, height, rear)]
        for x in (-half, half):
            side = [(x, low, rear), (x, low, cab_end - 0.25), (x, height, cab_end - 0.25), (x, height, rear)]
            if x < 0:
                side = [side[1], side[0], side[3], side[2]]
            mesh.face(side, TRIM if kind == "container" else ACCENT, cell_slot=ACCENT, material=material)
            if kind == "box":
                mesh.face(patch(side, (0.0, 1.0), (0.0, 0.05)), TRIM)
                mesh.face(patch(side, (0.25, 0.75), (0.45, 0.75)), PLATE)
        mesh.face(quad, ACCENT)
        if kind == "tipper":
            mesh.face(patch(quad, (0.0, 1.0), (0.44, 0.54)), TRIM)
        else:  # two doors and their locking bars
            for seam in (0.0, 0.485, 0.97):
                mesh.face(patch(quad, (seam, seam + 0.03), (0.0, 1.0)), TRIM)
            for rod in (0.22, 0.40, 0.60, 0.78):
                mesh.face(patch(quad, (rod - 0.008, rod + 0.012), (0.04, 0.96)), PLATE)
        mesh.face(patch(quad, (0.0, 1.0), (0.0, 0.04)), TRIM)
        bumper: list[Point] = [(-half, 0.5, rear), (half, 0.5, rear), (half, low, rear), (-half, low, rear)]
        mesh.face(patch(bumper, (0.02, 0.98), (0.25, 0.75)), TRIM)
        for u in ((0.04, 0.16), (0.84, 0.96)):
            mesh.face(patch(bumper, u, (0.3, 0.7)), TAIL, emission=0.6)
        mesh.face(patch(bumper, (0.40, 0.60), (0.3, 0.7)), PLATE)

    mesh = MeshBuilder()
    mesh.box((-half * 0.7, half * 0.7), (0.35, 1.1), (rear + 0.1, front - 0.2), TRIM, sides="xXzZ")
    _stub_wheels(mesh, half, rear + 0.6, front - 0.6, 0.5, 0.95)
    if seen_from == "rear":
        _cab(mesh, half * 0.96, cab_end, front, 2.75)
        cargo(mesh)
    else:
        cargo(mesh)
        _cab(mesh, half * 0.96, cab_end, front, 2.75)
    _wheels(mesh, half, [rear + 1.1, rear + 2.2, front - 1.1], 0.5)
    return mesh.build()


@lru_cache
def bus(decks: int = 1) -> Mesh:
    """A bus with one or two decks."""
    half, length = 1.27, 11.0
    height = 3.15 if decks == 1 else 4.2
    rear, front = -length / 2, length / 2
    mesh = MeshBuilder()
    _stub_wheels(mesh, half, rear + 1.2, front - 1.2, 0.35, 0.5)
    mesh.box((-half, half), (0.32, height), (rear, front), BODY, top=(0.97, 0.995))
    bands = [(0.40, 0.80)] if decks == 1 else [(0.26, 0.48), (0.62, 0.86)]
    for x in (-half, half):
        inner = x * 0.97
        side: list[Point] = [(x, 0.32, rear), (x, 0.32, front), (inner, height, front), (inner, height, rear)]
        if x < 0:
            side = [side[1], side[0], side[3], side[2]]
        mesh.face(patch(side, (0.0, 1.0), (0.0, 0.14)), ACCENT)
        for band in bands:
            mesh.face(patch(side, (0.02, 0.98), band), TRIM, cell_slot=GLASS, material=MATERIALS["glazing"])
        if x > 0:  # doors towards the kerb
            for u in ((0.44, 0.56), (0.86, 0.96)):
                mesh.face(patch(side, u, (0.02, 0.82 if decks == 1 else 0.5)), GLASS)
                middle = (u[0] + u[1]) / 2
                mesh.face(patch(side, (middle - 0.006, middle + 0.006), (0.02, 0.82 if decks == 1 else 0.5)), PLATE)
    back: list[Point] = [(-half, 0.32, rear), (half, 0.32, rear), (half, height, rear), (-half, height, rear)]
    nose: list[Point] = [(half, 0.32, front), (-half, 0.32, front), (-half, height, front), (half, height, front)]
    mesh.face(patch(back, (0.10, 0.90), bands[-1]), GLASS)
    mesh.face(patch(back, (0.15, 0.85), (0.12, 0.30)), TRIM)
    mesh.face(patch(nose, (0.04, 0.96), (0.28, 0.80) if decks == 1 else (0.22, 0.50)), GLASS)
    if decks == 2:
        mesh.face(patch(nose, (0.04, 0.96), bands[-1]), GLASS)
    for quad in (nose, back):
        mesh.face(patch(quad, (0.14, 0.86), (0.84, 0.95) if decks == 1 else (0.51, 0.59)), TRIM)
        mesh.face(patch(quad, (0.20, 0.80), (0.86, 0.93) if decks == 1 else (0.52, 0.58)), HEAD, emission=0.7)
        mesh.face(patch(quad, (0.0, 1.0), (0.0, 0.08)), TRIM)
    for u in ((0.03, 0.16), (0.84, 0.97)):
        mesh.face(patch(back, u, (0.10, 0.30)), TAIL, emission=0.6)
        mesh.face(patch(nose, u, (0.10, 0.20)), HEAD, emission=1.0)
    for x in (-half - 0.30, half + 0.08):
        mesh.box((x, x + 0.22), (height * 0.55, height * 0.75), (front - 0.1, front), TRIM, sides="zZ")
    _wheels(mesh, half, [rear + 2.4, front - 2.2], 0.48)
    return mesh.build()


@lru_cache
def train() -> Mesh:
    """A tram of two cars with a pointed nose at both ends, skirts to the rails, roof boxes and a pantograph."""
    half, length, height = 1.25, 20.0, 3.35
    nose = 1.5
    rear, front = -length / 2, length / 2
    mesh = MeshBuilder()
    for z0, z1 in ((rear + nose, -0.35), (0.35, front - nose)):
        mesh.box((-half, half), (0.16, height), (z0, z1), BODY, top=(0.94, 1.0))
        for x in (-half, half):
            inner = x * 0.94
            side: list[Point] = [(x, 0.16, z0), (x, 0.16, z1), (inner, height, z1), (inner, height, z0)]
            if x < 0:
                side = [side[1], side[0], side[3], side[2]]
            mesh.face(patch(side, (0.0, 1.0), (0.0, 0.30)), ACCENT)
            mesh.face(patch(side, (0.0, 1.0), (0.0, 0.07)), TRIM)
            mesh.face(patch(side, (0.0, 1.0), (0.42, 0.80)), GLASS, cell_slot=GLASS, material=MATERIALS["glazing"])
            for door in (0.22, 0.66):
                mesh.face(patch(side, (door, door + 0.14), (0.05, 0.84)), PLATE)
                mesh.face(patch(side, (door + 0.015, door + 0.064), (0.20, 0.80)), GLASS)
                mesh.face(patch(side, (door + 0.076, door + 0.125), (0.20, 0.80)), GLASS)
    mesh.box((-half * 0.9, half * 0.9), (0.3, height - 0.15), (-0.35, 0.35), TRIM, sides="xX")
    for end, inward in ((rear, 1), (front, -1)):
        z0, z1 = end, end + inward * nose
        narrow, top = half * 0.62, half * 0.94
        tip: list[Point] = [
            (-narrow, 0.16, z0), (narrow, 0.16, z0), (narrow, 1.25, z0), (-narrow, 1.25, z0),
        ]  # fmt: skip
        screen: list[Point] = [
            (-narrow, 1.25, z0),
            (narrow, 1.25, z0),
            (top * 0.8, height, z1),
            (-top * 0.8, height, z1),
        ]
        right: list[Point] = [(narrow, 0.16, z0), (half, 0.16, z1), (top, height, z1), (narrow, 1.25, z0)]
        left: list[Point] = [(-half, 0.16, z1), (-narrow, 0.16, z0), (-narrow, 1.25, z0), (-top, height, z1)]
        corner_right: list[Point] = [(narrow, 1.25, z0), (top, height, z1), (top * 0.8, height, z1)]
        corner_left: list[Point] = [(-narrow, 1.25, z0), (-top * 0.8, height, z1), (-top, height, z1)]

        def outward(face: list[Point], flip: bool = inward < 0) -> list[Point]:
            return face[::-1] if flip else face

        mesh.face(outward(right), ACCENT)
        mesh.face(outward(left), ACCENT)
        mesh.face(outward(corner_right), BODY)
        mesh.face(outward(corner_left), BODY)
        mesh.face(outward(screen), BODY)
        mesh.face(outward(patch(screen, (0.04, 0.96), (0.08, 0.72))), GLASS)
        mesh.face(outward(patch(screen, (0.2, 0.8), (0.76, 0.92))), HEAD, emission=0.7)
        mesh.face(outward(tip), ACCENT)
        mesh.face(outward(patch(tip, (0.0, 1.0), (0.0, 0.22))), TRIM)
        for u in ((0.04, 0.24), (0.76, 0.96)):
            mesh.face(outward(patch(tip, u, (0.62, 0.88))), HEAD, emission=1.0)
    for z0, z1 in ((rear + 3, rear + 5.5), (2, 4.5)):
        mesh.box((-0.8, 0.8), (height, height + 0.4), (z0, z1), TRIM)
    for z in (-4.0, -3.2):
        low, high = height + 0.2, height + 1.3
        mesh.face([(-0.7, low, z), (0.7, low, z), (0.7, high, -3.6), (-0.7, high, -3.6)], PLATE, two_sided=True)
    return mesh.build()
