import pytest
import torch
from PIL import Image

from corruptions.small_picture import picture
from queryseg.data.corruptions.corruption_sheet import corruption_sheet
from queryseg.errors import InputError
from queryseg.types import Sample

SAMPLE = Sample(picture(40, 60), torch.zeros(40, 60, dtype=torch.uint8), "street")


def test_one_cell_for_the_image_and_each_corruption() -> None:
    sheet = corruption_sheet(SAMPLE, [("fog", 3), ("contrast", 5), ("snow", 1)], columns=3, width=30)
    assert sheet.size == (3 * 36 + 6, 2 * (20 + 18 + 6) + 6)
    cells = [sheet.crop((6 + 36 * c, 24 + 44 * r, 36 + 36 * c, 44 + 44 * r)) for r in range(2) for c in range(3)]
    spread = [max(high - low for low, high in cell.getextrema()) for cell in cells[:4]]
    assert spread[2] < 20 < min(spread[0], spread[3])  # contrast × 0.05
    assert cells[4].getextrema() == ((255, 255),) * 3


def test_images_are_never_enlarged() -> None:
    assert isinstance(corruption_sheet(SAMPLE, [], width=500), Image.Image)
    assert corruption_sheet(SAMPLE, [], width=500).width == 72


def test_what_is_refused() -> None:
    for wrong in ({"columns": 0}, {"width": 0}):
        with pytest.raises(InputError, match="at least one column"):
            corruption_sheet(SAMPLE, [], **wrong)
