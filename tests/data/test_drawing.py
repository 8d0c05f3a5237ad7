import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from queryseg.data.class_table import CITYSCAPES
from queryseg.data.drawing import OverlayPainter, colorize, overlay, text_font


def test_colorize() -> None:
    label_map = torch.tensor([[0, 13, 255]], dtype=torch.uint8)
    expected = [[[128, 64, 128], [0, 0, 142], [0, 0, 0]]]
    assert colorize(label_map, CITYSCAPES).tolist() == expected
    assert colorize(label_map.numpy().astype(np.int64), CITYSCAPES).tolist() == expected
    assert colorize(label_map.long(), CITYSCAPES).dtype == np.uint8


def test_overlay() -> None:
    image = torch.tensor([[[100, 100]], [[0, 0]], [[200, 200]]], dtype=torch.uint8)
    label_map = torch.tensor([[0, 255]], dtype=torch.uint8)
    assert overlay(image, label_map, CITYSCAPES).tolist() == [[[114, 32, 164], [100, 0, 200]]]
    pixels = image.permute(1, 2, 0).numpy()
    assert (overlay(pixels, label_map, CITYSCAPES, alpha=0) == pixels).all()
    assert overlay(pixels, label_map, CITYSCAPES, alpha=1).tolist() == [[[128, 64, 128], [100, 0, 200]]]


def test_painter_paints_in_place_what_overlay_mixes() -> None:
    """All classes and values at random: the two roundings differ by at most 1."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    label_map = draw.integers(0, 19, (40, 50), dtype=np.uint8)
    for alpha in (0.0, 0.3, 0.5, 1.0):
        mixed = overlay(image, label_map, CITYSCAPES, alpha).astype(int)
        painted = image.copy()
        assert OverlayPainter(CITYSCAPES, alpha)(painted, label_map) is painted
        assert np.abs(painted - mixed).max() <= 1


def test_very_large_pictures_are_painted_in_parts(monkeypatch):
    """A few rows at a time, without a seam."""
    draw = np.random.default_rng(0)
    image, labels = draw.integers(0, 256, (37, 20, 3), np.uint8), draw.integers(0, 19, (37, 20), np.uint8)
    whole = colorize(labels, CITYSCAPES), overlay(image, labels, CITYSCAPES, 0.3)
    monkeypatch.setattr("queryseg.data.drawing._PIXELS_TOGETHER", 100)
    assert (colorize(labels, CITYSCAPES) == whole[0]).all()
    assert (overlay(image, labels, CITYSCAPES, 0.3) == whole[1]).all()


@pytest.mark.parametrize("size", [12, 13])
def test_words_in_pictures_stand_apart(size):
    """Wider than letters do: "0 sky" cannot be read as "0sky"."""
    line = Image.new("L", (80, 24), 255)
    ImageDraw.Draw(line).text((2, 2), "0 sky", fill=0, font=text_font(size))
    (columns,) = np.nonzero((np.asarray(line) < 200).any(0))
    between_words, *between_letters = sorted((np.diff(columns) - 1).tolist(), reverse=True)
    assert between_words >= 4
    assert max(between_letters) <= 2
    with pytest.raises(AssertionError):
        text_font(11)
