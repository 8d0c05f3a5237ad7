import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.inference.engine import Engine
from queryseg.segmenter import Segmenter


@pytest.fixture
def model(tiny_qprompt) -> Segmenter:
    """Its heads are turned up and its seed is chosen so that every class appears in `image`."""
    torch.manual_seed(6)
    model: Segmenter = tiny_qprompt(patch_size=8).eval()
    with torch.no_grad():
        model.heads.class_embed.weight.mul_(20)
        model.heads.mask_embed.layers[-1].weight.mul_(50)
    return model


@pytest.fixture
def classes(model):
    return class_table(list(model.dims.class_names))


@pytest.fixture
def engine(model) -> Engine:
    return Engine(model).eval()


@pytest.fixture
def image() -> torch.Tensor:
    """(3, 40, 72) uint8: smooth, so that resizing keeps its content."""
    low = torch.randint(0, 256, (1, 3, 5, 9), generator=torch.Generator().manual_seed(1)).float()
    return torch.nn.functional.interpolate(low, size=(40, 72), mode="bicubic").clamp(0, 255).byte()[0]
