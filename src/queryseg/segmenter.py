"""Composes the parts; `Segmenter.forward` reads like the picture in the documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.contracts import (
    Adapter,
    Backbone,
    Decoder,
    Heads,
    Part,
    PixelDecoder,
    QuerySource,
    Readout,
    check_parts,
)
from queryseg.errors import RecipeError
from queryseg.types import ClassChange, ClassVectors, Dims, Features, Output, Queries, Trunk

Prepare = Callable[[Queries], Queries]


class Segmenter(nn.Module):
    """Image → queries' readings. What training and inference share; holds no loss and no readout of its own."""

    mean: Tensor
    std: Tensor
    if TYPE_CHECKING:

        def __call__(
            self,
            images: Tensor,
            prepare: Prepare | None = None,
            trunk: Trunk | None = None,
            like: Queries | None = None,
        ) -> Output: ...

    def __init__(
        self, backbone: Backbone, pixel_decoder: PixelDecoder, queries: QuerySource, decoder: Decoder, readout: Readout
    ) -> None:
        super().__init__()
        self.backbone, self.pixel_decoder, self.queries, self.decoder = backbone, pixel_decoder, queries, decoder
        self.readout = readout
        self.register_buffer("mean", 255 * torch.tensor(backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(backbone.std).view(3, 1, 1), persistent=False)

    @property
    def heads(self) -> Heads:
        return self.decoder.heads

    @property
    def dims(self) -> Dims:
        return self.decoder.dims

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Size in pixels that masks of an H×W image cover."""
        return self.backbone.canvas(height, width)

    def normalise(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 RGB → float, zero mean and unit variance as the backbone expects, padded to the canvas
        with zeros at the bottom and right."""
        images = (images.to(self.mean.dtype) - self.mean) / self.std
        height, width = images.shape[-2:]
        canvas = self.canvas(height, width)
        if canvas == (height, width):
            return images
        return F.pad(images, (0, canvas[1] - width, 0, canvas[0] - height))

    def forward(
        self, images: Tensor, prepare: Prepare | None = None, trunk: Trunk | None = None, like: Queries | None = None
    ) -> Output:
        """images (B, 3, H, W), from `normalise`. prepare, trunk, like: training only, see Objective, Backbone,
        QuerySource."""
        features = self.encode(images, trunk)
        queries = self.make_queries(features, like)
        return self.decode(features, queries if prepare is None else prepare(queries))

    def encode(self, images: Tensor, trunk: Trunk | None = None) -> Features:
        """Backbone up to where queries join, the source's context, pixel decoder."""
        features = self.backbone(images, self.backbone.dims.depth - self.decoder.late_blocks, trunk)
        features = replace(features, context=self.queries.context(features))
        return self.pixel_decoder(features)

    def make_queries(self, features: Features, like: Queries | None = None) -> Queries:
        """like: see `QuerySource.forward`."""
        return self.queries(features, self.decoder.heads, like)

    def decode(self, features: Features, queries: Queries) -> Output:
        """Queries meet the image; isolated rows are split off."""
        predictions = self.decoder(self.backbone, features, queries, self.queries)
        if not queries.num_isolated:
            return Output(features, queries, predictions)
        n = queries.num_attending
        attending = [p.rows(slice(n)) for p in predictions]
        return Output(features, queries, attending, [p.rows(slice(n, None)) for p in predictions])

    def contents(self, features: Features, queries: Queries) -> Tensor:
        """(B, Q, D) what `decode` ends with in the attending rows, without its masks where the decoder allows it."""
        contents = self.decoder.contents(self.backbone, features, queries, self.queries)
        return contents[:, : queries.num_attending]

    def begin_training(self) -> None:
        """See `Part`; call it before anything asks for parameters."""
        for part in self.parts().values():
            part.begin_training()

    def fold(self, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """weights: a state_dict after `begin_training` → that of a model which predicts, and what only further training
        reads."""
        prefix = "queries."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        kept, aside = ({f"{prefix}{name}": value for name, value in found.items()} for found in self.queries.fold(own))
        return {name: value for name, value in weights.items() if not name.startswith(prefix)} | kept, aside

    def change_classes(self, change: ClassChange) -> None:
        """Predict other classes than those of training; the queries must be texts. Every query then speaks for its own
        class alone, with the score (1 − p(no object)) · σ(mask). Not to be trained any more.

        Source: ours; tqdm (ECCV 2024) has no other classes than those it was trained on. Raises: RecipeError
        """
        for part in (self.queries, self.heads, self.pixel_decoder, self.decoder):
            part.change_classes(change)
        for sized in (self.pixel_decoder, self.decoder):
            sized.dims = replace(sized.dims, class_names=change.names)

    def parts(self) -> dict[str, Part]:
        """role → part, as error messages and `check_parts` name them."""
        parts: dict[str, Part] = {
            "backbone": self.backbone,
            "pixel_decoder": self.pixel_decoder,
            "queries": self.queries,
            "decoder": self.decoder,
            "heads": self.decoder.heads,
            "readout": self.readout,
        }
        return parts if self.backbone.adapter is None else parts | {"adapter": self.backbone.adapter}


@dataclass(frozen=True)
class Parts:
    """What a recipe says about a model: a backbone, and makers of the parts that take their sizes from it.

    class_vectors  "per_class" (tqdm): parts whose queries are texts learn a position per class for texts and queries,
                   and a class layer; "shared": one vector for all classes in each of the three, so that classes differ
                   by their text alone (ours)
    """

    backbone: Backbone
    pixel_decoder: Callable[[Dims], PixelDecoder]
    queries: Callable[[Dims], QuerySource]
    decoder: Callable[[Dims], Decoder]
    readout: Callable[[], Readout]
    adapter: Callable[[Dims], Adapter] | None = None
    class_vectors: ClassVectors = "per_class"


def build_segmenter(class_names: Sequence[str], parts: Parts, initialise: bool = True) -> Segmenter:
    """Sizes flow from left to right: backbone.dims → pixel_decoder.dims → adapter, queries, decoder.

    initialise: False if the weights are loaded afterwards, see `Adapter.initialise`.

    Raises: RecipeError if the parts do not fit together.
    """
    backbone = parts.backbone
    sizes = replace(backbone.dims, class_names=tuple(class_names), class_vectors=parts.class_vectors)
    pixel_decoder = parts.pixel_decoder(sizes)
    dims = pixel_decoder.dims
    if parts.adapter is not None:
        backbone.attach(parts.adapter(dims), initialise)
    model = Segmenter(backbone, pixel_decoder, parts.queries(dims), parts.decoder(dims), parts.readout())
    late, joinable = model.decoder.late_blocks, backbone.dims.joinable
    if late > joinable:
        raise RecipeError(
            f"decoder {type(model.decoder).__name__} lets queries join the last {late} block(s) of the backbone, but "
            f"{type(backbone).__name__} accepts them in its last {joinable}; use a decoder with cross-attention or "
            "another backbone."
        )
    check_parts(model.parts())
    return model
