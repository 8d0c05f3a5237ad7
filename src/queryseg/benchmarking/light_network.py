"""Fast backbones of timm under the lightest head that gives dense labels.

Shape legend: B images, C channels of one map, K classes, h×w the finest map, H×W pixels of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.backbones.timm_models import build_feature_network
from queryseg.benchmarking.candidate import (
    Frames,
    Labels,
    Stage,
    TorchCandidate,
    Work,
    num_parameters,
    on_host,
    show_frames,
)
from queryseg.benchmarking.workload import Workload
from queryseg.data.class_table import ClassTable
from queryseg.inference.precision import InferencePrecision


class LightHead(nn.Module):
    """A 1×1 convolution to K classes on every map, resized to the finest and added (as in FCN). No head costs less and
    still reads all four maps; what is measured is the backbone's speed in dense prediction, not an accuracy.

    Source: FCN (Long et al. 2015) §4.2, without its learned upsampling.
    """

    def __init__(self, channels: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """maps fine → coarse, each (B, C, h', w') → logits (B, K, h, w)"""
        logits = [classify(one) for classify, one in zip(self.classifiers, maps, strict=True)]
        size = logits[0].shape[2:]
        coarse = [F.interpolate(one, size, mode="bilinear", align_corners=False) for one in logits[1:]]
        return torch.stack([logits[0], *coarse]).sum(0)


class LightNetwork(TorchCandidate):
    """A timm network with four maps under `LightHead`; random weights."""

    def __init__(
        self,
        architecture: str,
        classes: ClassTable,
        device: torch.device,
        precision: InferencePrecision = "fp32",
        compiled: bool = False,
    ) -> None:
        trunk: Any = build_feature_network(architecture, False, {})
        head = LightHead(trunk.feature_info.channels(), len(classes))
        super().__init__(
            f"timm:{architecture}", nn.ModuleDict({"trunk": trunk, "head": head}), device, precision, compiled
        )
        self.trunk, self.head, self.classes = trunk, head, classes
        mean, std = (torch.tensor(trunk.pretrained_cfg[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
        self.mean, self.std = 255 * mean, 255 * std
        self.description = f"timm {architecture} with a 1×1 convolution per map, random weights"
        self.includes = (
            "resize and copy to the device, normalise, network, bilinear to the frame, arg max, copy of labels"
        )

    def work(self, workload: Workload) -> Work:
        trunk, head = self.trunk, self.head

        def normalised(frames: Frames) -> Tensor:
            return (show_frames(frames, workload, self.device) - self.mean) / self.std

        def labels(logits: Tensor) -> Tensor:
            scores = F.interpolate(logits, workload.frame_size, mode="bilinear", align_corners=False)
            return scores.argmax(1).byte()

        def whole(images: Tensor) -> Tensor:
            return labels(head(trunk((images - self.mean) / self.std)))

        graph = self.maybe_compiled(whole)

        def infer(frames: Frames) -> Labels:
            return on_host(graph(show_frames(frames, workload, self.device)))

        stages = (
            Stage("preprocess", normalised),
            Stage("backbone", trunk, num_parameters(trunk)),
            Stage("head", head, num_parameters(head)),
            Stage("readout", lambda logits: on_host(labels(logits))),
        )
        return Work(infer, stages)
