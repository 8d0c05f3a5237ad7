"""What the model says of validation images while it learns.

Shape legend: H×W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from queryseg.data.dataset import SegmentationDataset
from queryseg.data.drawing import colorize
from queryseg.data.protocol import Protocol
from queryseg.inference.engine import Engine
from queryseg.inference.windows import protocol_labels
from queryseg.segmenter import Segmenter

_GAP = 4


@torch.inference_mode()
def prediction_picture(
    model: Segmenter, dataset: SegmentationDataset, protocol: Protocol, num_images: int = 3, width: int = 384
) -> Tensor:
    """image | label | prediction of the same few images every time, evenly spread over the data set: (3, H, W) uint8.

    width: of each of the three columns, in pixels.
    """
    indices = [(2 * i + 1) * len(dataset) // (2 * num_images) for i in range(min(num_images, len(dataset)))]
    rows = [_row(model, dataset, index, protocol, width) for index in dict.fromkeys(indices)]
    sheet = np.concatenate([np.pad(row, ((0, _GAP), (0, 0), (0, 0)), constant_values=255) for row in rows])
    return torch.from_numpy(sheet[:-_GAP]).permute(2, 0, 1)


def _row(model: Segmenter, dataset: SegmentationDataset, index: int, protocol: Protocol, width: int) -> np.ndarray:
    sample = dataset[index]
    labels = protocol_labels(Engine(model), sample.image, protocol)
    height = max(1, round(width * sample.image.shape[1] / sample.image.shape[2]))
    pictures = [
        (sample.image.permute(1, 2, 0).contiguous().numpy(), Image.Resampling.BILINEAR),
        (colorize(sample.label_map, dataset.classes), Image.Resampling.NEAREST),
        (colorize(labels, dataset.classes), Image.Resampling.NEAREST),
    ]
    small = [np.asarray(Image.fromarray(pixels).resize((width, height), method)) for pixels, method in pictures]
    return np.concatenate([np.pad(p, ((0, 0), (0, _GAP), (0, 0)), constant_values=255) for p in small], 1)[:, :-_GAP]
