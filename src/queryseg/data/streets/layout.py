"""Draws the plan of one street: camera, sun, lamps, and every object in the order in which a painter needs them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from queryseg.data.streets.camera import Camera
from queryseg.data.streets.city import City, mix
from queryseg.data.streets.dice import Dice
from queryseg.data.streets.mesh import Colour, Placement

NEAR_EDGE = 2.6
"""Metres ahead of the camera where ground and walls begin; anything nearer lies below or beside the image."""
FAR_EDGE = 130.0
"""Metres ahead where the street ends in a backdrop."""


@dataclass(frozen=True)
class Lamps:
    """A row of street lamps: x, height, and z = start + n · spacing, metres."""

    x: float
    height: float
    start: float
    spacing: float


@dataclass
class Street:
    """Everything decided about one street; roadside and traffic fill in the objects.

    edges     distance of the kerb from the road's middle, left and right, metres
    fronts    distance of the building line, left and right
    verges    width of the grass strip behind the kerb, left and right (0 = none)
    lanes     x of the lanes: heading away, heading towards us
    parking   x of the parking strips, empty if there are none
    tram_x    x of the tram track, None without
    junction  z of the middle of a crossing street, None without; zebra: z where a zebra crossing begins, None without
    sun       unit vector towards the sun
    ground, houses, yards, barriers, objects   placements; each list is drawn after the one before it
    """

    city: City
    dice: Dice
    camera: Camera
    sun: tuple[float, float, float]
    lane: float
    edges: tuple[float, float]
    fronts: tuple[float, float]
    verges: tuple[float, float]
    lanes: tuple[tuple[float, ...], tuple[float, ...]]
    parking: tuple[float, ...]
    tram_x: float | None
    junction: float | None
    zebra: float | None
    asphalt: Colour
    paving: Colour
    ground: list[Placement] = field(default_factory=list)
    houses: list[Placement] = field(default_factory=list)
    yards: list[Placement] = field(default_factory=list)
    barriers: list[Placement] = field(default_factory=list)
    objects: list[Placement] = field(default_factory=list)
    lamps: list[Lamps] = field(default_factory=list)

    @classmethod
    def draw(cls, city: City, dice: Dice) -> Street:
        """The plan without its objects."""
        lane = dice.uniform(*city.lane)
        per_direction = 2 if dice.chance(0.12) else 1
        half = lane * per_direction
        tram = dice.choice((-1, -1, 1, 0, 0))  # which side its track lies on, 0 = none
        strips = [2.2 if dice.chance(0.15 if side == tram else 0.35) else 0.0 for side in (-1, 1)]
        edges = [half + strip + (3.3 if side == tram else 0.0) for side, strip in zip((-1, 1), strips, strict=True)]
        away = tuple(lane * (i + 0.5) for i in range(per_direction))
        towards = tuple(-x for x in away)
        tram_x = tram * (half + strips[tram > 0] + 1.65) if tram else None
        parking = tuple(side * (half + 1.1) for side, strip in zip((-1, 1), strips, strict=True) if strip)
        verges, fronts = [], []
        for edge in edges:
            verge = dice.uniform(1.6, 3.4) if dice.chance(0.50) else 0.0
            verges.append(verge)
            fronts.append(edge + verge + dice.uniform(*city.sidewalk))
        junction = dice.uniform(22, 42) if dice.chance(0.5) else None
        if junction is not None:
            zebra = junction - 9.5 if dice.chance(0.8) else None
        else:
            zebra = dice.uniform(8, 20) if dice.chance(0.35) else None
        camera = Camera(
            focal=dice.uniform(*city.focal),
            horizon=dice.uniform(*city.horizon),
            height=dice.uniform(*city.camera_height),
            x=away[0] + dice.uniform(-0.4, 0.4),
            yaw=math.radians(dice.uniform(-4.5, 3.5)),
        )
        # sides of the sky in whole numbers: a right triangle spares the scene trigonometry
        east, ahead, up = dice.uniform(-1, 1), dice.uniform(-0.7, 1), dice.uniform(0.7, 1.5)
        length = math.sqrt(east * east + ahead * ahead + up * up)
        return cls(
            city=city,
            dice=dice,
            camera=camera,
            sun=(east / length, up / length, ahead / length),
            lane=lane,
            edges=(edges[0], edges[1]),
            fronts=(fronts[0], fronts[1]),
            verges=(verges[0], verges[1]),
            lanes=(away, towards),
            parking=parking,
            tram_x=tram_x,
            junction=junction,
            zebra=zebra,
            asphalt=mix(*city.asphalt, dice.uniform(0, 1)),
            paving=mix(mix(*city.paving, dice.uniform(0, 1)), dice.choice(city.colours), dice.uniform(0, 0.2)),
        )

    def in_junction(self, z: float, margin: float = 0.0) -> bool:
        return self.junction is not None and abs(z - self.junction) < 6.0 + margin

    def wear(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Sun and dirt: factors (colours, 3) for the palettes of `painted()`.

        No two things that came in one colour keep it, so that a class cannot be told by a colour of its own. The ground
        keeps its colours, because its pieces join.
        """
        fixed = sum(len(p.palette) for p in self.ground)
        worn = sum(len(p.palette) for kind in (self.houses, self.yards, self.barriers, self.objects) for p in kind)
        factors = rng.random((worn, 4), dtype=np.float32)
        factors = (0.72 + 0.52 * factors[:, :1]) * (0.90 + 0.20 * factors[:, 1:])
        return np.concatenate([np.ones((fixed, 3), np.float32), factors])

    def painted(self) -> list[Placement]:
        """All placements, first to last brush stroke."""
        self.houses.sort(key=lambda p: -p.z)
        self.yards.sort(key=lambda p: -p.z)
        return [*self.ground, *self.houses, *self.yards, *self.barriers, *_back_to_front(self.objects, self.camera.x)]


def _back_to_front(objects: list[Placement], eye: float) -> list[Placement]:
    """Order by the nearest point, except that what stands between us and the flank of a long vehicle comes after it."""
    boxes: list[tuple[float, float, float, float, Placement]] = []
    for p in objects:
        x0, x1, z0, z1, _ = p.mesh.bounds
        if p.sin:
            x0, x1, z0, z1 = z0, z1, x0, x1
        elif p.cos < 0:
            z0, z1 = -z1, -z0
        sx, _, sz = p.scale
        boxes.append((p.z + z0 * sz, p.z + z1 * sz, p.x + x0 * sx, p.x + x1 * sx, p))
    long = [box for box in boxes if box[1] - box[0] > 3.5]
    order: list[tuple[float, float, int, Placement]] = []
    for number, (near, _, left, right, p) in enumerate(boxes):
        key, x = near, (left + right) / 2
        for long_near, long_far, long_left, long_right, other in long:
            inside = (long_left > eye and x < long_left) or (long_right < eye and x > long_right)
            if other is not p and long_near < near < long_far and inside:
                key = min(key, long_near - 0.01)
        order.append((-key, -near, number, p))
    order.sort(key=lambda entry: entry[:3])
    return [entry[3] for entry in order]
