"""The comparison's scripts lie outside of the package."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("", "generalization", "continual"):
    sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / folder))
