"""Cityscapes-C's corruptions, computed on the fly or written to disk: see docs/corruptions.md."""

from __future__ import annotations

from queryseg.data.corruptions.corrupted import Corrupted
from queryseg.data.corruptions.registry import CORRUPTIONS, SEVERITIES, corrupt
from queryseg.data.corruptions.specification import parse_corruptions, parse_severities

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corrupted", "corrupt", "parse_corruptions", "parse_severities"]
