"""Models of this package, and the bare backbone that they are compared with.

Shape legend: B images, H×W pixels of a frame, h×w as shown to the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from queryseg.backbones.convolutional_stem import ConvolutionalStem
from queryseg.backbones.timm_models import build_feature_network, build_model, family_of
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
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.engine import CompiledEngine, Engine, Size, in_full_precision
from queryseg.inference.precision import InferencePrecision, half_precision
from queryseg.inference.predictor import Predictor
from queryseg.segmenter import Segmenter
from queryseg.types import Prediction, Trunk


class SegmenterCandidate(TorchCandidate):
    """A segmenter as `Predictor` runs it on whole images.

    recipe  resolved or not; what the bare backbone and the ladder are made from
    """

    def __init__(
        self,
        name: str,
        model: Segmenter,
        classes: ClassTable,
        recipe: Mapping[str, Any],
        device: torch.device,
        precision: InferencePrecision = "fp32",
        compiled: bool = False,
        description: str = "",
    ) -> None:
        self.predictor = Predictor(model, classes, Protocol(), device, precision, compiled)
        super().__init__(name, self.model, device, precision, compiled)
        self.classes, self.recipe = classes, recipe
        parts = " + ".join(type(part).__name__ for role, part in self.model.parts().items() if role != "heads")
        self.description = f"{description}: {parts}" if description else parts
        self.includes = "resize and copy to the device, normalise, network, readout, copy of uint8 labels to the host"
        late = self.model.decoder.late_blocks
        if late:
            depth = self.model.backbone.dims.depth
            self.includes += f"; backbone is {depth - late} of {depth} blocks, the rest runs with the queries in head"

    @property
    def plain(self) -> Engine:
        """The predictor's engine, not compiled."""
        engine = self.predictor.engine
        return engine.engine if isinstance(engine, CompiledEngine) else cast(Engine, engine)

    @property
    def model(self) -> Segmenter:
        """As the predictor runs it."""
        return self.plain.model

    @contextmanager
    def context(self) -> Iterator[None]:
        """As `Predictor` sets it; half precision ends before the readout."""
        with self.predictor.arithmetic():
            yield

    def work(self, workload: Workload) -> Work:
        model, size, frame = self.model, workload.size, workload.frame_size
        covered = self.plain.covered(size, frame)
        engine = self.predictor.engine
        backbone = model.backbone
        stop = backbone.dims.depth - model.decoder.late_blocks
        before = num_parameters(*backbone.sections()[: stop + 1])

        def infer(frames: Frames) -> Labels:
            return on_host(engine(show_frames(frames, workload, self.device), frame))

        def trunk(images: Tensor) -> tuple[Tensor, Trunk]:
            start = backbone.start(images)
            with half_precision(self.precision, self.device):
                return images, backbone.advance(start, stop)

        def head(state: tuple[Tensor, Trunk]) -> Prediction:
            with half_precision(self.precision, self.device):
                features = model.encode(*state)  # the trunk has run; levels, context and pixel decoder are left
                return in_full_precision(model.decode(features, model.make_queries(features)).final)

        stages = (
            Stage("preprocess", lambda frames: model.normalise(show_frames(frames, workload, self.device))),
            Stage("backbone", trunk, before),
            Stage("head", head, num_parameters(model) - before),
            Stage("readout", lambda final: on_host(model.readout.labels(final, covered, frame))),
        )
        return Work(infer, stages)


class BareBackbone(TorchCandidate):
    """timm's own model of a candidate's backbone with random weights: `forward_features` (of pyramids the four maps) on
    a normalised image at the canvas' size that is already on the device. Its position table is made for that size.
    """

    def __init__(self, of: SegmenterCandidate, size: Size) -> None:
        self.of = of
        self._networks: dict[Size, nn.Module] = {}
        network = self._network(self._canvas(size))
        super().__init__("bare", network, of.device, of.precision, of.compiled)
        self.classes = None
        self.description = f"bare backbone of {of.name}: {backbone_name(of)} in timm"
        self.includes = (
            "forward_features alone, on a normalised image that is on the device already; no copy, no labels"
        )

    def work(self, workload: Workload) -> Work:
        canvas = self._canvas(workload.size)
        network: Any = self._network(canvas).to(self.device).eval()
        forward = getattr(network, "forward_features", network)
        image = torch.randn(workload.batch, 3, *canvas, device=self.device)
        infer = self.maybe_compiled(forward)
        return Work(
            lambda frames: infer(image), (Stage("backbone", lambda frames: forward(image), num_parameters(network)),)
        )

    def _canvas(self, size: Size) -> Size:
        """What the trunk sees; backbones that cut a remainder away do so after the canvas was made."""
        height, width = self.of.model.canvas(*size)
        patch = getattr(self.of.model.backbone, "patch", 1)
        return height // patch * patch, width // patch * patch

    def _network(self, canvas: Size) -> nn.Module:
        """Networks of several sizes share their weights; only the position tables are their own."""
        if canvas not in self._networks:
            network = bare_network(self.of.recipe, canvas)
            if self._networks:
                first = next(iter(self._networks.values())).state_dict()
                own = network.state_dict()
                same = {name: value for name, value in first.items() if own[name].shape == value.shape}
                network.load_state_dict(same, strict=False, assign=True)
            self._networks[canvas] = network
        return self._networks[canvas]


def bare_network(recipe: Mapping[str, Any], canvas: Size) -> nn.Module:
    """The timm network that a recipe's backbone drives, untouched. Raises: InputError if it is none of timm's"""
    backbone = recipe["model"]["backbone"]
    path = backbone if isinstance(backbone, str) else backbone["class_path"]
    arguments = {} if isinstance(backbone, str) else dict(backbone.get("init_args") or {})
    if not path.startswith("queryseg.backbones.") or "name" not in arguments:
        raise InputError(f"There is no bare backbone of {path}, which is not one of timm's; leave 'bare' out.")
    name, options = arguments["name"], dict(arguments.get("options") or {})
    family = family_of(name)
    if family == "PyramidBackbone":
        pyramid: nn.Module = build_feature_network(name, False, options)
        return pyramid
    convolution = arguments.get("stem") == "convolution"
    if convolution:
        options["embed_layer"] = ConvolutionalStem
    network: Any = build_model(name, family, arguments.get("patch_size"), canvas, "pad", {"num_classes": 0, **options})
    if convolution:  # it gives maps, which timm flattens only where it also resamples its position table
        network.patch_embed = nn.Sequential(network.patch_embed, nn.Flatten(1, 2))
    if family == "SamViT":
        network.neck = nn.Identity()  # its head in Segment Anything, not part of the trunk
    bare: nn.Module = network
    return bare


def backbone_name(of: SegmenterCandidate) -> str:
    """timm's name of a candidate's backbone, or its class."""
    backbone = of.recipe["model"]["backbone"]
    arguments = {} if isinstance(backbone, str) else backbone.get("init_args") or {}
    return str(arguments.get("name") or type(of.model.backbone).__name__)
