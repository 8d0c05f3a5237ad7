"""Queries inside the trunk's last blocks that look at their own masks while they learn.

Shape legend: B images, Q queries, D query width = width of the trunk's tokens, h×w the patch grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Backbone, Heads, QuerySource
from queryseg.decoders.mask_heads import MaskHeads
from queryseg.decoders.query_injection import QueryInjection
from queryseg.types import Dims, Features, Prediction, Queries


class MaskedInjection(QueryInjection):
    """EoMT: queries join the last `num_blocks` blocks. In training the heads read them before each of these blocks, too
    (num_blocks + 1 supervised readings), and a query's attention to patches is blocked where that reading's mask logit,
    resized to the patch grid, is ≤ 0; all other attention is free. Masks are annealed away block by block, so that
    in eval mode the decoder is QueryInjection: no masks, one reading. EoMT without masks is QueryInjection itself, but
    for the ε of the upsampler's norm.

    num_blocks        last blocks that queries take part in
    power             of the annealing, see `mask_probability`
    open_empty_masks  a query whose mask covers no patch sees all of them. False: it sees none, only queries and class
                      tokens, as in EoMT's own code and in Hugging Face's
    heads             maker of the class and mask heads; the trunk's final norm comes before them

    Source: EoMT (Kerssies et al. 2025, arXiv 2503.19108) §3; QPrompt-R1 spec §2, which opens empty masks. The public
    code does not; otherwise the two are equal (`tests/parity/test_eomt_hugging_face.py`), and without masks always.
    """

    upsampler_eps = 1e-6  # EoMT's, so that its published weights give their own results

    def __init__(
        self,
        dims: Dims,
        num_blocks: int = 4,
        power: float = 0.9,
        open_empty_masks: bool = True,
        heads: Callable[[Dims], Heads] = lambda dims: MaskHeads(dims, norm=False, activation="gelu"),
    ) -> None:
        super().__init__(dims, num_blocks, heads)
        self.power, self.open_empty_masks = power, open_empty_masks
        self.progress = 0.0

    def schedule(self, progress: float) -> None:
        self.progress = progress

    def forward(
        self, backbone: Backbone, features: Features, queries: Queries, source: QuerySource
    ) -> Sequence[Prediction]:
        if not self.training:
            return super().forward(backbone, features, queries, source)
        trunk, predictions = features.trunk.join(queries.content), list[Prediction]()
        for block in range(self.late_blocks):
            predictions.append(self.read(backbone, trunk, queries))
            blocked = self.blocked(predictions[-1].mask_logits, trunk.grid, block)
            trunk = backbone.advance(trunk, trunk.depth + 1, blocked)
        return [*predictions, self.read(backbone, trunk, queries)]

    def blocked(self, mask_logits: Tensor, grid: tuple[int, int], block: int) -> Tensor | None:
        """mask_logits (B, Q, H, W) → (B, Q, h, w) bool, patches that a query must not see in late block `block`,
        counted from 0; None: all see everything. Queries are drawn from the global random state."""
        probability = mask_probability(self.progress, block, self.late_blocks, self.power)
        if probability == 0:
            return None
        hidden = F.interpolate(mask_logits.detach(), grid, mode="bilinear") <= 0
        masked = torch.rand(hidden.shape[:2], device=hidden.device) < probability
        if self.open_empty_masks:
            masked = masked & ~hidden.flatten(2).all(2)
        return hidden & masked[..., None, None]


def mask_probability(progress: float, block: int, num_blocks: int, power: float = 0.9) -> float:
    """Share of (image, query) pairs whose attention is masked in late block `block` = 0 … num_blocks − 1.

    With n = num_blocks + 2 it is 1 until (block + 1) / n of the steps, then (1 − u)^power with u rising from 0 to 1,
    and 0 from (block + 2) / n on. progress: share of the steps taken, in [0, 1].

    Source: EoMT §3 and the configurations of its MIT code: power 0.9 and steps 3317, 6634, 9951, 13268 → 16585 for
    Cityscapes, which are sixths of 107 epochs; likewise for ADE20K (6520 …) and COCO (14782 …).
    """
    u = progress * (num_blocks + 2) - (block + 1)
    share: float = (1 - min(1.0, max(0.0, u))) ** power
    return share
