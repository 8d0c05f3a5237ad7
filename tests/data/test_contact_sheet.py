import numpy as np
import pytest

from queryseg.data.contact_sheet import contact_sheet
from queryseg.data.data_file import open_data
from queryseg.data.drawing import colorize
from queryseg.errors import InputError


def test_shows_image_label_and_overlay() -> None:
    dataset = open_data({"layout": "streets", "num_images": 3, "size": [32, 64]})
    sheet = np.asarray(contact_sheet(dataset, [0, 2, 1], columns=2, width=64))
    assert sheet.shape[1] == 2 * (3 * 64 + 6) + 6
    shown = sheet[6 + 16 : 6 + 16 + 32, 6 : 6 + 3 * 64]
    sample = dataset[0]
    assert (shown[:, :64] == sample.image.permute(1, 2, 0).numpy()).all()
    assert (shown[:, 64:128] == colorize(sample.label_map, dataset.classes)).all()
    legend = sheet[6 + 2 * (32 + 16 + 6) :].reshape(-1, 3)
    for color in dataset.classes.colors:
        assert (legend == color).all(1).any()


def test_refused() -> None:
    dataset = open_data({"layout": "streets", "num_images": 3, "size": [32, 64]})
    with pytest.raises(InputError, match="sample 3 is asked for"):
        contact_sheet(dataset, [3])
    with pytest.raises(InputError, match="at least one"):
        contact_sheet(dataset, [])
