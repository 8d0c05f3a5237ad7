"""No pixel decoder."""

from __future__ import annotations

from queryseg.contracts import PixelDecoder
from queryseg.types import Dims, Features


class Identity(PixelDecoder):
    """Hands the backbone's features on: queries that join the trunk read pixels after its last block (QPrompt,
    EoMT)."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, features: Features) -> Features:
        return features
