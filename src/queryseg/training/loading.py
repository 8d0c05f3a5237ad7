"""From a recipe's data settings to batches, by number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from queryseg.data.batch import Batch, collate
from queryseg.data.class_table import ClassTable
from queryseg.data.data_file import data_settings, open_data
from queryseg.data.dataset import SegmentationDataset, sample_name
from queryseg.data.rare_classes import class_pixel_counts, rare_class_shares
from queryseg.data.sampling import StepBatchSampler, TrainingSet
from queryseg.data.shards import Shards
from queryseg.data.transforms import TrainingTransform
from queryseg.errors import InputError, RecipeError
from queryseg.recipe import DataSettings, DataSource, Recipe
from queryseg.spelling import first_of
from queryseg.training.interruption import ignore_interrupts

CLASS_PIXELS = "class_pixels.json"


def open_checked(source: DataSource, settings: DataSettings, classes: ClassTable, key: str) -> SegmentationDataset:
    """A data set of the recipe's own classes. Raises: InputError, RecipeError"""
    # only content is relative to the root; what a data file names starts from that file
    dataset = open_data(source, relative_to=settings.root if isinstance(source, dict) else None)
    if dataset.classes.names != classes.names:
        raise RecipeError(
            f"{key} has the classes {_list(dataset.classes)}, but the recipe's classes are {_list(classes)}; give both "
            "the same class table, with a label map if the files hold other labels."
        )
    if not len(dataset):
        raise RecipeError(f"{key} holds no images; see `queryseg data check`.")
    if settings.task != "semantic":
        _check_instances(dataset, classes, settings, key)
    return dataset


def check_sources(data: Mapping[str, Any]) -> None:
    """Section `data` of a resolved recipe: everything is spelt right and every root is there, which is said before the
    model fetches its weights. Raises: InputError"""
    sources = {"data.train": data["train"], **{f"data.validate.{name}": v for name, v in data["validate"].items()}}
    for key, source in sources.items():
        settings = data_settings(source, relative_to=data["root"] if isinstance(source, dict) else None)
        root = settings.options.get("root")
        if root is not None and not Path(root).exists():
            raise InputError(
                f"{key}: there is no folder or archive '{root}'; correct its root, or give --data.root, the folder "
                "that the roots start from."
            )


def _check_instances(dataset: SegmentationDataset, classes: ClassTable, settings: DataSettings, key: str) -> None:
    """Raises: RecipeError, InputError"""
    task = settings.task
    if settings.protocol.window is not None:
        raise RecipeError(
            f"data.task is {task}, but data.protocol shows images in windows ({settings.protocol}), whose segments are "
            "not joined; leave data.protocol.window out."
        )
    if not classes.things:
        raise RecipeError(
            f"data.task is {task}, but no class of '{classes.name}' is a thing; give classes with `things`."
        )
    if dataset.classes.things != classes.things:
        differing = classes.names[min(dataset.classes.things ^ classes.things)]
        raise RecipeError(
            f"{key} and the recipe's classes disagree on whether '{differing}' is a thing; give both the same table."
        )
    if dataset[0].instance_map is None:
        raise RecipeError(
            f"data.task is {task}, but the labels of {key} tell no objects apart; use a layout with instances, or "
            "data.task semantic."
        )


def training_loader(
    recipe: Recipe, dataset: SegmentationDataset, folder: Path, step: int, rank: int, world_size: int, pin_memory: bool
) -> DataLoader[Batch]:
    """All micro-batches of this process from `step` on. folder: keeps the class counts of rare-class sampling."""
    data, training = recipe.data, recipe.training
    shares = None
    if data.rare_class_temperature is not None:
        counts = class_pixel_counts(dataset, data.num_workers, folder / CLASS_PIXELS)
        shares = rare_class_shares(counts, data.rare_class_temperature, data.rare_class_min_pixels)
    red, green, blue = (round(255 * mean) for mean in recipe.model.backbone.mean)  # so that padding becomes zero
    transform = TrainingTransform(
        data.crop,
        data.short_sides,
        data.max_long_side,
        data.max_category_share,
        data.flip,
        data.distort,
        (red, green, blue),
        instances=data.task != "semantic",
        resize_range=data.resize_range,
        min_label_pixels=data.rare_class_crop_pixels,
    )
    first, end = step * training.accumulate, training.steps * training.accumulate
    weights = None if shares is None else shares.sum(1)
    shards = dataset.shard_sizes if isinstance(dataset, Shards) else None
    sampler = StepBatchSampler(
        len(dataset), training.batch_size, recipe.seed, first, end, rank, world_size, weights, shards
    )
    return DataLoader(
        TrainingSet(dataset, transform, recipe.seed, shares),  # type: ignore[arg-type]  # the type of what `collate` makes
        batch_sampler=sampler,
        collate_fn=partial(collate, task=data.task, things=recipe.class_table.things),
        num_workers=data.num_workers,
        worker_init_fn=ignore_interrupts,
        pin_memory=pin_memory,
    )


def batches(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """The loader's batches. An unusable sample is one sentence, also where a process tells it in a traceback."""
    try:
        yield from loader
    except InputError as error:
        raise InputError(str(error).strip().rpartition("InputError: ")[2]) from None


def fingerprint(dataset: SegmentationDataset, world_size: int) -> dict[str, Any]:
    """What must be the same for batches to be the same: the images' names and order, and the number of processes."""
    digest = hashlib.sha256()
    for index in range(len(dataset)):
        digest.update(sample_name(dataset, index).encode() + b"\0")
    return {"images": len(dataset), "names": digest.hexdigest(), "processes": world_size}


def _list(classes: ClassTable) -> str:
    return first_of(classes.names, 4) + (f" ({len(classes)})" if len(classes) > 4 else "")
