"""Segments of a labelled image: classes of stuff, objects of things, and crowds.

Shape legend: H×W pixels, M segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from queryseg.types import IGNORE


@dataclass(frozen=True)
class LabelledSegments:
    """index_map (H, W) int16: the place of each pixel's segment in the lists, −1 = none
    labels     (M,) int64
    instances  (M,) int64: the number of an object; 0: a class of stuff or, of a thing, a crowd
    """

    index_map: Tensor
    labels: Tensor
    instances: Tensor

    @classmethod
    def of(cls, label_map: Tensor, instance_map: Tensor, things: Iterable[int]) -> LabelledSegments:
        """Every segment that has a pixel, by class, then by number.

        label_map     (H, W) uint8, 255 = ignored
        instance_map  (H, W) int32; looked at on things only
        things        class indices
        """
        is_thing = torch.zeros(256, dtype=torch.bool)
        is_thing[list(things)] = True
        labels = label_map.long()
        instances = instance_map.long() * is_thing[labels]
        base = int(instances.max()) + 1
        keys = labels * base + instances
        # numbers of objects are small, so counting is an order of magnitude faster than sorting (`unique`)
        present = keys.flatten().bincount(minlength=256 * base).nonzero().flatten()
        present = present[present < IGNORE * base]
        table = torch.full((256 * base,), -1, dtype=torch.int16)
        table[present] = torch.arange(len(present), dtype=torch.int16)
        return cls(table[keys], present // base, present % base)

    def crowds(self, things: Iterable[int]) -> Tensor:
        """(M,) bool"""
        return (self.instances == 0) & torch.isin(self.labels, torch.tensor(sorted(things), dtype=torch.int64))

    def where(self, kept: Tensor) -> LabelledSegments:
        """The segments that are kept (M,) bool; the others' pixels belong to none."""
        place = torch.where(kept, kept.cumsum(0) - 1, -1).to(torch.int16)
        table = torch.cat([place, place.new_tensor([-1])])  # −1 stays −1
        return LabelledSegments(table[self.index_map.long()], self.labels[kept], self.instances[kept])
