"""The Cityscapes trainIds by name, in the order of `queryseg.data.class_table.CITYSCAPES`."""

from __future__ import annotations

(
    ROAD,
    SIDEWALK,
    BUILDING,
    WALL,
    FENCE,
    POLE,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    VEGETATION,
    TERRAIN,
    SKY,
    PERSON,
    RIDER,
    CAR,
    TRUCK,
    BUS,
    TRAIN,
    MOTORCYCLE,
    BICYCLE,
) = range(19)

FIRST_THING = PERSON
"""Classes from here on are counted: every object gets an instance id."""
