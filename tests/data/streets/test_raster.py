"""Faces land where the pinhole says, at the depth of their plane."""

from __future__ import annotations

import numpy as np
import pytest

from queryseg.data.streets import furniture, labels
from queryseg.data.streets.camera import Camera
from queryseg.data.streets.mesh import MeshBuilder, Placement
from queryseg.data.streets.raster import Raster, draw_faces, draw_shadows

CAMERA = Camera(focal=1.0, horizon=0.5, height=1.5, x=0.0, yaw=0.0)
SIZE = (64, 128)
GREY = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def drawn(placements: list[Placement], camera: Camera = CAMERA) -> Raster:
    colours = sum(len(p.palette) for p in placements)
    return draw_faces(placements, np.ones((colours, 3), np.float32), camera, SIZE)


def road() -> Placement:
    return Placement(furniture.ground("plain"), -50, 0, 2.6, GREY, (labels.ROAD,), scale=(100, 1, 300))


def wall(z: float) -> Placement:
    return Placement(furniture.block("plain"), -3, 0, z, GREY, (labels.WALL,), scale=(6, 2.5, 1))


@pytest.mark.parametrize("yaw", [0.0, 0.06])
def test_ground_depth_is_exact(yaw: float) -> None:
    camera = Camera(1.0, 0.5, 1.5, 0.7, yaw)
    raster = drawn([road()], camera)
    depth = raster.depth.reshape(SIZE)
    for row in (40, 50, 63):
        assert depth[row, 64] == pytest.approx(1.5 * 128 / (row + 0.5 - 32), rel=1e-4)
    ground = raster.index > 0
    np.testing.assert_allclose(raster.y[ground & (raster.depth < 100)], 0, atol=1e-2)


def test_a_near_wall_hides_a_far_one() -> None:
    raster = drawn([road(), wall(20), wall(10)])
    assert raster.depth.reshape(SIZE)[30, 64] == pytest.approx(10, rel=1e-4)
    assert raster.faces.label[raster.index].reshape(SIZE)[30, 64] == labels.WALL


def test_faces_seen_from_behind_are_not_drawn() -> None:
    mesh = MeshBuilder()
    mesh.face([(1, 0, 0), (0, 0, 0), (0, 1, 0), (1, 1, 0)], 0)
    back = Placement(mesh.build(), 0, 0, 8, GREY, (labels.CAR,))
    assert (drawn([road(), back]).faces.label != labels.CAR).all()


def test_instances_are_counted_per_group() -> None:
    mesh = MeshBuilder()
    for group in (0, 1):
        mesh.flat([(group, 0), (group + 0.8, 0), (group + 0.8, 2), (group, 2)], 0, group=group)
    rider = [Placement(mesh.build(), x, 0, 9, GREY, (labels.BICYCLE, labels.RIDER)) for x in (-3, 1)]
    raster = drawn([road(), *rider])
    seen = {(int(raster.faces.label[f]), int(raster.faces.instance[f])) for f in np.unique(raster.index)}
    assert {(labels.BICYCLE, 1), (labels.RIDER, 2), (labels.BICYCLE, 3), (labels.RIDER, 4), (labels.ROAD, 0)} <= seen


def test_shadows_fall_away_from_the_sun() -> None:
    post = Placement(furniture.block("plain"), -0.5, 0, 12, GREY, (labels.WALL,), scale=(1, 3, 1))
    shadow = draw_shadows([road()._replace(shadow=False), post], (-0.6, 0.8, 0.0), CAMERA, SIZE).reshape(SIZE)
    row = 32 + round(1.5 * 128 / 12.5)
    assert shadow[row, 64 + 12] == 1
    assert shadow[row, 64 - 20] == 0
