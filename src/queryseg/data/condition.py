"""Under which condition an image was taken, where a data set scores conditions apart."""

from __future__ import annotations

from collections.abc import Mapping

CONDITIONS: Mapping[str, tuple[str, ...]] = {"acdc": ("fog", "night", "rain", "snow")}
"""Layout → its conditions, which are the first folder of its samples' names."""


def condition_of(layout: str | None, sample: str) -> str | None:
    """Of a sample, by its name: "fog/GOPR0476/…" of ACDC → "fog"; None where the layout knows no conditions.

    Only what the data file calls its layout decides: names of other data sets may begin with "fog/", too.
    """
    first, slash, _ = sample.partition("/")
    return first if slash and first in CONDITIONS.get(layout or "", ()) else None
