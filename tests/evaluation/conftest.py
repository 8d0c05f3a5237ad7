import numpy as np
import pytest
import torch

from queryseg.data.class_table import ClassTable, class_table
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.evaluation.evaluation import Evaluation, Example
from queryseg.metrics import margins
from queryseg.segmenter import Segmenter
from queryseg.types import Sample


class Pictures(SegmentationDataset):
    """Smooth random images of different sizes with random labels, some ignored; image `broken` cannot be read."""

    def __init__(
        self, length: int, classes: ClassTable, broken: int | None = None, ignored: tuple[int, ...] = ()
    ) -> None:
        self.name, self.classes = "pictures", classes
        self.length, self.broken, self.ignored = length, broken, ignored

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index == self.broken:
            raise InputError(f"Image 'picture_{index}.png' cannot be read; it may be damaged.")
        torch.rand(3), np.random.rand(3)  # a data set may draw; evaluation must not be felt outside
        random = torch.Generator().manual_seed(index)
        size = (24 + 8 * (index % 3), 40 + 4 * (index % 2))
        low = torch.randint(0, 256, (1, 3, 4, 5), generator=random).float()
        image = torch.nn.functional.interpolate(low, size=size, mode="bilinear")[0].byte()
        label_map = torch.randint(0, len(self.classes), size, generator=random, dtype=torch.uint8)
        label_map[:4] = 255
        if index in self.ignored:
            label_map.fill_(255)
        return Sample(image, label_map, f"picture_{index}")


@pytest.fixture
def model(tiny_qprompt) -> Segmenter:
    """Says different things in different places, and draws random numbers in training mode."""
    options = {"embed_dim": 24, "depth": 2, "num_heads": 2, "proj_drop_rate": 0.5}
    model: Segmenter = tiny_qprompt(patch_size=8, options=options)
    with torch.no_grad():
        model.heads.class_embed.weight.mul_(20)
        model.heads.mask_embed.layers[-1].weight.mul_(50)
    return model.eval()


@pytest.fixture
def classes(model) -> ClassTable:
    return class_table(list(model.dims.class_names))


@pytest.fixture
def pictures(classes):
    def build(length: int = 5, classes: ClassTable = classes, **options) -> Pictures:
        return Pictures(length, classes, **options)

    return build


@pytest.fixture
def make_evaluation():
    def make(name: str, confusions: list[list[list[int]]], examples: tuple[Example, ...] = ()) -> Evaluation:
        per_image = torch.tensor(confusions)
        counts = torch.stack(margins(per_image), 1)
        classes = class_table(["road", "car", "sky <far>"])
        return Evaluation(name, classes, Protocol(), per_image.sum(0), counts, 1.5, examples)

    return make
