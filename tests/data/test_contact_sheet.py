import numpy as np
import pytest
import torch

from queryseg.data.class_table import CITYSCAPES
from queryseg.data.contact_sheet import contact_sheet
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.drawing import colorize
from queryseg.errors import InputError
from queryseg.types import Sample


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


def test_objects_are_drawn_where_they_are_told_apart() -> None:
    """Two touching objects of one class: a white border between them in the overlay, none without instance maps."""

    class Two(SegmentationDataset):
        name, classes = "two", CITYSCAPES

        def __init__(self, instances: bool) -> None:
            self.instances = instances

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> Sample:
            numbers = torch.tensor([1, 2], dtype=torch.int32).repeat_interleave(20).repeat(20, 1)
            label_map = torch.full((20, 40), 13, dtype=torch.uint8)
            image = torch.full((3, 20, 40), 90, dtype=torch.uint8)
            return Sample(image, label_map, "a", numbers if self.instances else None)

    def white(instances: bool) -> int:
        overlay = np.asarray(contact_sheet(Two(instances), [0], width=40))[:, 6 + 80 : 6 + 120]
        return int((overlay[22 : 22 + 20] == 255).all(-1).sum())

    assert (white(True), white(False)) == (20, 0)
