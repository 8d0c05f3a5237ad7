"""Points of many dimensions on two axes.

Shape legend: n points, E dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PrincipalAxes:
    """center (E,), directions (2, E), explained (2,): share of the variance along each."""

    center: Tensor
    directions: Tensor
    explained: Tensor

    def project(self, points: Tensor) -> Tensor:
        """(…, E) → (…, 2) float64"""
        return (points.double() - self.center) @ self.directions.T


def principal_axes(clouds: Sequence[Tensor], positive: Tensor) -> PrincipalAxes:
    """The two directions along which points vary most.

    clouds    each (n, E), E ≥ 2; every cloud weighs the same, however many points it has
    positive  (E,) a point that lies on the positive side of both axes, which decides the signs; where it lies on
              neither side, the largest component of the direction is positive

    Deterministic: eigenvectors of the covariance in float64.
    """
    center = torch.stack([cloud.double().mean(0) for cloud in clouds]).mean(0)
    moved = [cloud.double() - center for cloud in clouds]
    covariance = torch.stack([cloud.T @ cloud / len(cloud) for cloud in moved]).mean(0)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    directions, strongest = vectors[:, -2:].T.flip(0), values[-2:].flip(0).clamp(min=0)
    side = directions @ (positive.double() - center)
    largest = directions.gather(1, directions.abs().argmax(1, keepdim=True))[:, 0]
    directions = torch.where(side.abs() < 1e-6, largest, side).sign()[:, None] * directions
    return PrincipalAxes(center, directions, strongest / values.clamp(min=0).sum().clamp(min=1e-12))
