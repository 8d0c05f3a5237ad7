"""Heads of queries that come in stages: each stage names the classes of its own step.

Shape legend: B images, Q queries, K classes, D query width, h×w a map, S stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.decoders.mask_heads import MaskHeads
from queryseg.errors import RecipeError
from queryseg.types import Dims, Prediction, Queries

_NEVER = -1e4
"""Logit of a class that a query does not know; finite, so that products with 0 stay numbers."""


class StagedHeads(MaskHeads):
    """MaskHeads for `StagedQueries`: the class layer's rows of earlier steps' classes, and "no object" from the second
    step on, do not learn; a query of one stage cannot name the classes of another.

    num_queries, added  as in `StagedQueries`
    learned_classes     label ids of every step so far, as the run says; (): all classes in one stage

    Source: ECLIPSE (Kim et al., CVPR 2024) §3.2, a classifier per step; written from the paper alone.
    Deviation: "no object" is the first step's for all stages, without logit manipulation.
    """

    never: Tensor
    learns: Tensor

    def __init__(
        self,
        dims: Dims,
        num_queries: int = 100,
        added: int = 10,
        learned_classes: Sequence[Sequence[int]] = (),
        norm: bool = True,
    ) -> None:
        super().__init__(dims, norm)
        stages = [list(stage) for stage in learned_classes] or [list(range(dims.num_classes))]
        if strange := [label for stage in stages for label in stage if not 0 <= label < dims.num_classes]:
            raise RecipeError(
                f"StagedHeads: learned_classes holds {strange[0]}, but there are {dims.num_classes} classes."
            )
        foreign = torch.ones(len(stages), dims.num_classes + 1, dtype=torch.bool)
        for number, stage in enumerate(stages):
            foreign[number, stage] = False
        foreign[:, -1] = False
        stage_of = [0] * num_queries + [number for number in range(1, len(stages)) for _ in range(added)]
        self.register_buffer("never", foreign[stage_of], persistent=False)  # (Q, K + 1)
        learns = torch.zeros(dims.num_classes + 1, 1, dtype=torch.bool)
        learns[stages[-1]] = True
        learns[-1] = len(stages) == 1
        self.register_buffer("learns", learns, persistent=False)

    def undecayed(self) -> frozenset[str]:
        return frozenset({"class_embed.weight"})  # decay would move the rows that do not learn

    def classify(self, content: Tensor) -> Tensor:
        """The last rows of the table stand for the contents given: all queries, or in training the latest stage's."""
        table, offsets = self.class_embed.weight, self.class_embed.bias
        weight = torch.where(self.learns, table, table.detach())
        bias = torch.where(self.learns[:, 0], offsets, offsets.detach())
        logits = F.linear(self.norm(content), weight, bias)
        return logits.masked_fill(self.never[-content.shape[1] :], _NEVER)

    def forward(self, queries: Queries, mask_features: Tensor) -> Prediction:
        reading, logits = super().forward(queries, mask_features), self.classify(queries.content)
        return replace(reading, class_logits=logits, class_scores=logits.softmax(-1)[..., :-1])
