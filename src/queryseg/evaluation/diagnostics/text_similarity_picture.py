"""Draws how well pixels tell a class: a block per image and class, a row per kind of similarity, a tile per map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.evaluation.chart import SOFT, Chart, fitted
from queryseg.evaluation.diagnostics.attention_maps import enlarged
from queryseg.evaluation.diagnostics.attention_picture import heated
from queryseg.evaluation.diagnostics.panels import MARGIN, TOP, WIDTH, Diagnoses, Panels, every_panel, headed
from queryseg.evaluation.diagnostics.query_pictures import Picture
from queryseg.evaluation.diagnostics.text_similarity import LAYERS, TEXT, WITHOUT, ClassSimilarity, SimilarImage

_GAP, _LABEL, _FOOT = 4, 18, 12
_ROWS = {LAYERS: "with text-to-pixel attention", WITHOUT: "where it finds nothing"}


def similarity(diagnoses: Diagnoses) -> Panels:
    """Some classes of some images."""
    shown = {
        (run, domain): diagnosis
        for run, domain, diagnosis in every_panel(diagnoses)
        if any(image.classes for image in diagnosis.similarity.get(domain, ()))
    }
    heights = {key: _height(diagnosis.similarity[key[1]]) for key, diagnosis in shown.items()}
    return {key: _panel(*key, d.similarity[key[1]], d.classes, max(heights.values())) for key, d in shown.items()}


def _rows(one: ClassSimilarity) -> list[str]:
    return [kind for kind in _ROWS if one.maps.get(kind)]


def _tile(image: SimilarImage) -> tuple[float, float]:
    """Width and height, in pixels of the page."""
    columns = max([4, *(len(some) for one in image.classes for some in one.maps.values())])
    width = (WIDTH - 2 * MARGIN - (columns - 1) * _GAP) / columns
    return width, width * image.image.shape[0] / image.image.shape[1]


def _height(images: tuple[SimilarImage, ...]) -> float:
    tall = [(1 + len(_rows(one))) * (_tile(i)[1] + 2 * _LABEL) + _FOOT for i in images for one in i.classes]
    return TOP + sum(tall)


def _panel(run: str, domain: str, images: tuple[SimilarImage, ...], classes: ClassTable, height: float) -> Image.Image:
    chart = headed(height, run, domain, "cosine similarity for a class, each map from its least to its most")
    top = float(TOP)
    for image in images:
        for one in image.classes:
            top = _draw(chart, image, one, classes, top) + _FOOT
    return chart.picture()


def _draw(chart: Chart, image: SimilarImage, one: ClassSimilarity, classes: ClassTable, top: float) -> float:
    """Rows of one class from `top` on; returns where they end."""
    width, height = _tile(image)

    def row(title: str, tiles: list[tuple[str, npt.NDArray[np.uint8]]]) -> None:
        nonlocal top
        chart.text(MARGIN, top + _LABEL / 2, fitted(title, WIDTH - 2 * MARGIN))
        top += _LABEL
        for i, (says, tile) in enumerate(tiles):
            left = MARGIN + i * (width + _GAP)
            chart.text(left, top + _LABEL / 2, fitted(says, width, 11), 11, SOFT)
            chart.pixels(tile, (left, top + _LABEL, left + width, top + _LABEL + height))
        top += _LABEL
        top += height

    def tiles(kind: str) -> list[tuple[str, npt.NDArray[np.uint8]]]:
        found = zip(one.maps.get(kind, ()), one.clarity.get(kind, ()), strict=True)
        return [(f"m={m}: {clear:.2f}", _heat(image.image, similar)) for m, (similar, clear) in enumerate(found)]

    text = [(says.partition(" ")[2], tile) for says, tile in tiles(TEXT)]
    title = f"{classes.names[one.label]} in {image.name}: the image"
    row(title + (", and its patches beside the text" if text else ""), [("", image.image), *text])
    for kind in _rows(one):
        row(f"pixel decoder, {_ROWS[kind]}" if WITHOUT in _rows(one) else "pixel decoder", tiles(kind))
    return top


def _heat(image: npt.NDArray[np.uint8], similar: Tensor) -> npt.NDArray[np.uint8]:
    spread = similar - similar.min()
    return heated(image, enlarged(spread[None], (image.shape[0], image.shape[1]))[0])


TEXT_SIMILARITY = Picture(
    "What pixels tell of a class",
    "Cosine similarity of the backbone's patches to the text of a class, and of the pixel decoder's cells to the mean "
    "of the class's, before its first layer (m = 0) and after each. The number on a map is its mean over the "
    "pixels labelled so, less its mean over all others: the higher, the clearer. Below, text-to-pixel attention finds "
    "nothing, with the same weights; a run that was trained without it may stand beside as a second run. After the "
    "figures of tqdm's talk (ECCV 2024).",
    similarity,
)
