"""Convolutional and hierarchical networks: four maps of falling resolution, no place for queries.

Shape legend: B images, H×W pixels, C channels of the coarsest map, h×w its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

from timm.layers.drop import DropPath
from timm.layers.format import Format
from torch import Tensor, nn

from queryseg.backbones.swin_blocks import pad_before_shift
from queryseg.backbones.timm_models import build_feature_network, check_family
from queryseg.backbones.weights import WeightReport, hub_errors, match_by_timm
from queryseg.contracts import Adapter, Backbone
from queryseg.errors import RecipeError
from queryseg.ops.layers import LayerNorm2d
from queryseg.types import Dims, Trunk


class PyramidBackbone(Backbone):
    """ResNet, Swin, ConvNeXt and whatever else gives four maps through timm's `features_only`.

    The network is one block: the trunk is the image before it and the coarsest map after it; the levels are the taps.

    name            of a timm model, tag included, e.g. "swin_tiny_patch4_window7_224.ms_in1k"
    pretrained      True: timm's weights from the hub; a path: a local file in a layout that timm can read
    frozen          no gradient for anything that timm made, and batch statistics stay as they are
    drop_path_rate  stochastic depth, linear from 0
    norms           a new LayerNorm on every map, as Swin has it in detection and segmentation
    options         further arguments of the timm model
    """

    weight_report: WeightReport | None

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        frozen: bool = False,
        drop_path_rate: float = 0.0,
        norms: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        options = dict(options or {})
        if drop_path_rate:
            options["drop_path_rate"] = drop_path_rate
        check_family(name, "PyramidBackbone")
        self.weight_report = match_by_timm(name, pretrained, options) if isinstance(pretrained, str) else None
        with hub_errors(name) if pretrained else nullcontext():
            self.net: Any = pad_before_shift(build_feature_network(name, pretrained, options))
        if "drop_path_rate" not in options:
            for module in self.net.modules():
                if isinstance(module, DropPath):
                    module.drop_prob = 0.0  # Swin's default is not 0
        info = self.net.feature_info
        channels, strides = tuple(reversed(info.channels())), tuple(reversed(info.reduction()))
        if len(strides) != 4 or any(coarse != 2 * fine for coarse, fine in pairwise(strides)):
            raise RecipeError(
                f"timm model '{name}' gives maps of strides {strides[::-1]}, but a pyramid needs four that double; use "
                "a ResNet, Swin or ConvNeXt."
            )
        self.norms = nn.ModuleList(LayerNorm2d(c) for c in channels) if norms else None
        self.mean, self.std = tuple(self.net.pretrained_cfg["mean"]), tuple(self.net.pretrained_cfg["std"])
        self.dims = Dims((), channels[0], 1, channels, strides, channels[-1], channels[0])
        if frozen:
            self.freeze()

    def attach(self, adapter: Adapter, initialise: bool = True) -> None:
        raise RecipeError(
            f"adapter {type(adapter).__name__} changes the blocks of a vision transformer, and {type(self).__name__} "
            "has none; leave the adapter out or use a vision transformer."
        )

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        stride = self.dims.strides[0]
        return -(-height // stride) * stride, -(-width // stride) * stride

    def begin(self, images: Tensor) -> Trunk:
        return Trunk(images.flatten(2).transpose(1, 2), (images.shape[-2], images.shape[-1]))

    def block(self, index: int, trunk: Trunk, blocked: Tensor | None) -> Tensor:
        raise AssertionError("advance runs the network, because its grid changes on the way")

    def advance(self, trunk: Trunk, stop: int, blocked: Tensor | None = None) -> Trunk:
        if trunk.depth >= stop:
            return trunk
        assert not trunk.extra, "queries joined a network that has no place for them"
        maps = self.net(trunk.patches.permute(0, 3, 1, 2))
        if getattr(self.net, "output_fmt", Format.NCHW) == Format.NHWC:
            maps = [m.permute(0, 3, 1, 2) for m in maps]
        last = maps[-1]
        return replace(
            trunk, tokens=last.flatten(2).transpose(1, 2), grid=tuple(last.shape[-2:]), depth=1, taps=tuple(maps)
        )

    def finish(self, trunk: Trunk) -> Trunk:
        return trunk

    def levels(self, trunk: Trunk) -> tuple[Tensor, ...]:
        maps = trunk.taps[::-1]
        return maps if self.norms is None else tuple(norm(m) for norm, m in zip(self.norms, maps, strict=True))

    def sections(self) -> Sequence[nn.Module]:
        return [nn.Identity(), self.net]
