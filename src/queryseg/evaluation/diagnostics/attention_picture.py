"""Draws where queries look: an image per row of tiles, its query's box in red, the last layers beside each other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.evaluation.chart import SOFT, Chart, fitted
from queryseg.evaluation.diagnostics.attention_maps import AttendedImage, enlarged
from queryseg.evaluation.diagnostics.panels import MARGIN, TOP, WIDTH, Diagnoses, Panels, every_panel, headed
from queryseg.evaluation.diagnostics.query_pictures import Picture
from queryseg.metrics.query_activity import NO_CLASS

_GAP, _LABEL, _FOOT = 4, 18, 12
_RED = (226, 40, 40)
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # from nothing to most
_STRENGTHENED = 0.5
"""Exponent of attention before it is coloured: on fine levels few cells hold much, and most would be black."""


def attention(diagnoses: Diagnoses) -> Panels:
    """Chosen queries of some images. Source: FASeg (CVPR 2023), Figure 4."""
    shown = {
        (run, domain): diagnosis for run, domain, diagnosis in every_panel(diagnoses) if diagnosis.attention.get(domain)
    }
    heights = {key: _height(diagnosis.attention[key[1]]) for key, diagnosis in shown.items()}
    return {key: _panel(*key, d.attention[key[1]], d.classes, max(heights.values())) for key, d in shown.items()}


def _tile(image: AttendedImage) -> tuple[float, float]:
    """Width and height, in pixels of the page."""
    columns = 1 + len(image.layers)
    width = (WIDTH - 2 * MARGIN - (columns - 1) * _GAP) / columns
    return width, width * image.image.shape[0] / image.image.shape[1]


def _height(images: tuple[AttendedImage, ...]) -> float:
    return TOP + sum(_LABEL + len(image.queries) * (_tile(image)[1] + _LABEL) + _FOOT for image in images)


def _panel(run: str, domain: str, images: tuple[AttendedImage, ...], classes: ClassTable, height: float) -> Image.Image:
    chart = headed(height, run, domain, "attention of chosen queries in the last layers, each map from 0 to its most")
    top = float(TOP)
    for image in images:
        top = _draw(chart, image, classes, top) + _FOOT
    return chart.picture()


def _draw(chart: Chart, image: AttendedImage, classes: ClassTable, top: float) -> float:
    """Tiles of one image from `top` on; returns where they end."""
    width, height = _tile(image)
    titles = [fitted(image.name, width), *(f"layer {one.layer}, 1/{one.stride}" for one in image.layers)]
    lefts = [MARGIN + i * (width + _GAP) for i in range(len(titles))]
    for left, title in zip(lefts, titles, strict=True):
        chart.text(left, top + _LABEL / 2, fitted(title, width, 11), 11, SOFT)
    top += _LABEL
    size = (image.image.shape[0], image.image.shape[1])
    heats = [enlarged(one.maps, size) for one in image.layers]
    for i, query in enumerate(image.queries):
        k, box = image.classes[i], image.boxes[i]
        says = "no object" if k == NO_CLASS else f"{classes.names[k]}, {image.scores[i]:.2f}"
        chart.text(MARGIN, top + _LABEL / 2, f"query {query}: {says}" + ("" if box else "; its mask is empty"))
        top += _LABEL
        tiles = [image.image, *(heated(image.image, heat[i]) for heat in heats)]
        for left, tile in zip(lefts, tiles, strict=True):
            chart.pixels(tile, (left, top, left + width, top + height))
            if box is not None:
                corners = (left + box[0] * width, top + box[1] * height, left + box[2] * width, top + box[3] * height)
                chart.rectangle(corners, None, _RED)
        top += height
    return top


def heated(image: npt.NDArray[np.uint8], heat: Tensor) -> npt.NDArray[np.uint8]:
    """image (H, W, 3), heat (H, W) in 0 … 1 → (H, W, 3): grey and dark where heat is 0, coloured by it elsewhere"""
    strength = heat.numpy().astype(np.float64) ** _STRENGTHENED
    stops = np.linspace(0, 1, len(_HEAT))
    color = np.stack([np.interp(strength, stops, [stop[c] for stop in _HEAT]) for c in range(3)], -1)
    grey = 0.45 * image.mean(-1, keepdims=True)
    share = (0.2 + 0.8 * strength)[..., None]
    return np.asarray((grey * (1 - share) + color * share).round(), np.uint8)


ATTENTION = Picture(
    "Where queries look",
    "Cross-attention in the decoder's last layers, averaged over heads and laid over the image; the red box is around "
    "the query's mask. A layer of high-resolution cross-attention sees some blocks of the finest level only. Unless "
    "queries were named, they are the most confident ones of different classes. Compact maps that stay with the box "
    "from layer to layer are what FASeg's Figure 4 shows for positions that follow attention.",
    attention,
)
