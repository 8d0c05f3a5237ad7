"""Which face is seen at every pixel, and where in the street that point lies.

Shape legend: P points, F faces (0 is the sky), N = H·W pixels. The painter's algorithm writes face numbers; depth
follows from the plane of each face, so it is exact for flat faces whatever the image size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from queryseg.data.streets.camera import NEAREST, Camera
from queryseg.data.streets.labels import FIRST_THING, SKY
from queryseg.data.streets.mesh import Placement

SKY_DEPTH = 1000.0
"""Metres: the depth of sky pixels."""

T = TypeVar("T", bound=np.generic)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class FaceTable:
    """One row per drawn face; row 0 is the sky.

    label (F,) uint8; instance (F,) int32; material (F,)
    colours (2F, 3): rows 2f outside, 2f + 1 inside the grid cells
    normals (F, 3) unit, road axes, towards the camera; axis (F,) the largest component of the normal;
    flat (F,) bool, cut-outs seen from both sides; emission (F,)
    """

    label: NDArray[np.uint8]
    instance: NDArray[np.int32]
    colours: Floats
    material: NDArray[np.int64]
    normals: Floats
    axis: NDArray[np.int64]
    flat: NDArray[np.bool_]
    emission: Floats


@dataclass(frozen=True)
class Raster:
    """faces; index (N,) row of `faces` per pixel; depth (N,) metres along the view; x, y, z (N,) road position, metres;
    size (H, W)."""

    faces: FaceTable
    index: NDArray[np.int64]
    depth: Floats
    x: Floats
    y: Floats
    z: Floats
    size: tuple[int, int]


def draw_faces(placements: list[Placement], wear: Floats, camera: Camera, size: tuple[int, int]) -> Raster:
    """Paint the placements in their order; wear (colours, 3) multiplies their palettes, laid end to end."""
    meshes = [p.mesh for p in placements]
    points = np.concatenate([m.points for m in meshes])
    counts = np.concatenate([m.counts for m in meshes])
    faces_per_mesh = np.array([len(m.counts) for m in meshes])
    pose = np.array([(p.x, p.y, p.z, p.cos, p.sin, *p.scale) for p in placements], np.float32)
    pose = np.repeat(pose, [len(m.points) for m in meshes], axis=0).T
    local = points.T * pose[5:8]
    cos, sin = pose[3], pose[4]
    road = np.stack(
        [cos * local[0] + sin * local[2] + pose[0], local[1] + pose[1], cos * local[2] - sin * local[0] + pose[2]], 1
    )

    seen = camera.to_camera(road)
    pixels = camera.project(seen, size)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    following = np.arange(1, len(points) + 1)
    following[starts + counts - 1] = starts

    two_sided = np.concatenate([m.two_sided for m in meshes])
    visible = _visible(pixels, seen, starts, following, two_sided, size)
    owner = np.repeat(np.arange(len(placements)), faces_per_mesh)[visible]

    # planes: Newell's normal over the corners; 1 / depth is linear over the image
    normal = np.add.reduceat(np.cross(seen, seen[following]), starts)[visible]
    centre = (np.add.reduceat(seen, starts) / counts[:, None])[visible]
    offset = (normal * centre).sum(1)
    offset = np.where(np.abs(offset) < 1e-6, 1e-6, offset)
    plane = normal / offset[:, None]
    inverse = 1 / np.maximum(seen[:, 2], NEAREST)
    low, high = np.minimum.reduceat(inverse, starts)[visible], np.maximum.reduceat(inverse, starts)[visible]

    palette = np.array([colour for p in placements for colour in p.palette], np.float32) * wear
    palette_start = np.concatenate([[0], np.cumsum([len(p.palette) for p in placements])[:-1]])[owner]
    slots = np.concatenate([m.slots for m in meshes])[visible] + palette_start
    cells = np.concatenate([m.cell_slots for m in meshes])[visible] + palette_start
    group_start = np.concatenate([[0], np.cumsum([len(p.labels) for p in placements])[:-1]])[owner]
    groups = np.concatenate([m.groups for m in meshes])[visible] + group_start
    labels = np.array([label for p in placements for label in p.labels])
    things = labels >= FIRST_THING
    instances = np.where(things, np.cumsum(things), 0)

    unit = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    unit *= -np.sign(offset)[:, None]
    yaw_cos, yaw_sin = np.float32(np.cos(camera.yaw)), np.float32(np.sin(camera.yaw))
    unit = np.stack(
        [yaw_cos * unit[:, 0] + yaw_sin * unit[:, 2], unit[:, 1], yaw_cos * unit[:, 2] - yaw_sin * unit[:, 0]], 1
    )

    def with_sky(column: NDArray[T], sky: float) -> NDArray[T]:
        return np.concatenate([np.full((1, *column.shape[1:]), sky, column.dtype), column])

    colours = np.stack([palette[slots], palette[cells]], 1).reshape(-1, 3)
    faces = FaceTable(
        label=with_sky(labels[groups].astype(np.uint8), SKY),
        instance=with_sky(instances[groups].astype(np.int32), 0),
        colours=np.concatenate([np.zeros((2, 3), np.float32), colours]),
        material=with_sky(np.concatenate([m.materials for m in meshes])[visible], 0),
        normals=with_sky(unit.astype(np.float32), 0),
        axis=with_sky(np.abs(unit).argmax(1), 2),
        flat=with_sky(two_sided[visible], 0),
        emission=with_sky(np.concatenate([m.emission for m in meshes])[visible], 0),
    )
    index = _paint(pixels, starts, counts, visible, size)
    planes = with_sky(plane.astype(np.float32), 0)
    nearest, farthest = (with_sky(bound.astype(np.float32), 1 / SKY_DEPTH) for bound in (high, low))
    return _locate(faces, index, planes, farthest, nearest, camera, size)


def _visible(
    pixels: Floats, seen: Floats, starts: NDArray[np.int64], following: NDArray[np.int64], two_sided: NDArray[np.bool_],
    size: tuple[int, int],
) -> NDArray[np.int64]:  # fmt: skip
    """Numbers of the faces that are in the image and turned towards the camera."""
    x, y = pixels[:, 0], pixels[:, 1]
    area = np.add.reduceat(x * y[following] - x[following] * y, starts)
    keep = (area < -0.1) | two_sided
    keep &= np.maximum.reduceat(x, starts) >= 0
    keep &= np.minimum.reduceat(x, starts) < size[1]
    keep &= np.maximum.reduceat(y, starts) >= 0
    keep &= np.minimum.reduceat(y, starts) < size[0]
    keep &= np.maximum.reduceat(seen[:, 2], starts) > NEAREST
    return np.flatnonzero(keep)


def _paint(
    pixels: Floats,
    starts: NDArray[np.int64],
    counts: NDArray[np.int64],
    visible: NDArray[np.int64],
    size: tuple[int, int],
) -> NDArray[np.int64]:
    canvas = Image.new("I", (size[1], size[0]), 0)
    polygon = ImageDraw.Draw(canvas).polygon
    flat = np.floor(pixels).ravel().tolist()
    first, last = (2 * starts[visible]).tolist(), (2 * (starts + counts)[visible]).tolist()
    for number, (start, end) in enumerate(zip(first, last, strict=True), 1):
        polygon(flat[start:end], number)
    return np.asarray(canvas).ravel().astype(np.int64)


def _locate(
    faces: FaceTable,
    index: NDArray[np.int64],
    planes: Floats,
    low: Floats,
    high: Floats,
    camera: Camera,
    size: tuple[int, int],
) -> Raster:
    columns, rows = camera.rays(size)
    east, ahead = camera.road_rays(columns)
    inverse = planes[:, 0].take(index).reshape(size)
    inverse *= columns
    slope = planes[:, 1].take(index).reshape(size)
    slope *= rows[:, None]
    inverse += slope
    inverse += planes[:, 2].take(index).reshape(size)
    flat = inverse.ravel()
    # the edge pixels of a face seen from the flank lie outside its corners: its plane must not run away there
    np.maximum(flat, low.take(index), out=flat)
    np.minimum(flat, high.take(index), out=flat)
    depth = np.reciprocal(inverse)
    x = depth * east
    x += np.float32(camera.x)
    y = depth * rows[:, None]
    y += np.float32(camera.height)
    z = depth * ahead
    return Raster(faces, index, depth.ravel(), x.ravel(), y.ravel(), z.ravel(), size)


def draw_shadows(
    placements: list[Placement], sun: tuple[float, float, float], camera: Camera, size: tuple[int, int]
) -> Floats:
    """What the sun does not reach on the ground, (N,) in [0, 1]: every object's outline swept away from the sun."""
    rows = []
    for p in placements:
        if p.shadow:
            x0, x1, z0, z1, high = p.mesh.bounds
            if p.sin:
                x0, x1, z0, z1 = (z0, z1, x0, x1) if abs(p.sin) > 0.9 else (x0, x1, x0 / 2, x1 / 2)
            sx, sy, sz = p.scale
            left, right = sorted((x0 * sx, x1 * sx))
            rows.append((p.x + left, p.x + right, p.z + z0 * sz - 0.15, p.z + z1 * sz + 0.15, p.y + high * sy))
    x0, x1, z0, z1, high = np.array(rows, np.float32).T
    dx, dz = -sun[0] / sun[1] * high, -sun[2] / sun[1] * high
    # the hull of a rectangle and its shifted copy, written for a shift towards +x +z and mirrored into place
    fx, fz = dx < 0, dz < 0
    left, right = np.where(fx, x1, x0), np.where(fx, x0, x1)
    near, far = np.where(fz, z1, z0), np.where(fz, z0, z1)
    hull_x = np.stack([left, right, right + dx, right + dx, left + dx, left], 1)
    hull_z = np.stack([near, near, near + dz, far + dz, far + dz, far], 1)
    hull = np.stack([hull_x, np.zeros_like(hull_x), np.maximum(hull_z, 2.6)], 2).reshape(-1, 3)
    seen = camera.to_camera(hull)
    pixels = camera.project(seen, size).ravel().tolist()
    canvas = Image.new("L", (size[1], size[0]), 0)
    polygon = ImageDraw.Draw(canvas).polygon
    for start in range(0, len(pixels), 12):
        polygon(pixels[start : start + 12], 255)
    return np.asarray(canvas).ravel().astype(np.float32) * np.float32(1 / 255)
