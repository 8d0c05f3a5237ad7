"""How often an older model finds each class in new images.

Shape legend: K classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from queryseg.data.whole_file import write_whole
from queryseg.errors import CheckpointError

PSEUDO_DISTRIBUTION_FILE = "pseudo_labels.json"
"""Its name in the folder of a run."""


@dataclass(frozen=True)
class PseudoDistribution:
    """counts (K,) int64: pseudo-labels of each class in the training images of a task.

    Source: SimCIS (CVPR 2025) §4.3, Eq. 9; spec §3.
    """

    counts: Tensor

    def weights(self, old_classes: Sequence[int], alpha: float) -> Tensor:
        """(K,) float64: (Σ n / n_c)^α with n = count + 1 for old classes, so that rare ones weigh more; others 0."""
        old = torch.tensor(list(old_classes), dtype=torch.int64)
        smoothed = self.counts[old].double() + 1
        weights = torch.zeros(len(self.counts), dtype=torch.float64)
        weights[old] = (smoothed.sum() / smoothed) ** alpha
        return weights

    def write(self, path: Path, class_names: Sequence[str]) -> None:
        """As JSON, class by class. Raises: InputError if it cannot be written"""
        counts = dict(zip(class_names, self.counts.tolist(), strict=True))
        write_whole(path, lambda part: part.write_text(json.dumps({"pseudo_labels": counts}, indent=1) + "\n"))

    @classmethod
    def read(cls, path: Path, class_names: Sequence[str]) -> PseudoDistribution:
        """Raises: CheckpointError if the file is missing, damaged or of other classes"""
        try:
            counts = json.loads(path.read_text())["pseudo_labels"]
            found = torch.tensor([counts[name] for name in class_names], dtype=torch.int64)
        except FileNotFoundError:
            raise CheckpointError(f"There is no {path}; count the pseudo-labels of this task's images first.") from None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path} does not count pseudo-labels of these classes ({error!r}).") from None
        if bool((found < 0).any()) or len(counts) != len(class_names):
            raise CheckpointError(f"{path} counts other classes than this recipe's {len(class_names)}; count again.")
        return cls(found)
