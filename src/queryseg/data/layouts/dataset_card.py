"""What a layout declares about its data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from queryseg.data.layouts.label_source import LabelSource


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """The facts of a data set; messages, `data check` and the documentation are made from them.

    title       what people call the data set
    download    where it comes from and which files of it are needed; the end of a sentence
    splits      split → what stands for `{split}` in patterns
    sources     the ways in which its labels may be stored, the preferred one first
    unlabelled  split → why it cannot be evaluated
    num_images  split → images of the whole download
    native      class table of the samples unless the data file says otherwise
    unverified  what was not confirmed by the data set's own files or by tools that read it, or None
    """

    title: str
    download: str
    splits: Mapping[str, str]
    sources: tuple[LabelSource, ...]
    unlabelled: Mapping[str, str] = field(default_factory=dict)
    num_images: Mapping[str, int] = field(default_factory=dict)
    native: str = "cityscapes"
    unverified: str | None = None
