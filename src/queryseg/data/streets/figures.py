"""People, and bicycles and motorcycles with their riders: cut-outs in the x–y plane, origin on the ground.

Side views head towards +x. Group 0 is the person or the machine, group 1 the rider.
"""

from __future__ import annotations

from functools import lru_cache

from queryseg.data.streets.mesh import Mesh, MeshBuilder, Point2, bar, disc

SKIN, HAIR, TOP, TROUSERS, SHOES, BAG, FRAME, TYRE, SEAT, LAMP, GAP, FAIRING = range(12)
"""Slots of the palette shared by people and two-wheelers."""

POSES = ("stand", "walk", "stride", "back", "child")


@lru_cache
def person(pose: str) -> Mesh:
    """Someone on foot, seen from the front or back; pose: one of `POSES`."""
    mesh = MeshBuilder()
    step = {"stand": 0.09, "walk": 0.20, "stride": 0.33, "back": 0.11, "child": 0.14}[pose]
    tall = 0.70 if pose == "child" else 1.0

    def scaled(outline: list[Point2]) -> list[Point2]:
        return [(x * (0.5 + 0.5 * tall), y * tall) for x, y in outline]

    for sign in (-1, 1):
        foot = sign * step
        mesh.flat(scaled(bar((sign * 0.07, 0.90), (foot, 0.06), 0.19)), TROUSERS)
        mesh.flat(scaled([(foot - 0.10, 0), (foot + 0.14, 0), (foot + 0.10, 0.10), (foot - 0.10, 0.10)]), SHOES)
    swing = step * 0.8
    mesh.flat(scaled(bar((-0.20, 1.40), (-0.23 - swing * 0.5, 0.85), 0.12)), TOP)
    torso = [
        (-0.19, 0.80),
        (0.19, 0.80),
        (0.23, 1.20),
        (0.24, 1.42),
        (0.10, 1.50),
        (-0.10, 1.50),
        (-0.24, 1.42),
        (-0.23, 1.2),
    ]
    mesh.flat(scaled(torso), TOP)
    mesh.flat(scaled(bar((0.20, 1.40), (0.23 + swing * 0.5, 0.85), 0.12)), TOP)
    for sign in (-1, 1):
        mesh.flat(scaled(disc(sign * (0.235 + swing * 0.5), 0.82, 0.06, 6)), SKIN)
    if pose == "back":
        mesh.flat(scaled([(-0.16, 0.98), (0.16, 0.98), (0.17, 1.40), (-0.17, 1.40)]), BAG)
    elif pose == "walk":
        mesh.flat(scaled([(0.22, 0.55), (0.44, 0.55), (0.42, 0.85), (0.24, 0.85)]), BAG)
    mesh.flat(scaled(disc(0, 1.62, 0.115, 10, 1.25)), SKIN)
    hair = disc(0, 1.68, 0.125, 10, 1.0 if pose != "back" else 1.35)
    mesh.flat(scaled(hair if pose == "back" else [p for p in hair if p[1] > 1.63]), HAIR)
    return mesh.build()


def _rider(mesh: MeshBuilder, hip: Point2, hand: Point2, pedals: list[Point2], lean: float, helmet: bool) -> None:
    shoulder = (hip[0] + lean, hip[1] + 0.56)
    for pedal in pedals:
        knee = ((hip[0] + pedal[0]) / 2 + 0.20, (hip[1] + pedal[1]) / 2 + 0.08)
        mesh.flat(bar(hip, knee, 0.19), TROUSERS, group=1)
        mesh.flat(bar(knee, pedal, 0.15), TROUSERS, group=1)
        mesh.flat(bar((pedal[0] - 0.08, pedal[1]), (pedal[0] + 0.16, pedal[1] - 0.02), 0.11), SHOES, group=1)
    mesh.flat(bar((hip[0] - 0.04, hip[1] - 0.08), shoulder, 0.36), TOP, group=1)
    elbow = ((shoulder[0] + hand[0]) / 2 - 0.03, (shoulder[1] + hand[1]) / 2 - 0.10)
    mesh.flat(bar(shoulder, elbow, 0.13), TOP, group=1)
    mesh.flat(bar(elbow, hand, 0.11), TOP, group=1)
    head = (shoulder[0] + 0.12, shoulder[1] + 0.20)
    mesh.flat(disc(*head, 0.12, 10, 1.2), SKIN, group=1)
    if helmet:
        mesh.flat([p for p in disc(head[0], head[1] + 0.02, 0.16, 12, 1.15) if p[1] > head[1] - 0.05], BAG, group=1)
    else:
        mesh.flat([p for p in disc(head[0] - 0.01, head[1] + 0.05, 0.135, 12) if p[1] > head[1]], HAIR, group=1)


@lru_cache
def bicycle_side(ridden: bool) -> Mesh:
    """A bicycle seen from its side, facing +x; ridden: with a rider on it."""
    mesh = MeshBuilder()
    radius, rear, front = 0.36, (-0.56, 0.36), (0.56, 0.36)
    for centre in (rear, front):
        mesh.flat(disc(*centre, radius, 14), TYRE)
        mesh.flat(disc(*centre, radius - 0.075, 14), GAP)
        for end in ((0.0, radius - 0.05), (radius - 0.05, 0.0)):
            mesh.flat(
                bar((centre[0] - end[0], centre[1] - end[1]), (centre[0] + end[0], centre[1] + end[1]), 0.025), SEAT
            )
    crank, post, stem = (-0.06, 0.34), (-0.20, 0.86), (0.36, 0.84)
    mesh.flat([crank, stem, post], GAP)
    for start, end in ((rear, crank), (rear, post), (crank, post), (crank, stem), (post, stem), (stem, front)):
        mesh.flat(bar(start, end, 0.075), FRAME)
    mesh.flat(bar(stem, (0.32, 1.02), 0.06), FRAME)
    mesh.flat(bar((0.26, 1.02), (0.48, 1.05), 0.06), SEAT)
    mesh.flat(bar(post, (-0.22, 0.95), 0.06), FRAME)
    mesh.flat(bar((-0.36, 0.95), (-0.08, 0.97), 0.09), SEAT)
    mesh.flat(bar((-0.85, 0.62), (-0.62, 0.70), 0.06), TYRE)
    if ridden:
        _rider(mesh, (-0.20, 0.98), (0.42, 1.06), [(-0.12, 0.22), (0.06, 0.44)], 0.30, helmet=True)
    return mesh.build()


@lru_cache
def bicycle_rear(ridden: bool) -> Mesh:
    """From behind or ahead, along the road."""
    mesh = MeshBuilder()
    mesh.flat(bar((0, 0.0), (0, 0.72), 0.13), TYRE)
    mesh.flat(bar((0, 0.66), (0, 0.98), 0.08), FRAME)
    mesh.flat(bar((-0.22, 0.30), (0.22, 0.36), 0.07), SEAT)
    mesh.flat(bar((-0.32, 1.04), (0.32, 1.04), 0.07), FRAME)
    mesh.flat([(-0.12, 0.90), (0.12, 0.90), (0.07, 1.0), (-0.07, 1.0)], SEAT)
    mesh.flat(disc(0, 0.76, 0.06, 6), LAMP, emission=0.5)
    if ridden:
        _astride(mesh, 0.98, 0.30, helmet=False)
    return mesh.build()


def _astride(mesh: MeshBuilder, hip: float, foot: float, helmet: bool) -> None:
    """A rider seen from behind: legs to both sides, arms out to the handlebar."""
    for sign in (-1, 1):
        knee = (sign * 0.24, (hip + foot) / 2 + 0.06 * sign)
        mesh.flat(bar((sign * 0.10, hip), knee, 0.18), TROUSERS, group=1)
        mesh.flat(bar(knee, (sign * 0.19, foot + 0.05 * sign), 0.14), TROUSERS, group=1)
        mesh.flat(disc(sign * 0.20, foot + 0.05 * sign - 0.05, 0.08, 6), SHOES, group=1)
        mesh.flat(bar((sign * 0.22, hip + 0.52), (sign * 0.38, hip + 0.22), 0.13), TOP, group=1)
        mesh.flat(bar((sign * 0.38, hip + 0.24), (sign * 0.30, hip + 0.06), 0.11), TOP, group=1)
    mesh.flat([(-0.20, hip - 0.08), (0.20, hip - 0.08), (0.27, hip + 0.52), (0.12, hip + 0.62), (-0.12, hip + 0.62),
               (-0.27, hip + 0.52)], TOP, group=1)  # fmt: skip
    mesh.flat(disc(0, hip + 0.76, 0.12, 10, 1.2), HAIR, group=1)
    if helmet:
        mesh.flat(disc(0, hip + 0.79, 0.165, 10, 1.1), BAG, group=1)


@lru_cache
def motorcycle_side(ridden: bool) -> Mesh:
    """A motorcycle seen from its side, facing +x; ridden: with a rider on it."""
    mesh = MeshBuilder()
    radius, rear, front = 0.33, (-0.70, 0.33), (0.74, 0.33)
    for centre in (rear, front):
        mesh.flat(disc(*centre, radius, 14), TYRE)
        mesh.flat(disc(*centre, radius * 0.5, 10), SEAT)
    mesh.flat(bar(front, (0.48, 0.98), 0.11), FRAME)
    mesh.flat([(-0.55, 0.30), (0.42, 0.26), (0.46, 0.55), (-0.60, 0.55)], SEAT)
    mesh.flat(bar((-0.95, 0.34), (-0.15, 0.26), 0.13), FRAME)
    mesh.flat([(-1.00, 0.78), (-0.60, 0.50), (0.52, 0.50), (0.62, 0.88), (0.30, 1.00), (0.06, 0.98), (-0.12, 0.82),
               (-0.70, 0.84)], FAIRING)  # fmt: skip
    mesh.flat([(0.50, 0.60), (0.74, 0.78), (0.66, 1.06), (0.44, 1.16), (0.44, 0.9)], FAIRING)
    mesh.flat(bar((-0.72, 0.88), (-0.05, 0.86), 0.12), TYRE)
    mesh.flat(bar((0.34, 1.08), (0.50, 1.12), 0.07), TYRE)
    mesh.flat(disc(0.72, 0.88, 0.10, 8), LAMP, emission=0.8)
    if ridden:
        _rider(mesh, (-0.30, 0.96), (0.38, 1.10), [(-0.08, 0.36)], 0.26, helmet=True)
    return mesh.build()


@lru_cache
def motorcycle_rear(ridden: bool) -> Mesh:
    """A motorcycle seen from behind; ridden: with a rider on it."""
    mesh = MeshBuilder()
    mesh.flat(bar((0, 0.0), (0, 0.66), 0.22), TYRE)
    mesh.flat([(-0.30, 0.34), (-0.18, 0.30), (-0.14, 0.62), (-0.32, 0.62)], SEAT)
    mesh.flat([(0.30, 0.34), (0.18, 0.30), (0.14, 0.62), (0.32, 0.62)], SEAT)
    mesh.flat([(-0.26, 0.52), (0.26, 0.52), (0.36, 0.86), (0.20, 1.00), (-0.20, 1.00), (-0.36, 0.86)], FAIRING)
    mesh.flat(bar((-0.46, 1.10), (0.46, 1.10), 0.08), TYRE)
    for sign in (-1, 1):
        mesh.flat(disc(sign * 0.46, 1.20, 0.08, 6), SEAT)
    mesh.flat([(-0.16, 0.66), (0.16, 0.66), (0.14, 0.78), (-0.14, 0.78)], LAMP, emission=0.8)
    if ridden:
        _astride(mesh, 0.94, 0.36, helmet=True)
    return mesh.build()
