"""Class tables: the names, colours and countable classes that label indices stand for."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from queryseg.errors import InputError
from queryseg.spelling import check_keys, did_you_mean
from queryseg.types import IGNORE

Color = tuple[int, int, int]

MAX_CLASSES = IGNORE - 1
"""Label maps are uint8; 255 means ignored and 254 marks unknown values while a file is read."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set; the index of a class is its place in `names`.

    names   unique
    colors  RGB in 0..255, one per class, for pictures only
    things  indices of countable classes (cars, persons); the others are stuff (road, sky)
    """

    name: str
    names: tuple[str, ...]
    colors: tuple[Color, ...]
    things: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise InputError(f"Class table '{self.name}' has {len(self.names)} classes; it needs 1 to {MAX_CLASSES}.")
        if twice := sorted({name for name in self.names if self.names.count(name) > 1}):
            raise InputError(f"Class table '{self.name}' names '{twice[0]}' twice; give every class its own name.")
        if len(self.colors) != len(self.names):
            raise InputError(
                f"Class table '{self.name}' has {len(self.names)} names and {len(self.colors)} colors; give as many."
            )

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The label of a class; InputError with the nearest right name if there is none."""
        if name not in self.names:
            raise InputError(f"Class table '{self.name}' has no class '{name}'.{did_you_mean(name, self.names)}")
        return self.names.index(name)

    def to_json(self) -> dict[str, object]:
        """Plain values, of which `class_table` makes the same table."""
        return {
            "name": self.name,
            "names": list(self.names),
            "colors": [list(color) for color in self.colors],
            "things": [self.names[index] for index in sorted(self.things)],
        }


# (name, id, trainId, colour) of the official evaluation table; 255 = not evaluated.
# Source: cityscapesScripts, helpers/labels.py. The license plate (id -1) never reaches a label file.
_CITYSCAPES_LABELS: tuple[tuple[str, int, int, Color], ...] = (
    ("unlabeled", 0, 255, (0, 0, 0)),
    ("ego vehicle", 1, 255, (0, 0, 0)),
    ("rectification border", 2, 255, (0, 0, 0)),
    ("out of roi", 3, 255, (0, 0, 0)),
    ("static", 4, 255, (0, 0, 0)),
    ("dynamic", 5, 255, (111, 74, 0)),
    ("ground", 6, 255, (81, 0, 81)),
    ("road", 7, 0, (128, 64, 128)),
    ("sidewalk", 8, 1, (244, 35, 232)),
    ("parking", 9, 255, (250, 170, 160)),
    ("rail track", 10, 255, (230, 150, 140)),
    ("building", 11, 2, (70, 70, 70)),
    ("wall", 12, 3, (102, 102, 156)),
    ("fence", 13, 4, (190, 153, 153)),
    ("guard rail", 14, 255, (180, 165, 180)),
    ("bridge", 15, 255, (150, 100, 100)),
    ("tunnel", 16, 255, (150, 120, 90)),
    ("pole", 17, 5, (153, 153, 153)),
    ("polegroup", 18, 255, (153, 153, 153)),
    ("traffic light", 19, 6, (250, 170, 30)),
    ("traffic sign", 20, 7, (220, 220, 0)),
    ("vegetation", 21, 8, (107, 142, 35)),
    ("terrain", 22, 9, (152, 251, 152)),
    ("sky", 23, 10, (70, 130, 180)),
    ("person", 24, 11, (220, 20, 60)),
    ("rider", 25, 12, (255, 0, 0)),
    ("car", 26, 13, (0, 0, 142)),
    ("truck", 27, 14, (0, 0, 70)),
    ("bus", 28, 15, (0, 60, 100)),
    ("caravan", 29, 255, (0, 0, 90)),
    ("trailer", 30, 255, (0, 0, 110)),
    ("train", 31, 16, (0, 80, 100)),
    ("motorcycle", 32, 17, (0, 0, 230)),
    ("bicycle", 33, 18, (119, 11, 32)),
)

CITYSCAPES_ALL = ClassTable(
    "cityscapes_all",
    names=(*(name for name, *_ in _CITYSCAPES_LABELS), "license plate"),
    colors=(*(color for *_, color in _CITYSCAPES_LABELS), (0, 0, 142)),
    things=frozenset(range(24, 34)),
)
"""All labels of Cityscapes in the order of their ids, the license plate (officially -1) last, as GTAV numbers it."""

CITYSCAPES_IDS: Mapping[int, int] = {id_: train_id for _, id_, train_id, _ in _CITYSCAPES_LABELS}
"""Official label id (0..33) → trainId (0..18, or 255 = ignored)."""

_evaluated = [label for label in _CITYSCAPES_LABELS if label[2] != IGNORE]

CITYSCAPES = ClassTable(
    "cityscapes",
    names=tuple(name for name, *_ in _evaluated),
    colors=tuple(color for *_, color in _evaluated),
    things=frozenset(range(11, 19)),
)

CAMVID = ClassTable(
    "camvid",
    names=(
        "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist",
    ),
    colors=(
        (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (0, 0, 192), (128, 128, 0), (192, 128, 128),
        (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
    ),
    things=frozenset({8, 9, 10}),
)  # fmt: skip

_TABLES = {table.name: table for table in (CITYSCAPES, CITYSCAPES_ALL, CAMVID)}
_FOLDER = resources.files("queryseg.data") / "class_tables"


@cache
def table_names() -> tuple[str, ...]:
    """All that `class_table` knows by name."""
    packaged = (entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted({*_TABLES, *packaged}))


@cache
def _packaged(name: str) -> ClassTable:
    content = yaml.load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"), _FastLoader)
    classes = content["classes"]
    return class_table({"name": name, "names": [*classes], "colors": [*classes.values()], "things": content["things"]})


_FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def class_table(source: str | Sequence[str] | Mapping[str, object] | ClassTable) -> ClassTable:
    """A class table from its name, from class names, or from a mapping with `names`, `colors`, `things`.

    Of a mapping only `names` is needed.

    class_table("cityscapes")
    class_table(["road", "car"])                                            # colours are chosen
    class_table({"names": ["road", "car"], "colors": [[128, 64, 128], [0, 0, 142]], "things": ["car"]})
    """
    if isinstance(source, ClassTable):
        return source
    if isinstance(source, str):
        if source not in table_names():
            raise InputError(f"There is no class table '{source}'.{did_you_mean(source, table_names())}")
        return _TABLES[source] if source in _TABLES else _packaged(source)
    if isinstance(source, Sequence):
        return ClassTable("custom", names := _names(source), distinct_colors(len(names)))
    if not isinstance(source, Mapping):
        raise InputError(f"Classes are given as {source!r}; give a table's name, a list of class names, or a mapping.")
    if wrong := check_keys(source, ("name", "names", "colors", "things"), "A class table"):
        raise InputError(wrong)
    if "names" not in source:
        raise InputError("A class table needs 'names', the list of its classes.")
    names = _names(source["names"])
    colors = _colors(source["colors"]) if "colors" in source else distinct_colors(len(names))
    table = ClassTable(str(source.get("name", "custom")), names, colors)
    things = frozenset(table.index(name) for name in _names(source.get("things", ())))
    return ClassTable(table.name, names, colors, things)


def distinct_colors(num_colors: int) -> tuple[Color, ...]:
    """Colours that neighbours in the list do not share: hues by the golden ratio, three levels of brightness."""
    colors = []
    for i in range(num_colors):
        rgb = colorsys.hsv_to_rgb(i * 0.618033988749895 % 1.0, (0.85, 0.55)[i % 2], (0.95, 0.75, 0.5)[i % 3])
        colors.append((round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255)))
    return tuple(colors)


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(name, str) for name in value):
        raise InputError(
            f"Class names are given as {value!r}; give a list of words (quote 'no', 'yes', 'on' and 'off')."
        )
    return tuple(value)


def _colors(value: object) -> tuple[Color, ...]:
    rows = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return tuple(as_color(row) for row in rows)


def as_color(value: object) -> Color:
    """An RGB triple, checked."""
    if isinstance(value, Sequence) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value):
        return (value[0], value[1], value[2])
    raise InputError(f"A color is given as {value!r}; give three whole numbers from 0 to 255, as in [128, 64, 128].")
