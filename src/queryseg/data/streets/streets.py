"""Streets: a data set of rendered driving scenes with the 19 Cityscapes classes."""

from __future__ import annotations

import torch

from queryseg.data.class_table import CITYSCAPES, ClassTable
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.streets.renderer import check_domain, check_seed, check_size, render
from queryseg.errors import InputError
from queryseg.types import Sample


class Streets(SegmentationDataset):
    """`num_images` streets of one domain; image i is `render(domain, seed, i, size)`.

    Training and validation take different seeds. Raises InputError for an unknown domain, a size below 32 pixels, a
    negative seed or fewer than one image.
    """

    def __init__(
        self, domain: str = "clear", num_images: int = 200, seed: int = 0, size: tuple[int, int] = (256, 512)
    ) -> None:
        size = (size[0], size[1]) if len(size) == 2 else size
        check_domain(domain)
        check_size(size)
        check_seed(seed)
        if num_images < 1:
            raise InputError(f"Streets need at least 1 image, num_images is {num_images}; give a larger number.")
        self.domain, self.num_images, self.seed, self.size = domain, num_images, seed, size
        self.name = f"streets_{domain}"
        self.classes: ClassTable = CITYSCAPES

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.num_images:
            raise IndexError(f"street {index} of {self.num_images}")
        scene = render(self.domain, self.seed, index, self.size)
        image = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
        maps = torch.from_numpy(scene.label_map), torch.from_numpy(scene.instance_map)
        return Sample(image, maps[0], self.sample_name(index), maps[1])

    def sample_name(self, index: int) -> str:
        return f"{self.domain}_{self.seed}_{index:06d}"
