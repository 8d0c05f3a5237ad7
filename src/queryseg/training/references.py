"""Frozen models that objectives compare the learning one with.

Shape legend: B images, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from queryseg.errors import RecipeError
from queryseg.segmenter import Segmenter
from queryseg.training.frozen_copy import follow, frozen_copy, own_tensors, restore_copy
from queryseg.types import Features, Joint, Output, Queries, Trunk


class StepReference:
    """What one reference sees in the images of one step; see `contracts.Reference`.

    images (B, 3, H, W) normalised; trunk: the backbone's beginning, if it computed that with the very same parameters.
    """

    def __init__(self, model: Segmenter, images: Tensor, trunk: Trunk | None) -> None:
        self.model, self.images, self.trunk = model, images, trunk
        self._end: Trunk | None = None
        self._encoded: Features | None = None
        # the queries are kept beside the answer: the id of an object that is gone may be given to another one
        self._outputs: dict[int | None, tuple[Queries | None, Output]] = {}

    @property
    def end(self) -> Trunk:
        """The trunk where queries join."""
        if self._end is None:
            backbone = self.model.backbone
            with torch.no_grad():
                trunk = backbone.start(self.images) if self.trunk is None else self.trunk
                self._end = backbone.advance(trunk, backbone.dims.depth - self.model.decoder.late_blocks)
        return self._end

    @property
    @torch.no_grad()
    def joint(self) -> Joint | None:
        return self.model.backbone.joint(self.end)

    @property
    def encoded(self) -> Features:
        """Features behind the pixel decoder."""
        if self._encoded is None:
            with torch.no_grad():
                self._encoded = self.model.encode(self.images, self.end)
        return self._encoded

    @torch.no_grad()
    def contents(self, like: Queries) -> Tensor:
        return self.model.contents(self.encoded, self.model.make_queries(self.encoded, like))

    def output(self, like: Queries | None = None) -> Output:
        key = None if like is None else id(like)
        if key not in self._outputs:
            with torch.no_grad():
                queries = self.model.make_queries(self.encoded, like)
                self._outputs[key] = like, self.model.decode(self.encoded, queries)
        return self._outputs[key][1]


class References:
    """By name: ema and frozen are copies of the model as it is when they are first asked for, which is when
    the stage of their objective begins; previous_task is given.

    decay: of ema, per optimiser step. Source: QPrompt-R1 spec §3 (0.999).
    """

    def __init__(self, live: Segmenter, previous: Segmenter | None = None, decay: float = 0.999) -> None:
        self.live, self.decay = live, decay
        self.given = {} if previous is None else {"previous_task": previous.requires_grad_(False).eval()}
        self.copies: dict[str, Segmenter] = {}

    def at(self, images: Tensor, prefix: Trunk | None) -> Callable[[str], StepReference]:
        """`Step.reference` for these images."""
        made: dict[str, StepReference] = {}

        def reference(name: str) -> StepReference:
            if name not in made:
                model = self._model(name)
                made[name] = StepReference(model, images, prefix if self._shares(model, prefix) else None)
            return made[name]

        return reference

    def update(self) -> None:
        """After the optimiser moved."""
        if "ema" in self.copies:
            follow(self.copies["ema"], self.live, self.decay)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Only what is not shared with the live model, and nothing of what was given."""
        return {name: own_tensors(twin, self.live) for name, twin in self.copies.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]], source: str) -> None:
        """Call after the live model was restored. Raises: CheckpointError"""
        self.copies = {
            name: restore_copy(self.live, own, f"reference '{name}' of {source}") for name, own in state.items()
        }

    def _model(self, name: str) -> Segmenter:
        if name in self.given:
            return self.given[name]
        if name not in ("ema", "frozen"):
            raise RecipeError(f"There is no reference '{name}'; there are ema, frozen and, if given, previous_task.")
        if name not in self.copies:
            self.copies[name] = frozen_copy(self.live)
        return self.copies[name]

    def _shares(self, model: Segmenter, prefix: Trunk | None) -> bool:
        """A trunk's beginning may be reused iff the very same parameters computed it."""
        if prefix is None:
            return False
        mine, theirs = (
            [p for section in m.backbone.sections()[: prefix.depth + 1] for p in section.parameters()]
            for m in (self.live, model)
        )
        return len(mine) == len(theirs) and all(p is q for p, q in zip(mine, theirs, strict=True))


def shared_prefix(model: Segmenter, images: Tensor) -> Trunk | None:
    """The part of the trunk that cannot change, run once for the model and every reference that owns the same weights.

    images (B, 3, H, W) normalised. None if not even the stem is frozen.
    """
    backbone = model.backbone
    depth = min(backbone.num_frozen(), backbone.dims.depth - model.decoder.late_blocks)
    if depth < 0:
        return None
    with torch.no_grad():
        return backbone.advance(backbone.start(images), depth)
