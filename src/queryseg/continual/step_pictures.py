"""What a model says of the same few images after every step.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from queryseg.continual.continual_plan import ContinualPlan
from queryseg.data.dataset import SegmentationDataset
from queryseg.evaluation.evaluation import Example
from queryseg.evaluation.evaluator import predict_examples
from queryseg.inference.predictor import recorded_protocol
from queryseg.segmenter import Segmenter

NUM_SHOWN = 3


def shown_images(plan: ContinualPlan) -> tuple[SegmentationDataset, list[int]]:
    """The first validation set with all its labels, and the images that show the most classes, at least one of the
    first step among them."""
    dataset, present = plan.first_validation()
    base = present[:, plan.split.current(1)].any(1)
    order = (present.sum(1) * base).argsort(descending=True, stable=True).tolist()
    return dataset, order[:NUM_SHOWN]


def write_step_pictures(model: Segmenter, plan: ContinualPlan, step: int) -> None:
    """step_2/pictures/shown_0.png …: label maps, uint8, 255 = nothing."""
    dataset, indices = shown_images(plan)
    folder = plan.folder(step) / "pictures"
    folder.mkdir(exist_ok=True)
    for number, example in enumerate(predict_examples(model, dataset, recorded_protocol(plan.recipe), indices)):
        Image.fromarray(example.prediction).save(folder / f"shown_{number}.png")


def read_step_pictures(plan: ContinualPlan, steps: list[int]) -> list[list[Example]]:
    """Image by image, one example per step that has a picture of it."""
    dataset, indices = shown_images(plan)
    found = []
    for number, index in enumerate(indices):
        sample = dataset[index]
        picture = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
        maps = {step: _read(plan.folder(step) / "pictures" / f"shown_{number}.png") for step in steps}
        labels = sample.label_map.numpy()
        found.append(
            [Example(f"after step {step}", picture, labels, shown) for step, shown in maps.items() if shown is not None]
        )
    return [examples for examples in found if examples]


def _read(path: Path) -> npt.NDArray[np.uint8] | None:
    try:
        return np.asarray(Image.open(path))
    except OSError:  # a picture is no result: the report does without it
        return None
