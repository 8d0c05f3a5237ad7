"""A pinhole camera above the road; lens shift instead of pitch keeps vertical lines vertical.

Shape legend: P points, H×W pixels. Road axes: x right of the road's middle, y up, z along the road; camera axes:
x right, y up, z along the view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAREST = 0.3
"""Metres: points nearer than this, or behind the camera, are projected as if at this distance."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics in image widths and heights, so that one camera serves any size.

    focal    focal length / image width
    horizon  row of the horizon / image height
    height   metres above the road
    x        metres right of the road's middle
    yaw      radians to the right of the road's direction
    """

    focal: float
    horizon: float
    height: float
    x: float
    yaw: float

    def to_camera(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Road points (P, 3) → camera points (P, 3)."""
        cos, sin = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw))
        x, z = points[:, 0] - np.float32(self.x), points[:, 2]
        return np.stack([cos * x - sin * z, points[:, 1] - np.float32(self.height), sin * x + cos * z], 1)

    def project(self, points: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        """Camera points (P, 3) → pixel columns and rows (P, 2), bounded so that they fit any canvas."""
        height, width = size
        scale = np.float32(self.focal * width) / np.maximum(points[:, 2], np.float32(NEAREST))
        column = np.float32(width / 2) + points[:, 0] * scale
        row = np.float32(height * self.horizon) - points[:, 1] * scale
        return np.clip(np.stack([column, row], 1), -16000, 16000)

    def rays(self, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Slopes of the viewing rays in camera axes: x per column (W,), y per row (H,); z is 1."""
        height, width = size
        columns = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / (self.focal * width)
        rows = (height * self.horizon - np.arange(height, dtype=np.float32) - 0.5) / (self.focal * width)
        return columns.astype(np.float32), rows.astype(np.float32)

    def road_rays(self, columns: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Column slopes (W,) → x and z components of the rays in road axes, each (W,)."""
        cos, sin = np.float32(np.cos(self.yaw)), np.float32(np.sin(self.yaw))
        return cos * columns + sin, cos - sin * columns
