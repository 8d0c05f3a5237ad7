"""Several runs on several data sets: see docs/evaluation.md."""

from __future__ import annotations

from queryseg.evaluation.matrix.domain_matrix import DomainMatrix

__all__ = ["DomainMatrix"]
