"""Hugging Face's models with random weights, their own image processors and their own post-processing.

Shape legend: B images, K classes, H×W pixels of a frame, h×w as shown to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from queryseg.benchmarking.candidate import Frames, Labels, Stage, TorchCandidate, Work, num_parameters, on_host
from queryseg.benchmarking.workload import Workload, shown
from queryseg.data.class_table import ClassTable
from queryseg.errors import InputError
from queryseg.extras import require
from queryseg.inference.engine import Size
from queryseg.inference.precision import InferencePrecision
from queryseg.spelling import did_you_mean

Build = Callable[[Any, Any, Mapping[int, str], Size], nn.Module]
"""(transformers, one of the family's sizes, index → class name, shown size) → model"""

_SWIN = {
    "tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24), "window_size": 7},
    "small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24), "window_size": 7},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32), "window_size": 12},
    "large": {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48), "window_size": 12},
}
_VIT = {
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16},
}
_MIT = {
    "b0": {"hidden_sizes": (32, 64, 160, 256), "depths": (2, 2, 2, 2), "decoder_hidden_size": 256},
    "b1": {"hidden_sizes": (64, 128, 320, 512), "depths": (2, 2, 2, 2), "decoder_hidden_size": 256},
    "b2": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 4, 6, 3), "decoder_hidden_size": 768},
    "b3": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 4, 18, 3), "decoder_hidden_size": 768},
    "b4": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 8, 27, 3), "decoder_hidden_size": 768},
    "b5": {"hidden_sizes": (64, 128, 320, 512), "depths": (3, 6, 40, 3), "decoder_hidden_size": 768},
}


@dataclass(frozen=True)
class Family:
    """One architecture of transformers.

    sizes         name → configuration; the first one is meant where none is named
    build         see `Build`
    processor     class of its image processor
    settings      of the processor, for one workload
    trunk         path of the backbone inside the model; "": it cannot be run alone
    trunk_options arguments that it is called with besides the images
    note          what its own pre- and post-processing do
    """

    sizes: Mapping[str, Any]
    build: Build
    processor: str
    settings: Callable[[Workload], dict[str, Any]]
    note: str
    trunk: str = ""
    trunk_options: Mapping[str, Any] = field(default_factory=dict)


def _eomt(transformers: Any, size: Any, names: Mapping[int, str], shown_size: Size) -> nn.Module:
    side = min(shown_size)
    if side % 16:
        raise InputError(
            f"Hugging Face's EoMT sees square windows of whole patches, but the short side of {shown(shown_size)} is "
            "no multiple of 16; choose another --size."
        )
    config = transformers.EomtConfig(**size, num_queries=100, image_size=side, id2label=dict(names))
    model: nn.Module = transformers.EomtForUniversalSegmentation(config)
    with torch.no_grad():
        model.attn_mask_probs.zero_()  # type: ignore[operator]  # annealed away, as in every published checkpoint
    return model


def _mask2former(transformers: Any, size: Any, names: Mapping[int, str], shown_size: Size) -> nn.Module:
    swin = transformers.SwinConfig(**size, out_features=["stage1", "stage2", "stage3", "stage4"])
    config = transformers.Mask2FormerConfig(backbone_config=swin, num_queries=100, id2label=dict(names))
    model: nn.Module = transformers.Mask2FormerForUniversalSegmentation(config)
    return model


def _segformer(transformers: Any, size: Any, names: Mapping[int, str], shown_size: Size) -> nn.Module:
    config = transformers.SegformerConfig(**size, id2label=dict(names))
    model: nn.Module = transformers.SegformerForSemanticSegmentation(config)
    return model


def _exact(workload: Workload) -> dict[str, Any]:
    return {"size": {"height": workload.size[0], "width": workload.size[1]}}


def _windows(workload: Workload) -> dict[str, Any]:
    return {"size": {"shortest_edge": min(workload.size), "longest_edge": None}, "do_split_image": True}


FAMILIES: Mapping[str, Family] = {
    "eomt": Family(
        {"large": _VIT["large"], "base": _VIT["base"], "small": _VIT["small"]},
        _eomt,
        "EomtImageProcessor",
        _windows,
        "square windows over the short side, their scores stitched and averaged: its own semantic inference",
    ),
    "mask2former": Family(
        _SWIN,
        _mask2former,
        "Mask2FormerImageProcessor",
        _exact,
        "its readout resizes all masks to 384×384, then scores to the frame",
        trunk="model.pixel_level_module.encoder",
    ),
    "segformer": Family(
        _MIT,
        _segformer,
        "SegformerImageProcessor",
        _exact,
        "its readout resizes the class logits to the frame",
        trunk="segformer",
        trunk_options={"output_hidden_states": True},
    ),
}


class HuggingFaceCandidate(TorchCandidate):
    """A model of transformers behind its image processor.

    shown_size  that it was built for
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        family: Family,
        shown_size: Size,
        classes: ClassTable,
        device: torch.device,
        precision: InferencePrecision = "fp32",
        compiled: bool = False,
    ) -> None:
        super().__init__(name, model, device, precision, compiled)
        self.family, self.shown_size, self.classes = family, shown_size, classes
        self.description = f"transformers {type(model).__name__}, {(self.parameters or 0) / 1e6:.1f} M, random weights"
        self.includes = (
            f"{family.processor}, copy to the device, network, post_process_semantic_segmentation ({family.note}), "
            "copy of labels to the host"
        )

    def work(self, workload: Workload) -> Work:
        if not self.family.trunk and min(workload.size) != min(self.shown_size):
            raise InputError(
                f"{self.name} was built for windows of {min(self.shown_size)} pixels and cannot take "
                f"{shown(workload.size)}; benchmark it at that size by itself."
            )
        kind = getattr(_transformers(), self.family.processor)
        processor = kind(**self.family.settings(workload))
        network = self.maybe_compiled(self.module)

        def preprocess(frames: Frames) -> Any:
            inputs = processor(images=list(frames), return_tensors="pt", device=self.device)
            return inputs.to(self.device)

        def readout(outputs: Any) -> Labels:
            sizes = [workload.frame_size] * workload.batch
            maps = processor.post_process_semantic_segmentation(outputs, target_sizes=sizes)
            return on_host(torch.stack(list(maps)).byte())

        def infer(frames: Frames) -> Labels:
            return readout(network(**preprocess(frames)))

        middle = (
            self._trunk_and_head()
            if self.family.trunk
            else (Stage("network", lambda inputs: self.module(**inputs), num_parameters(self.module)),)
        )
        return Work(infer, (Stage("preprocess", preprocess), *middle, Stage("readout", readout)))

    def _trunk_and_head(self) -> tuple[Stage, Stage]:
        """The model runs whole in `head`, with a trunk that hands over what the real one has just computed."""
        path, _, last = self.family.trunk.rpartition(".")
        owner = self.module.get_submodule(path)
        trunk = owner.get_submodule(last)

        def backbone(inputs: Any) -> tuple[Any, Any]:
            return inputs, trunk(inputs["pixel_values"], **self.family.trunk_options)

        def head(state: tuple[Any, Any]) -> Any:
            inputs, kept = state
            setattr(owner, last, _Kept(kept))
            try:
                return self.module(**inputs)
            finally:
                setattr(owner, last, trunk)

        before = num_parameters(trunk)
        return Stage("backbone", backbone, before), Stage("head", head, num_parameters(self.module) - before)


class _Kept(nn.Module):
    """Stands in for a module whose result is known."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, *arguments: Any, **options: Any) -> Any:
        return self.result


def build_hugging_face(
    word: str,
    size: Size,
    classes: ClassTable,
    device: torch.device,
    precision: InferencePrecision = "fp32",
    compiled: bool = False,
) -> HuggingFaceCandidate:
    """word: "eomt", "eomt_base", "mask2former_tiny", "segformer_b2" …; size: (h, w) shown to it.

    Raises: InputError for an unknown model or a missing package
    """
    known = [*FAMILIES, *(f"{family}_{size}" for family in FAMILIES for size in FAMILIES[family].sizes)]
    if word not in known:
        raise InputError(f"There is no model 'hf:{word}' to compare with.{did_you_mean(word, known)}")
    family_name, _, size_name = word.partition("_")
    family = FAMILIES[family_name]
    size_name = size_name or next(iter(family.sizes))
    names = dict(enumerate(classes.names))
    model = family.build(_transformers(), family.sizes[size_name], names, size)
    name = f"hf:{family_name}_{size_name}"
    return HuggingFaceCandidate(name, model, family, size, classes, device, precision, compiled)


def _transformers() -> Any:
    return require("transformers", "A Hugging Face model", "benchmark")
