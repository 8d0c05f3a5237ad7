"""Ground, houses, walls, fences, yards, trees and street furniture of one street."""

from __future__ import annotations

from queryseg.data.streets import furniture, labels
from queryseg.data.streets.city import EARTHS, GREYS, PAINTS, dim, mix
from queryseg.data.streets.layout import FAR_EDGE, NEAR_EDGE, Lamps, Street
from queryseg.data.streets.mesh import Colour, Placement

KERB = 0.17
GLASSES: tuple[Colour, ...] = ((0.16, 0.18, 0.21), (0.24, 0.28, 0.33), (0.34, 0.40, 0.46), (0.12, 0.12, 0.13))
METALS: tuple[Colour, ...] = ((0.36, 0.37, 0.38), (0.22, 0.23, 0.24), (0.48, 0.49, 0.49), (0.26, 0.33, 0.28))
SIDES = (-1, 1)


def furnish(street: Street) -> None:
    """Fill in everything that does not move."""
    _lay_ground(street)
    _paint_road(street)
    _backdrop(street)
    for side in SIDES:
        _frontage(street, side)
        _kerbside(street, side)
    _signals(street)


def _flat(
    street: Street,
    x: tuple[float, float],
    z: tuple[float, float],
    label: int,
    material: str,
    *colours: Colour,
    y: float = 0,
) -> None:
    palette = (colours[0], colours[-1])
    scale = (x[1] - x[0], 1.0, z[1] - z[0])
    street.ground.append(
        Placement(furniture.ground(material), x[0], y, z[0], palette, (label,), scale=scale, shadow=False)
    )


def _block(
    target: list[Placement],
    x: tuple[float, float],
    y: tuple[float, float],
    z: tuple[float, float],
    label: int,
    material: str,
    *colours: Colour,
    shadow: bool = True,
) -> None:
    scale = (x[1] - x[0], y[1] - y[0], z[1] - z[0])
    palette = (colours[0], colours[-1])
    target.append(Placement(furniture.block(material), x[0], y[0], z[0], palette, (label,), scale=scale, shadow=shadow))


def _span(side: int, near: float, far: float) -> tuple[float, float]:
    """Distances from the road's middle on one side → x from left to right."""
    return (near, far) if side > 0 else (-far, -near)


def _lawn(street: Street) -> Colour:
    """Grass, from green to worn down to the soil and gravel that paths are made of."""
    return mix(street.dice.choice(street.city.lawns), street.paving, street.dice.uniform(0, 0.75))


def _lay_ground(street: Street) -> None:
    dice = street.dice
    kerb = mix(street.paving, (0.70, 0.70, 0.68), 0.5)
    grass = _lawn(street)
    for side in SIDES:
        lot = street.paving if dice.chance(0.5) else None
        label, material = (labels.SIDEWALK, "paving") if lot else (labels.TERRAIN, "grass")
        _flat(street, _span(side, 0, 90), (NEAR_EDGE, 190), label, material, lot or grass)
    _flat(street, (-street.edges[0], street.edges[1]), (NEAR_EDGE, 190), labels.ROAD, "asphalt", street.asphalt)
    if street.junction is not None:
        _flat(street, (-80, 80), (street.junction - 6, street.junction + 6), labels.ROAD, "asphalt", street.asphalt)
    for i, side in enumerate(SIDES):
        stretches = [(NEAR_EDGE, FAR_EDGE + 20)]
        if street.junction is not None:
            stretches = [(street.junction + 6, FAR_EDGE + 20), (NEAR_EDGE, street.junction - 6)]
        for z in stretches:
            edge, verge, front = street.edges[i], street.verges[i], street.fronts[i]
            x = _span(side, edge, front + 0.4)
            scale = (x[1] - x[0], KERB, z[1] - z[0])
            palette = (street.paving, dim(street.paving, 1.08), kerb)
            slab = furniture.slab("paving")
            street.ground.append(Placement(slab, x[0], 0, z[0], palette, (labels.SIDEWALK,), scale=scale, shadow=False))
            if verge:
                _flat(street, _span(side, edge + 0.35, edge + verge), z, labels.TERRAIN, "grass", grass, y=KERB)


def _paint_road(street: Street) -> None:
    dice, line = street.dice, street.city.line
    start = dice.uniform(0, 6)

    def dashes(x: float, length: float, gap: float, width: float) -> None:
        z = NEAR_EDGE + start
        while z < 70:
            if not street.in_junction(z + length / 2, length / 2):
                _flat(street, (x - width / 2, x + width / 2), (z, z + length), labels.ROAD, "plain", line)
            z += length + gap

    if len(street.lanes[0]) == 2:
        _flat(street, (-0.22, -0.08), (NEAR_EDGE, 110), labels.ROAD, "plain", line)
        _flat(street, (0.08, 0.22), (NEAR_EDGE, 110), labels.ROAD, "plain", line)
        dashes(street.lane, 3, 5, 0.16)
        dashes(-street.lane, 3, 5, 0.16)
    else:
        dashes(0, 3, 4, 0.18)
    border = street.lane * len(street.lanes[0])
    for side in SIDES:
        wide = street.edges[side > 0] > border + 1
        if wide or dice.chance(0.5):
            x = side * (border - (0 if wide else 0.3))
            _flat(street, (x - 0.07, x + 0.07), (NEAR_EDGE, 110), labels.ROAD, "plain", line)
    if street.tram_x is not None:
        bed = mix(street.asphalt, street.paving, 0.5)
        _flat(
            street,
            (street.tram_x - 1.45, street.tram_x + 1.45),
            (NEAR_EDGE, 150),
            labels.ROAD,
            "ballast",
            bed,
            dim(bed, 0.86),
        )
        for x in (street.tram_x - 0.72, street.tram_x + 0.72):
            _flat(street, (x - 0.09, x + 0.09), (NEAR_EDGE, 150), labels.ROAD, "plain", (0.16, 0.15, 0.15))
    if street.zebra is not None:
        x = -street.edges[0] + 0.5
        while x < street.edges[1] - 0.6:
            _flat(street, (x, x + 0.5), (street.zebra, street.zebra + 3), labels.ROAD, "plain", line)
            x += 1.05


def _backdrop(street: Street) -> None:
    dice = street.dice
    woods = dice.chance(0.5)
    x = -110.0
    while x < 110:
        width = dice.uniform(12, 26)
        z = dice.uniform(FAR_EDGE, FAR_EDGE + 25)
        if woods:
            colour = mix(dice.choice(street.city.leaves), (0.5, 0.55, 0.55), 0.2)
            for part in range(3):
                mesh = furniture.tree("round", dice.integer(0, furniture.NUM_TREES - 1))
                palette = (colour, dim(colour, 0.85), colour, dim(colour, 1.15))
                scale = (width / 7, dice.uniform(1.1, 1.8), 1.0)
                at = x + width * (part + 0.5) / 3
                street.houses.append(
                    Placement(mesh, at, -1.5, z, palette, (labels.VEGETATION,), scale=scale, shadow=False)
                )
        else:
            colour = dice.choice(GREYS + EARTHS)
            high = 3.0 * dice.integer(*street.city.storeys) + 3
            material = dice.choice(street.city.facades)
            _block(street.houses, (x, x + width), (0, high), (z, z + 10), labels.BUILDING, material, colour,
                   dice.choice(GLASSES), shadow=False)  # fmt: skip
        x += width


def _house(street: Street, side: int, x: float, z: float, length: float) -> None:
    dice, city = street.dice, street.city
    colour = dice.choice(PAINTS if dice.chance(0.18) else GREYS + EARTHS)
    glass = dice.choice(GLASSES)
    storeys = dice.integer(*city.storeys)
    high = 3.4 + 3.0 * storeys
    depth = 12.0
    span = _span(side, x, x + depth)
    _block(street.houses, span, (0, high), (z, z + length), labels.BUILDING, dice.choice(city.facades), colour, glass)
    if dice.chance(city.roofs):
        tiles = dice.choice(((0.46, 0.26, 0.20), (0.34, 0.32, 0.32), (0.50, 0.36, 0.28)))
        scale = (depth + 0.8, dice.uniform(2.5, 4.5), length)
        at = span[0] - 0.4
        street.houses.append(
            Placement(
                furniture.roof(), at, high, z - 0.001, (tiles, colour), (labels.BUILDING,), scale=scale, shadow=False
            )
        )
    else:
        rim = _span(side, x - 0.35, x + depth)
        _block(street.houses, rim, (high - 0.5, high + 0.3), (z - 0.002, z + length), labels.BUILDING, "render",
               dim(colour, 0.82), shadow=False)  # fmt: skip
    if dice.chance(0.75):
        shop = dice.choice(city.colours) if dice.chance(0.5) else dim(colour, 0.8)
        span = _span(side, x - 0.12, x + depth)
        _block(street.houses, span, (0, 3.7), (z - 0.001, z + length), labels.BUILDING, "shop", shop,
               dice.choice(GLASSES), shadow=False)  # fmt: skip
        # a shop's own signs, in the colours of traffic signs but without their pole
        span = _span(side, x - 0.2, x + depth)
        _block(street.houses, span, (2.9, 3.7), (z - 0.002, z + length), labels.BUILDING, "plain", dice.choice(PAINTS),
               shadow=False)  # fmt: skip
        for _ in range(3):
            at, low = z + dice.uniform(0.1, 0.9) * length, dice.uniform(2.8, 4.0)
            span = _span(side, x - dice.uniform(0.9, 1.5), x)
            _block(street.barriers, span, (low, low + dice.uniform(0.8, 1.6)), (at, at + 0.15), labels.BUILDING,
                   "plain", dice.choice((*PAINTS, *GREYS[3:6])), shadow=False)  # fmt: skip


def _tree(street: Street, target: list[Placement], x: float, z: float, height: float, shape: str | None = None) -> None:
    dice, city = street.dice, street.city
    if shape is None:
        shape = "conifer" if dice.chance(city.conifers) else "tall" if dice.chance(city.tall_trees) else "round"
    leaf = dice.choice(city.leaves)
    bark = mix((0.30, 0.24, 0.19), (0.42, 0.38, 0.34), dice.uniform(0, 1))
    palette = (bark, dim(leaf, 0.74), leaf, dim(leaf, 1.28))
    size = height / (1.4 if shape == "bush" else 8.0)
    mesh = furniture.tree(shape, dice.integer(0, furniture.NUM_TREES - 1))
    flip = 1 if dice.chance(0.5) else -1
    target.append(Placement(mesh, x, 0, z, palette, (labels.VEGETATION,), scale=(flip * size, size, size)))


def _frontage(street: Street, side: int) -> None:
    """What closes the street at the building line, stretch by stretch."""
    dice = street.dice
    front = street.fronts[side > 0]
    z = NEAR_EDGE
    kinds = ("house", "house", "house", "house", "wall", "wall", "fence", "fence", "fence", "park")
    kind = dice.choice(kinds)
    while z < FAR_EDGE:
        length = dice.uniform(*street.city.house_length)
        if street.junction is not None and z < street.junction + 7 and z + length > street.junction - 7:
            if street.junction - 7 - z < 5:
                z = street.junction + 7
                continue
            length = street.junction - 7 - z
        end = z + length
        if kind == "house":
            _house(street, side, front, z, length)
        else:
            _yard(street, side, front, z, end)
            if kind == "wall":
                _wall(street, side, front, z, end)
            elif kind == "fence":
                _fence(street, side, front, z, end)
            elif dice.chance(0.5):
                hedge = dice.choice(street.city.leaves)
                _block(street.barriers, _span(side, front, front + 1.0), (0, dice.uniform(1.0, 1.9)), (z, end),
                       labels.VEGETATION, "leaf", hedge)  # fmt: skip
        z = end
        # long runs of one kind near the camera, so that a wall or a fence is seen at a useful size
        kind = kind if kind in ("wall", "fence") and z < 30 and dice.chance(0.6) else dice.choice(kinds)


def _yard(street: Street, side: int, front: float, z: float, end: float) -> None:
    dice = street.dice
    if dice.chance(0.5):
        _house(street, side, front + dice.uniform(6, 10), z, end - z)
    lawn = _lawn(street)
    _flat(street, _span(side, front + 0.4, front + 45), (z, end), labels.TERRAIN, "grass", lawn)
    for _ in range(dice.integer(1, 3)):
        x = side * (front + dice.uniform(2.0, 7.0))
        _tree(street, street.yards, x, dice.uniform(max(z, 6), max(end, 8)), dice.uniform(5, 10))
    if dice.chance(0.5):
        _tree(
            street,
            street.yards,
            side * (front + 1.6),
            dice.uniform(max(z, 7), max(end, 9)),
            dice.uniform(1.4, 2.4),
            "bush",
        )


def _wall(street: Street, side: int, front: float, z: float, end: float) -> None:
    dice = street.dice
    colour = dice.choice(street.city.colours if dice.chance(0.5) else GREYS + EARTHS)
    high = dice.uniform(2.1, 3.3)
    material = dice.choice(("blocks", "panels", "blocks"))
    _block(
        street.barriers,
        _span(side, front, front + 0.4),
        (0, high),
        (z, end),
        labels.WALL,
        material,
        dim(colour, 0.8),
        colour,
    )
    span = _span(side, front - 0.08, front + 0.48)
    _block(street.barriers, span, (high, high + 0.16), (z, end), labels.WALL, "plain", dim(colour, 1.15), shadow=False)


def _fence(street: Street, side: int, front: float, z: float, end: float) -> None:
    dice = street.dice
    colour = dice.choice(METALS) if dice.chance(0.4) else dice.choice(street.city.colours)
    material = dice.choice(("slats", "slats", "mesh"))
    behind = mix(dim(dice.choice(street.city.colours), 0.7), dice.choice(street.city.leaves), 0.5)
    scale = (0.02, dice.uniform(1.6, 2.6), end - z)
    x = side * front - 0.01
    mesh = furniture.fence(material)
    street.barriers.append(Placement(mesh, x, KERB, z, (colour, behind), (labels.FENCE,), scale=scale))


def _kerbside(street: Street, side: int) -> None:
    """Lamps, signs, masts, bollards and trees between the kerb and the path."""
    dice = street.dice
    edge, verge = street.edges[side > 0], street.verges[side > 0]
    x = side * (edge + 0.55)
    metal = dice.choice(METALS)
    if side > 0 or dice.chance(0.5):  # at least one row: nights need light
        lamps = Lamps(x - side * 1.7, 7.6, dice.uniform(8, 20), dice.uniform(19, 27))
        street.lamps.append(lamps)
        z = lamps.start
        while z < 65:
            palette = (metal, (0.9, 0.86, 0.7))
            street.objects.append(
                Placement(furniture.lamp_post(), x, 0, z, palette, (labels.POLE,), scale=(-side, 1, 1))
            )
            z += lamps.spacing
    if dice.chance(0.2):
        for z in (dice.uniform(9, 15), dice.uniform(30, 38)):
            palette = ((0.40, 0.34, 0.28), metal)
            street.objects.append(Placement(furniture.mast(), x + side * 0.3, 0, z, palette, (labels.POLE,)))
    for _ in range(dice.integer(1, 2)):
        _sign(street, x + side * 0.2, dice.uniform(9.5, 26))
    if dice.chance(0.25):
        z = dice.uniform(7, 12)
        for n in range(5):
            palette = (metal, (0.8, 0.8, 0.78))
            at = z + 2.2 * n
            if not street.in_junction(at):
                street.objects.append(Placement(furniture.bollard(), x - side * 0.2, KERB, at, palette, (labels.POLE,)))
    if dice.chance(0.75 if verge else 0.35):
        z, step = dice.uniform(9, 18), dice.uniform(8, 14)
        height = dice.uniform(5.5, 8.5)
        while z < 90:
            if not street.in_junction(z, 1):
                _tree(street, street.objects, side * (edge + max(verge / 2, 0.9)), z, height * dice.uniform(0.85, 1.15))
            z += step
    if verge and dice.chance(0.4):
        for _ in range(3):
            _tree(
                street, street.objects, side * (edge + verge / 2), dice.uniform(8, 30), dice.uniform(0.8, 1.3), "bush"
            )


def _sign(street: Street, x: float, z: float) -> None:
    dice = street.dice
    if street.in_junction(z):
        return
    kind = "board" if dice.chance(0.07) else dice.choice(furniture.SIGNS)
    white, red, blue, yellow, black = (0.80, 0.80, 0.80), PAINTS[0], PAINTS[1], PAINTS[5], PAINTS[9]
    face, border, symbol = dice.choice(
        ((white, red, black), (blue, white, white), (red, white, white), (yellow, black, black), (white, black, black))
    )
    if kind == "board":
        face, border, symbol = dice.choice(((blue, white, white), (white, black, black), (PAINTS[4], white, white)))
    palette = (dice.choice(METALS), face, border, symbol)
    scale = dice.uniform(0.9, 1.1)
    street.objects.append(
        Placement(
            furniture.sign(kind), x, 0, z, palette, (labels.POLE, labels.TRAFFIC_SIGN), scale=(scale, scale, scale)
        )
    )


def _signals(street: Street) -> None:
    dice = street.dice
    stop = street.zebra if street.zebra is not None else dice.uniform(9, 24) if dice.chance(0.4) else None
    if stop is None:
        return
    lit = dice.integer(0, 2)
    case = dice.choice(((0.10, 0.10, 0.10), (0.16, 0.18, 0.16), (0.32, 0.32, 0.30)))
    lenses = ((0.95, 0.16, 0.12), (0.98, 0.68, 0.10), (0.20, 0.85, 0.45), (0.20, 0.17, 0.16))
    for side in SIDES:
        palette = (dice.choice(METALS), case, *lenses)
        mesh = furniture.traffic_light(lit, hanging=side > 0 and dice.chance(0.6))
        x = side * (street.edges[side > 0] + 0.5)
        street.objects.append(Placement(mesh, x, 0, stop - 0.3, palette, (labels.POLE, labels.TRAFFIC_LIGHT)))
        if dice.chance(0.5) and street.junction is not None:
            far = furniture.traffic_light(lit, hanging=False)
            street.objects.append(
                Placement(far, x, 0, street.junction + 7.5, palette, (labels.POLE, labels.TRAFFIC_LIGHT))
            )
