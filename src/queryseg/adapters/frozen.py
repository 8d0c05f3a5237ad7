"""The control: nothing in the trunk learns."""

from __future__ import annotations

from queryseg.contracts import Adapter, Backbone
from queryseg.types import Dims


class Frozen(Adapter):
    """A trunk as it came. Unlike a backbone's own `frozen: true`, its weights are not stored with the run.

    A frozen foundation model with a plain head comes within a point of Rein: every comparison needs this arm.
    """

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.starts_at = dims.depth

    def attach(self, backbone: Backbone) -> None:
        backbone.freeze()

    def merge(self, backbone: Backbone) -> None:
        backbone.adapter = None
