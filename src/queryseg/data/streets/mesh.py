"""Meshes of flat faces, and where a scene places them.

Shape legend: P points, F faces. Axes: x right, y up, z forward (away from the camera), metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Point = tuple[float, float, float]
Point2 = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Mesh:
    """A shape in metres, standing on y = 0; its faces are listed in the order in which a painter draws them.

    points     (P, 3) float32, face by face
    counts     (F,) points per face
    slots      (F,) colour of the face: index into the palette of the placement
    cell_slots (F,) colour inside the cells of the material's grid
    materials  (F,) index into `textures.MATERIALS`
    groups     (F,) index into the labels of the placement (a cyclist is a bicycle and a rider)
    two_sided  (F,) bool: drawn whatever way it faces; others are drawn only when seen from outside
    emission   (F,) light that the face gives off at night, 0 to 1
    bounds     x0, x1, z0, z1, height
    """

    points: NDArray[np.float32]
    counts: NDArray[np.int64]
    slots: NDArray[np.int64]
    cell_slots: NDArray[np.int64]
    materials: NDArray[np.int64]
    groups: NDArray[np.int64]
    two_sided: NDArray[np.bool_]
    emission: NDArray[np.float32]
    bounds: tuple[float, float, float, float, float]


class Placement(NamedTuple):
    """One mesh in a scene: scaled by `scale`, turned by yaw (0 = heading away, π/2 = heading right), moved to x, y, z.

    palette  one RGB colour in [0, 1] per slot of the mesh
    labels   one trainId per group of the mesh
    shadow   whether it darkens the ground away from the sun
    """

    mesh: Mesh
    x: float
    y: float
    z: float
    palette: Sequence[Colour]
    labels: tuple[int, ...]
    cos: float = 1.0
    sin: float = 0.0
    scale: Point = (1.0, 1.0, 1.0)
    shadow: bool = True


class MeshBuilder:
    """Collects faces; corners run counter-clockwise as seen from outside."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._faces: list[tuple[int, int, int, int, int, bool, float]] = []

    def face(
        self,
        points: Sequence[Point],
        slot: int,
        *,
        cell_slot: int | None = None,
        material: int = 0,
        group: int = 0,
        two_sided: bool = False,
        emission: float = 0.0,
    ) -> None:
        cell = slot if cell_slot is None else cell_slot
        self._points.extend(points)
        self._faces.append((len(points), slot, cell, material, group, two_sided, emission))

    def flat(
        self,
        outline: Sequence[Point2],
        slot: int,
        *,
        z: float = 0.0,
        material: int = 0,
        group: int = 0,
        emission: float = 0.0,
    ) -> None:
        """A cut-out in the x–y plane, seen from both sides."""
        points = [(x, y, z) for x, y in outline]
        self.face(points, slot, material=material, group=group, two_sided=True, emission=emission)

    def box(
        self,
        x: Point2,
        y: Point2,
        z: Point2,
        slot: int,
        *,
        top: Point2 = (1.0, 1.0),
        sides: str = "xXzZY",
        cell_slot: int | None = None,
        material: int = 0,
        group: int = 0,
    ) -> None:
        """A box whose top may shrink about its centre by `top` = (x factor, z factor). sides: x left, X right, z near
        end, Z far end, Y top."""
        (x0, x1), (y0, y1), (z0, z1) = x, y, z
        cx, cz = (x0 + x1) / 2, (z0 + z1) / 2
        a0, a1 = cx + (x0 - cx) * top[0], cx + (x1 - cx) * top[0]
        b0, b1 = cz + (z0 - cz) * top[1], cz + (z1 - cz) * top[1]
        corners: dict[str, list[Point]] = {
            "x": [(x0, y0, z1), (x0, y0, z0), (a0, y1, b0), (a0, y1, b1)],
            "X": [(x1, y0, z0), (x1, y0, z1), (a1, y1, b1), (a1, y1, b0)],
            "z": [(x0, y0, z0), (x1, y0, z0), (a1, y1, b0), (a0, y1, b0)],
            "Z": [(x1, y0, z1), (x0, y0, z1), (a0, y1, b1), (a1, y1, b1)],
            "Y": [(a0, y1, b0), (a1, y1, b0), (a1, y1, b1), (a0, y1, b1)],
        }
        for side in sides:
            self.face(corners[side], slot, cell_slot=cell_slot, material=material, group=group)

    def build(self) -> Mesh:
        points = np.array(self._points, np.float32)
        counts, slots, cells, materials, groups, two_sided, emission = zip(*self._faces, strict=True)
        low, high = points.min(0), points.max(0)
        return Mesh(
            points,
            np.array(counts),
            np.array(slots),
            np.array(cells),
            np.array(materials),
            np.array(groups),
            np.array(two_sided),
            np.array(emission, np.float32),
            (float(low[0]), float(high[0]), float(low[2]), float(high[2]), float(high[1])),
        )


def disc(cx: float, cy: float, radius: float, sides: int = 10, stretch: float = 1.0) -> list[Point2]:
    """A regular polygon, counter-clockwise; `stretch` scales it upwards."""
    angles = np.arange(sides) * (2 * np.pi / sides) + np.pi / sides
    return [(cx + radius * float(np.cos(a)), cy + radius * stretch * float(np.sin(a))) for a in angles]


def bar(start: Point2, end: Point2, width: float) -> list[Point2]:
    """A straight bar from start to end: a limb, a tube, a pole."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    half = width / 2 / max((dx * dx + dy * dy) ** 0.5, 1e-6)
    nx, ny = -dy * half, dx * half
    return [
        (start[0] - nx, start[1] - ny),
        (end[0] - nx, end[1] - ny),
        (end[0] + nx, end[1] + ny),
        (start[0] + nx, start[1] + ny),
    ]
