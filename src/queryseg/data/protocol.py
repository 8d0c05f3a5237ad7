"""How a test image is shown to a model: its size, whole or in windows, in how many views; and at which size labels are
compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from queryseg.errors import RecipeError
from queryseg.spelling import did_you_mean


@dataclass(frozen=True)
class Protocol:
    """Test protocol, printed beside every score because papers differ in it.

    short_side       resize the image, keeping its ratio, so that its short side has so many pixels; None: native size
    window           side (pixels) of square sliding windows; None: the whole image in one forward pass
    stride           of the windows; overlapping scores are averaged
    fit              (width, height): resize the image, keeping its ratio, to the largest size whose long side is not
                     above the larger and whose short side is not above the smaller of the two; instead of `short_side`
    label_reduction  scores are compared at 1/n of the label's native size, which is reduced to its nearest pixels
    flip             show the image mirrored as well, and average the scores
    scales           show the image at each of these multiples of its size, and average the scores
    name             of the preset that it is

    Source: protocols.md §6 (512/341 is the field's window; `fit` is mmsegmentation's Resize with keep_ratio).
    """

    short_side: int | None = None
    window: int | None = None
    stride: int = 341
    fit: tuple[int, int] | None = None
    label_reduction: int = 1
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    name: str = ""

    def __post_init__(self) -> None:
        # records in JSON and YAML give lists
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        if self.fit is not None:
            object.__setattr__(self, "fit", tuple(self.fit))
        if self.short_side is not None and self.short_side < 1:
            raise RecipeError(f"short_side is {self.short_side}, but an image side has at least 1 pixel.")
        if self.window is not None and not 0 < self.stride <= self.window:
            raise RecipeError(
                f"Sliding windows of {self.window} pixels cannot move by {self.stride}: choose a stride between 1 and "
                "the window, or pixels stay unseen."
            )
        if self.fit is not None and (len(self.fit) != 2 or min(self.fit) < 1 or self.short_side is not None):
            raise RecipeError(
                f"fit is {self.fit} and short_side {self.short_side}: give either a short side, or width and height "
                "(two numbers of at least 1) to fit into."
            )
        if self.label_reduction < 1:
            raise RecipeError(f"label_reduction is {self.label_reduction}; give 1 for native size, 2 for half of it.")
        if not self.scales or len(set(self.scales)) < len(self.scales) or min(self.scales) <= 0:
            raise RecipeError(f"scales are {list(self.scales)}; give at least one number above 0, none twice.")

    @property
    def views(self) -> tuple[tuple[float, bool], ...]:
        """(scale, mirrored) of every forward pass over the image."""
        return tuple(
            (scale, mirrored) for scale in self.scales for mirrored in ((False, True) if self.flip else (False,))
        )

    @property
    def has_one_view(self) -> bool:
        """The image is shown once, as it is: no test-time augmentation."""
        return self.views == ((1.0, False),)

    def __str__(self) -> str:
        size = "native size" if self.short_side is None else f"short side {self.short_side}"
        if self.fit is not None:
            size = f"fit {self.fit[0]}×{self.fit[1]}"
        parts = [size, "whole image" if self.window is None else f"windows {self.window}/{self.stride}"]
        if self.label_reduction > 1:
            parts.append("labels at half size" if self.label_reduction == 2 else f"labels at 1/{self.label_reduction}")
        elif self.name:
            parts.append("labels at native size")
        if self.scales != (1.0,):
            parts.append(f"scales {', '.join(f'{scale:g}' for scale in self.scales)}")
        if self.flip:
            parts.append("flip")
        return (f"{self.name}: " if self.name else "") + ", ".join(parts)


@dataclass(frozen=True)
class ProtocolPreset:
    """A protocol of the field, which may differ from data set to data set.

    other    of data sets without a rule of their own
    layouts  name of a layout (a data file's `layout`) → its protocol. The layout is what the user says that the data
             are; paths and names are not looked at.
    """

    name: str
    other: Protocol
    layouts: Mapping[str, Protocol] = field(default_factory=dict)

    def protocol(self, layout: str | None) -> Protocol:
        """What holds for a data set of this layout (None: of none, e.g. made in memory)."""
        return replace(self.layouts.get(layout or "", self.other), name=self.name)

    def in_views(self, flip: bool, scales: tuple[float, ...]) -> ProtocolPreset:
        """The same with test-time augmentation."""
        layouts = {layout: replace(one, flip=flip, scales=scales) for layout, one in self.layouts.items()}
        return ProtocolPreset(self.name, replace(self.other, flip=flip, scales=scales), layouts)

    def __str__(self) -> str:
        return self.name


def protocol_of(protocol: Protocol | ProtocolPreset, layout: str | None) -> Protocol:
    """What holds for a data set of this layout."""
    return protocol.protocol(layout) if isinstance(protocol, ProtocolPreset) else protocol


def _windows(width: int, height: int, label_reduction: int = 1) -> Protocol:
    return Protocol(window=512, stride=341, fit=(width, height), label_reduction=label_reduction)


def _like_acdc_and_bdd(cityscapes: Protocol, mapillary: Protocol) -> dict[str, Protocol]:
    return {
        "cityscapes": cityscapes,
        "cityscapes_c": cityscapes,
        "mapillary": mapillary,
        "bdd100k": _windows(1280, 720),
        "acdc": _windows(960, 540),
    }


PRESETS: dict[str, ProtocolPreset] = {
    preset.name: preset
    for preset in (
        ProtocolPreset(
            "rein-512", _windows(1024, 512), _like_acdc_and_bdd(_windows(1024, 512), _windows(1024, 512, 2))
        ),
        ProtocolPreset(
            "full-res", _windows(2048, 1024), _like_acdc_and_bdd(_windows(2048, 1024), _windows(2048, 1024))
        ),
        ProtocolPreset(
            "full-res-half-labels",
            _windows(2048, 1024),
            _like_acdc_and_bdd(_windows(2048, 1024), _windows(2048, 1024, 2)),
        ),
        ProtocolPreset("paper", Protocol(short_side=512)),
    )
}
"""rein-512              Rein: windows 512/341 on images of 1024×512; Mapillary Vistas' image and label at half size
full-res              MFuser, tqdm: the same windows on 2048×1024, Mapillary's labels at native size
full-res-half-labels  SoMA: likewise, but Mapillary's labels at half size
paper                 QPrompt-R1: short side 512, the whole image

BDD100K is 1280×720 and ACDC 960×540 in all but `paper`. Source: protocols.md §6. Deviation: where Mapillary's image
is halved before it is fitted, ours is resized once. Data sets without a rule are shown as Cityscapes is.
"""


def find_preset(name: str) -> ProtocolPreset:
    """Raises: RecipeError with the nearest right name"""
    if name not in PRESETS:
        raise RecipeError(f"There is no protocol '{name}'.{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
