"""How well pixels of one image tell a class: beside its text, and from layer to layer of the pixel decoder.

Shape legend: K classes, M layers, C channels, J width of the image–text space, S cells of all levels, H×W the image as
shown, h×w a grid of cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.windows import show
from queryseg.pixel_decoders import Deformable, TextDeformable
from queryseg.segmenter import Segmenter
from queryseg.types import IGNORE, Features, Sample

NUM_CHOSEN = 2
"""Classes of an image unless some are named: those with most pixels."""

TEXT, LAYERS, WITHOUT = "to_text", "layers", "without_text_attention"


@dataclass(frozen=True)
class ClassSimilarity:
    """Cosine similarities for one class, by kind.

    label    of the class
    maps     (h, w) each. to_text: one, of patches to the class's text, where the backbone has an image–text space;
             layers: M + 1, before the pixel decoder and after each of its layers, of cells of its finest level to the
             mean of the class's cells; without_text_attention: the same where text-to-pixel attention finds nothing
    clarity  of each map: its mean over the class's cells, by the labels, less its mean over all other labelled ones
    """

    label: int
    maps: Mapping[str, tuple[Tensor, ...]]
    clarity: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class SimilarImage:
    """image (H, W, 3) uint8, as shown to the model"""

    name: str
    image: npt.NDArray[np.uint8]
    classes: tuple[ClassSimilarity, ...]


def shows_similarity(model: Segmenter) -> bool:
    """Whether the queries of this model are texts."""
    return "text_context" in model.queries.provides


def check_similar(model: Segmenter, names: Sequence[str]) -> None:
    """Raises: InputError if similarities to classes are asked for that there are not"""
    if names and not shows_similarity(model):
        raise InputError(
            f"Similarity to texts is asked for, but {type(model.queries).__name__} reads none; leave the classes out, "
            "or give a run of textual queries (tqdm)."
        )
    for name in names:
        if name not in model.dims.class_names:
            known = ", ".join(model.dims.class_names)
            raise InputError(f"Similarity to '{name}' is asked for, but the classes of this model are: {known}.")


@torch.no_grad()
def similar_image(
    model: Segmenter, sample: Sample, protocol: Protocol, names: Sequence[str] | None = None
) -> SimilarImage:
    """Show one whole image, at the protocol's size, to a model in eval mode. names: of classes, of which those in the
    image are drawn; None: the ones with most pixels.

    Source: the figures of tqdm's talk (ECCV 2024): image–text similarity, and pixels at m = 0 and m = M with
    text-to-pixel attention and without. There, "without" is another trained model, for which a second run may stand
    here; attention that finds nothing in the same weights is ours, and so is the mean of a class as its centre.
    """
    shown = show(sample.image, protocol)
    height, width = shown.shape[-2:]
    canvas = model.canvas(height, width)

    def inside(x: Tensor) -> Tensor:
        """(C, h, w) without the cells that hold padding alone"""
        rows, columns = x.shape[-2:]
        return x[:, : -(-height * rows // canvas[0]), : -(-width * columns // canvas[1])].float().cpu()

    given, layers = _encoded(model, shown)
    seen = {LAYERS: [inside(x) for x in layers], WITHOUT: [inside(x) for x in _without_texts(model, given)]}
    joint, texts = given.joint, given.context
    dense = None if joint is None else inside(joint.dense[0])
    grid = next((x.shape[-2:] for x in [*seen[LAYERS], dense] if x is not None), None)
    found = []
    for label in [] if grid is None else _chosen(model, _labels(sample, (grid[0], grid[1])), names):
        maps = {
            kind: [_to_centre(x, _labels(sample, x.shape[-2:]), label) for x in some] for kind, some in seen.items()
        }
        if dense is not None and texts is not None:
            text = texts[0, label].float().cpu()
            maps[TEXT] = [torch.cosine_similarity(dense, text[:, None, None], dim=0)]
        clarity = {
            kind: tuple(_clarity(one, _labels(sample, one.shape), label) for one in some) for kind, some in maps.items()
        }
        found.append(ClassSimilarity(label, {kind: tuple(some) for kind, some in maps.items()}, clarity))
    picture = np.ascontiguousarray(shown.permute(1, 2, 0).cpu().numpy())
    return SimilarImage(sample.name, picture, tuple(found))


def _encoded(model: Segmenter, shown: Tensor) -> tuple[Features, list[Tensor]]:
    """What the pixel decoder is given, and what it makes of it."""
    given: list[Features] = []
    hook = model.pixel_decoder.register_forward_pre_hook(lambda module, arguments: given.append(arguments[0]))
    try:
        layers = _layers(model, lambda: model.encode(model.normalise(shown[None].to(model.mean.device))))
    finally:
        hook.remove()
    return given[0], layers


def _without_texts(model: Segmenter, given: Features) -> list[Tensor]:
    """The same where text-to-pixel attention adds nothing; [] for other pixel decoders."""
    if not isinstance(model.pixel_decoder, TextDeformable):
        return []

    def nothing(module: object, arguments: tuple[Any, ...], out: tuple[Tensor, None]) -> tuple[Tensor, None]:
        return torch.zeros_like(out[0]), None

    layers: Any = model.pixel_decoder.layers
    hooks = [layer.text_attention.register_forward_hook(nothing) for layer in layers]
    try:
        return _layers(model, lambda: model.pixel_decoder(given))
    finally:
        for hook in hooks:
            hook.remove()


def _layers(model: Segmenter, call: Any) -> list[Tensor]:
    """(C, h, w) of the finest level of a deformable pixel decoder, before its first layer and after each, while `call`
    runs; [] for other pixel decoders."""
    decoder = model.pixel_decoder
    if not isinstance(decoder, Deformable):
        call()
        return []
    seen: list[Tensor] = []
    sizes: list[torch.Size] = []
    hooks = [layer.register_forward_hook(lambda module, given, out: seen.append(out)) for layer in decoder.layers]
    hooks.append(decoder.layers[0].register_forward_pre_hook(lambda module, given: seen.append(given[0])))
    finest = decoder.inputs[2]
    hooks.append(finest.register_forward_hook(lambda module, given, out: sizes.append(out.shape[-2:])))
    if isinstance(decoder, TextDeformable):  # what follows the last layer belongs to it
        hooks.append(decoder.final_norm.register_forward_hook(lambda module, given, out: seen.append(out)))
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    if isinstance(decoder, TextDeformable):
        del seen[-2]
    rows, columns = sizes[0]
    return [x[0, -rows * columns :].T.reshape(-1, rows, columns) for x in seen]


def _labels(sample: Sample, grid: Sequence[int]) -> Tensor:
    """(h, w), of the pixel at each cell's middle"""
    return F.interpolate(sample.label_map[None, None].float(), tuple(grid), mode="nearest-exact")[0, 0].long()


def _chosen(model: Segmenter, labels: Tensor, names: Sequence[str] | None) -> list[int]:
    """labels (h, w): classes that some cells have, not all"""
    known = labels[labels != IGNORE]
    counts = known.bincount(minlength=len(model.dims.class_names))
    there = [label for label in counts.argsort(descending=True).tolist() if 0 < counts[label] < len(known)]
    if names is None:
        return there[:NUM_CHOSEN]
    return [label for label in map(model.dims.class_names.index, names) if label in there]


def _to_centre(x: Tensor, labels: Tensor, label: int) -> Tensor:
    """x (C, h, w) → (h, w), to the mean of the cells with this label"""
    unit = F.normalize(x, dim=0)
    return torch.cosine_similarity(unit, unit[:, labels == label].mean(1)[:, None, None], dim=0)


def _clarity(similarity: Tensor, labels: Tensor, label: int) -> float:
    own, others = labels == label, (labels != label) & (labels != IGNORE)
    return float(similarity[own].mean() - similarity[others].mean())
