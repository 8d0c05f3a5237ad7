"""The loss of per-pixel classification.

Shape legend: B images, K classes, H×W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.objectives.mask_losses import at_least_float32
from queryseg.types import IGNORE, Dims, Output, Target


class PixelCrossEntropy(Objective):
    """Cross-entropy of every labelled pixel, mean over them; logits are resized to the labels; row k stands for
    class k.

    Source: QPrompt-R1 Table 7 ("MLP head"); spec §2.
    """

    requires = frozenset({"class_rows"})

    def __init__(self, dims: Dims, weight: float = 1.0) -> None:
        super().__init__()
        self.weights = {"pixel": weight}

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        labels = torch.stack([target.label_map for target in targets])
        logits = at_least_float32(output.final.mask_logits)
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        total = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        return {"pixel": total / (labels != IGNORE).sum().clamp(min=1)}
