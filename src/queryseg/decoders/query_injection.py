"""Queries inside the trunk's last blocks.

Shape legend: B images, Q queries, D query width = width of the trunk's tokens, h×w the patch grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from queryseg.contracts import Backbone, Decoder, Heads, QuerySource
from queryseg.decoders.mask_heads import MaskHeads
from queryseg.decoders.token_reading import read_tokens
from queryseg.decoders.upsampler import Upsampler
from queryseg.errors import RecipeError
from queryseg.types import Dims, Features, Prediction, Queries, Trunk


class QueryInjection(Decoder):
    """QPrompt: queries are prepended to the tokens before the last block; one full self-attention block over queries,
    class tokens and patches, without masks and without query positions; train and test run the same graph.

    num_blocks  last blocks that queries take part in (paper: 1)
    heads       maker of the class and mask heads; the trunk's final norm comes before them

    Source: QPrompt-R1 §3.2, Eq. 2–3; spec §1.2.
    """

    provides = frozenset({"token_space"})
    reads_once = True
    upsampler_eps = 1e-5

    def __init__(
        self,
        dims: Dims,
        num_blocks: int = 1,
        heads: Callable[[Dims], Heads] = lambda dims: MaskHeads(dims, norm=False, activation="gelu"),
    ) -> None:
        super().__init__()
        check_own_tokens(type(self).__name__, dims)
        if num_blocks < 1:
            raise RecipeError(f"{type(self).__name__}: num_blocks is {num_blocks}, but must be at least 1.")
        self.late_blocks = num_blocks
        self.dims = dims
        self.upsampler = Upsampler(dims.embed, dims.strides[-1], self.upsampler_eps)
        self.heads = heads(dims)

    def read(self, backbone: Backbone, trunk: Trunk, queries: Queries) -> Prediction:
        """What the heads say of a trunk that queries have joined."""
        end = backbone.finish(trunk)
        tokens = end.patches.permute(0, 3, 1, 2)
        return read_tokens(self.heads, self.upsampler, replace(queries, content=end.queries), tokens, self.strip_tokens)

    def forward(
        self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource
    ) -> Sequence[Prediction]:
        trunk = backbone.advance(features.trunk.join(queries.content), backbone.dims.depth)
        return [self.read(backbone, trunk, queries)]

    def contents(self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource) -> Tensor:
        return backbone.finish(backbone.advance(features.trunk.join(queries.content), backbone.dims.depth)).queries


def check_own_tokens(decoder: str, dims: Dims) -> None:
    """Raises: RecipeError if the one feature level is not the trunk's tokens."""
    if len(dims.channels) != 1 or dims.width != dims.embed:
        raise RecipeError(
            f"{decoder} reads the trunk's own tokens, but {len(dims.channels)} feature levels of width "
            f"{dims.channels} arrive; set the backbone's pyramid to 'none' and pixel_decoder to Identity."
        )
