"""Query-based image segmentation that keeps working outside its training domain, in real time.

model = queryseg.load("runs/mine")
result = model.predict("frame.jpg")
result.labels, result.overlay(), result.save("labels.png")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if TYPE_CHECKING:
    from queryseg.loading import load


def __getattr__(name: str) -> Any:
    # `import queryseg` and `queryseg --help` stay instant: torch is imported by the first real use
    if name == "load":
        from queryseg.loading import load

        return load
    raise AttributeError(f"module 'queryseg' has no attribute '{name}'")
