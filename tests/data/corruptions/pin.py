"""Writes what test_registry.py compares with: run it when a definition changes on purpose, and say why in CHANGELOG.md.

python tests/data/corruptions/pin.py
"""

from pathlib import Path

import numpy as np
from small_picture import picture

from queryseg.data.corruptions import CORRUPTIONS, corrupt

if __name__ == "__main__":
    image = picture(48, 64)
    pinned = {f"{name}_{s}": corrupt(image, name, s, "pinned").numpy() for name in CORRUPTIONS for s in (1, 3, 5)}
    np.savez_compressed(Path(__file__).parent / "pinned.npz", image=image.numpy(), **pinned)
