"""What an exported file says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.protocol import Protocol
from queryseg.errors import CheckpointError, QuerysegError

ExportPrecision = Literal["fp32", "bf16", "fp16", "int8"]
KEY = "queryseg"
"""Under which formats keep the record."""


@dataclass(frozen=True)
class ExportRecord:
    """All that `load_exported` needs beside the graph, and where the file comes from.

    classes        what labels mean
    protocol       how images are shown before they are fitted to `size`
    size           (height, width) in pixels that the graph was made for
    dynamic_batch  any number of images at once, else one
    dynamic_size   any image size whose sides are multiples of `multiple`, else `size` only
    scores         the graph also gives scores (B, K, H, W)
    mean, std      of pixel values in 0…1; already in the graph
    weights        sha256 of the model.safetensors that it was made from
    versions       of queryseg, torch and the format's own library
    parity         result of the gate, and what was pruned before; {} before it ran
    calibration    of int8 and pruning: number of images by where they come from
    multiple       pixels, of (height, width); 1 if `size` is fixed
    segments       {} or, if the graph also gives class logits (B, Q, K or K+1), class scores (B, Q, K) and mask logits
                   (B, Q, h, w): the name and the options of the readout that finds segments in them
    canvas         (height, width) in pixels that masks cover if `size` is fixed; None: the images' own
    """

    format: str
    precision: ExportPrecision
    classes: ClassTable
    protocol: Protocol
    size: tuple[int, int]
    dynamic_batch: bool
    dynamic_size: bool
    scores: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: str
    versions: Mapping[str, str] = field(default_factory=dict)
    parity: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, int] = field(default_factory=dict)
    multiple: tuple[int, int] = (1, 1)
    segments: Mapping[str, Any] = field(default_factory=dict)
    canvas: tuple[int, int] | None = None

    @property
    def output_names(self) -> list[str]:
        names = ["labels", "scores"] if self.scores else ["labels"]
        return [*names, "class_logits", "class_scores", "mask_logits"] if self.segments else names

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**fields, "classes": self.classes.to_json(), "protocol": asdict(self.protocol)}

    def dumps(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_json())

    @classmethod
    def loads(cls, text: str | None, source: object) -> ExportRecord:
        """source: the file, for errors. Raises: CheckpointError if it is no record"""
        if not text:
            raise CheckpointError(f"{source} was not made by `queryseg export`: it has no record; export it again.")
        try:
            content = json.loads(text)
            content |= {
                "classes": class_table(content["classes"]),
                "protocol": Protocol(**content["protocol"]),
                **{name: tuple(content[name]) for name in ("size", "mean", "std", "multiple")},
                "canvas": tuple(content["canvas"]) if content.get("canvas") else None,
            }
            return cls(**content)
        except (ValueError, TypeError, KeyError, QuerysegError) as error:
            raise CheckpointError(
                f"The record of {source} cannot be read ({type(error).__name__}: {error}); export it with this version."
            ) from None
