"""Procedural driving scenes in perspective, deterministic by (seed, index), in several domains."""

from __future__ import annotations

from queryseg.data.streets.domains import DOMAINS
from queryseg.data.streets.renderer import Scene, render
from queryseg.data.streets.streets import Streets

__all__ = ["DOMAINS", "Scene", "Streets", "render"]
