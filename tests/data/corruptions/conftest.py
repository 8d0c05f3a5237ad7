from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from torch import Tensor

from corruptions.small_picture import picture
from queryseg.data.corruptions.levels import from_levels


@pytest.fixture
def image() -> Tensor:
    return picture(48, 64)


@pytest.fixture
def values(image: Tensor) -> NDArray[np.float32]:
    """The picture as corruptions take it."""
    return from_levels(image.numpy())
