"""Vehicles, two-wheelers and people of one street."""

from __future__ import annotations

import math

from queryseg.data.streets import figures, labels, vehicles
from queryseg.data.streets.city import EARTHS, GREYS, HAIRS, PAINTS, SKINS, dim
from queryseg.data.streets.layout import Street
from queryseg.data.streets.mesh import Colour, Mesh, Placement
from queryseg.data.streets.roadside import GLASSES, KERB, METALS

AWAY, TOWARDS, RIGHT, LEFT = (1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)
"""Headings as (cos, sin) of the yaw."""
CAR_KINDS = ("hatchback", "hatchback", "sedan", "sedan", "suv", "suv", "van")


class Lane:
    """Where the next vehicle of one lane may stand."""

    def __init__(self, x: float, heading: tuple[float, float], start: float) -> None:
        self.x, self.heading, self.free = x, heading, start

    def take(self, length: float, gap: float) -> float:
        """The middle of the next free stretch of `length` after `gap` metres."""
        middle = self.free + gap + length / 2
        self.free = middle + length / 2 + 1.0
        return middle


def populate(street: Street) -> None:
    """Fill in everything that moves, and what it left parked."""
    _drive(street)
    _cross(street)
    _ride(street)
    _walk(street)


def _paint(street: Street) -> Colour:
    dice = street.dice
    return dice.choice(street.city.colours) if dice.chance(0.5) else dice.choice(GREYS + PAINTS)


def _vehicle_palette(street: Street, body: Colour, accent: Colour) -> tuple[Colour, ...]:
    glass = dim(street.dice.choice(GLASSES), 0.85)
    return (
        body, glass, (0.07, 0.07, 0.07), (0.62, 0.08, 0.07), (0.92, 0.90, 0.82), (0.13, 0.13, 0.14), (0.72, 0.72, 0.70),
        accent,
    )  # fmt: skip


def _place(
    street: Street,
    mesh: Mesh,
    label: int,
    x: float,
    z: float,
    heading: tuple[float, float],
    accent: Colour | None = None,
) -> None:
    body = _paint(street)
    palette = _vehicle_palette(street, body, accent or _paint(street))
    size = street.dice.uniform(0.95, 1.06)
    street.objects.append(Placement(mesh, x, 0, z, palette, (label,), *heading, scale=(size, size, size)))


def _drive(street: Street) -> None:
    dice = street.dice
    away, towards = street.lanes
    lanes = [Lane(x, AWAY, 10.0) for x in away] + [Lane(x, TOWARDS, 9.0) for x in towards]
    parking = [Lane(x, AWAY if x > 0 else TOWARDS, 6.0) for x in street.parking]
    big: list[int] = []
    for label, probability in ((labels.BUS, 0.48), (labels.TRUCK, 0.50)):
        if dice.chance(probability):
            big.append(label)
    if len(big) == 2 and dice.chance(0.5):
        big.reverse()
    if street.tram_x is not None and dice.chance(0.75):
        heading = TOWARDS if dice.chance(0.6) else AWAY
        _place(street, vehicles.train(), labels.TRAIN, street.tram_x, dice.uniform(18, 32), heading)
    for label in big:
        lane = dice.choice(lanes + parking)
        rear = lane.heading is AWAY
        if label == labels.BUS:
            mesh, length = vehicles.bus(2 if dice.chance(0.2) else 1), 11.4
        else:
            mesh = vehicles.truck(dice.choice(("box", "container", "tipper")), "rear" if rear else "front")
            length = 8.6
        _place(street, mesh, label, lane.x, lane.take(length, dice.uniform(1.0, 9.0)), lane.heading)
    for lane in lanes:
        while lane.free < 75 and dice.chance(0.75):
            z = lane.take(4.6, dice.uniform(1.5, 15.0))
            _place(
                street,
                vehicles.car(dice.choice(CAR_KINDS)),
                labels.CAR,
                lane.x + dice.uniform(-0.2, 0.2),
                z,
                lane.heading,
            )
    for lane in parking:
        while lane.free < 60:
            z = lane.take(4.8, dice.uniform(0.3, 1.2))
            if dice.chance(0.75) and not street.in_junction(z, 3):
                _place(street, vehicles.car(dice.choice(CAR_KINDS)), labels.CAR, lane.x, z, lane.heading)


def _cross(street: Street) -> None:
    """Traffic on the crossing street, seen from the side."""
    dice = street.dice
    if street.junction is None:
        return
    for heading, offset in ((RIGHT, -2.6), (LEFT, 2.6)):
        if dice.chance(0.7):
            z, x = street.junction + offset, dice.uniform(-11, 13)
            kind = dice.uniform(0, 1)
            if kind < 0.55:
                _place(street, vehicles.car(dice.choice(CAR_KINDS)), labels.CAR, x, z, heading)
            elif kind < 0.75:
                _place(street, vehicles.bus(), labels.BUS, x, z, heading)
            else:
                mesh = vehicles.truck(
                    dice.choice(("box", "container", "tipper")), "rear" if x > street.camera.x else "front"
                )
                _place(street, mesh, labels.TRUCK, x, z, heading)


def _figure_palette(street: Street) -> tuple[Colour, ...]:
    dice = street.dice
    skin, hair = dice.choice(SKINS), dice.choice(HAIRS)
    top, trousers = _paint(street), dice.choice(GREYS + EARTHS + PAINTS)
    ground = dim(street.asphalt, dice.uniform(0.8, 1.05))
    return (
        skin, hair, top, dim(trousers, 0.72), dim(dice.choice(EARTHS), 0.4), _paint(street), _paint(street),
        (0.08, 0.08, 0.08), dice.choice(METALS), (0.75, 0.12, 0.10), ground, _paint(street),
    )  # fmt: skip


def _figure(
    street: Street,
    mesh: Mesh,
    x: float,
    z: float,
    label: tuple[int, ...],
    y: float = 0.0,
    cos: float = 1.0,
    sin: float = 0.0,
) -> None:
    size = street.dice.uniform(0.94, 1.08)
    flip = size if street.dice.chance(0.5) else -size
    street.objects.append(Placement(mesh, x, y, z, _figure_palette(street), label, cos, sin, (flip, size, size)))


def _ride(street: Street) -> None:
    dice = street.dice
    bicycle, motorcycle = (labels.BICYCLE, labels.RIDER), (labels.MOTORCYCLE, labels.RIDER)
    kerb = street.lane * len(street.lanes[0])
    oblique = math.radians(35)
    turned = (math.cos(oblique), math.sin(oblique))
    for label, chance, side_view, rear_view in (
        (bicycle, 0.66, figures.bicycle_side, figures.bicycle_rear),
        (motorcycle, 0.58, figures.motorcycle_side, figures.motorcycle_rear),
    ):
        for _ in range(2):
            if not dice.chance(chance):
                continue
            if dice.chance(0.5):  # crossing, or turning across the road
                x = street.camera.x + dice.uniform(-4.5, 4.0)
                cos, sin = turned if dice.chance(0.3) else AWAY
                _figure(street, side_view(True), x, dice.uniform(7.5, 17), label, cos=cos, sin=sin)
            else:
                x = (kerb - 0.5) if dice.chance(0.6) else -(kerb - 0.8)
                _figure(street, rear_view(True), x, dice.uniform(7, 18), label)
    # parked ones stand on the path, side on, one or several in a row
    for label, chance, mesh in (
        ((labels.BICYCLE, labels.BICYCLE), 0.45, figures.bicycle_side(False)),
        ((labels.MOTORCYCLE, labels.MOTORCYCLE), 0.32, figures.motorcycle_side(False)),
    ):
        if dice.chance(chance):
            side = 1 if dice.chance(0.6) else -1
            edge, front = street.edges[side > 0], street.fronts[side > 0]
            z = dice.uniform(7, 14)
            for n in range(dice.integer(1, 3)):
                if not street.in_junction(z):
                    cos, sin = turned
                    _figure(street, mesh, side * (edge + front) / 2, z + 1.1 * n, label, KERB, cos, sin)


def _walk(street: Street) -> None:
    dice = street.dice
    for _ in range(dice.integer(4, 9)):
        side = 1 if dice.chance(0.58) else -1
        edge, front = street.edges[side > 0], street.fronts[side > 0]
        x, z = side * dice.uniform(edge + 0.5, front - 0.4), dice.uniform(6.5, 24)
        if street.in_junction(z):
            continue
        for n in range(2 if dice.chance(0.3) else 1):
            _figure(
                street, figures.person(dice.choice(figures.POSES)), x + 0.65 * n, z + 0.2 * n, (labels.PERSON,), KERB
            )
    if street.zebra is not None:
        for _ in range(dice.integer(0, 3)):
            x = dice.uniform(-street.edges[0], street.edges[1])
            pose = dice.choice(("walk", "stride", "stride"))
            _figure(street, figures.person(pose), x, street.zebra + dice.uniform(0.4, 2.6), (labels.PERSON,))
