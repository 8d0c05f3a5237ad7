"""Data files: YAML that says where labelled images are and what their labels mean."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import InputError
from queryseg.spelling import check_keys, did_you_mean

LAYOUTS: dict[str, str] = {
    "class_subset": "queryseg.data.class_subset.ClassSubset",
    "corrupted": "queryseg.data.corruptions.corrupted_images.CorruptedImages",
    "folders": "queryseg.data.folders.Folders",
    "joined": "queryseg.data.joined.Joined",
    "panoptic_folders": "queryseg.data.panoptic_folders.PanopticFolders",
    "shards": "queryseg.data.shards.Shards",
    "streets": "queryseg.data.streets.Streets",
    **{
        module: f"queryseg.data.layouts.{module}.{name}"
        for module, name in {
            "acdc": "ACDC",
            "ade20k": "ADE20K",
            "bdd100k": "BDD100K",
            "camvid": "CamVid",
            "cityscapes": "Cityscapes",
            "cityscapes_c": "CityscapesC",
            "coco_panoptic": "CocoPanopticLayout",
            "dark_zurich": "DarkZurich",
            "gtav": "GTAV",
            "idd": "IDD",
            "mapillary": "Mapillary",
            "nightcity": "NightCity",
            "synthia": "Synthia",
            "urbansyn": "UrbanSyn",
        }.items()
    },
}
"""Layout → the class whose parameters are the other keys of the data file."""


def open_data(
    source: str | Path | Mapping[str, Any],
    *,
    relative_to: str | Path | None = None,
    lenient: bool = False,
    **overrides: Any,
) -> SegmentationDataset:
    """The data set that a data file, or its content, describes.

    layout: folders                     layout: streets
    root: .                             domain: fog
    images: leftImg8bit/val             num_images: 100
    labels: gtFine/val                  seed: 1
    image_suffix: _leftImg8bit.png      size: [256, 512]
    label_suffix: _gtFine_labelIds.png
    classes: cityscapes
    label_map: cityscapes_ids

    A relative `root` starts from the data file's folder, or from `relative_to` (for content: by default the current
    folder); `~` and variables are taken literally. `overrides` replace keys: `open_data("city.yaml", split="val")`.
    `lenient` leaves out samples that lack an image or label and lists them in `problems()`, as `data check` wants.
    InputError in one sentence for a missing or malformed file and for misspelt keys, with the nearest right one.
    """
    settings = data_settings(source, relative_to=relative_to, **overrides)
    content, parameters = settings.options, inspect.signature(settings.dataset_class).parameters
    if lenient and "unpaired" in parameters:
        content.setdefault("unpaired", "report")
    if "name" in parameters and not isinstance(source, Mapping):
        content.setdefault("name", Path(source).stem)
    dataset = settings.dataset_class(**content)
    if dataset.layout is None:  # shards know the layout that they were made of
        dataset.layout = settings.layout
    if dataset.split is None and isinstance(split := settings.complete().get("split"), str):
        dataset.split = split
    return dataset


@dataclass(frozen=True)
class DataFileSettings:
    """A data file, read and checked, before anything is opened: the layout, its class, and the options given."""

    layout: str
    dataset_class: type[SegmentationDataset]
    options: dict[str, Any]

    def complete(self) -> dict[str, Any]:
        """All options, defaults included."""
        parameters = inspect.signature(self.dataset_class).parameters
        defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
        return {**defaults, **self.options}


def data_settings(
    source: str | Path | Mapping[str, Any], *, relative_to: str | Path | None = None, **overrides: Any
) -> DataFileSettings:
    """What `open_data` would open, checked but for what lies on the disk. Raises: InputError"""
    if isinstance(source, Mapping):
        where, content, folder = "The data settings", dict(source), Path(relative_to or ".")
    else:
        where, content = f"Data file '{source}'", _read(Path(source))
        folder = Path(relative_to) if relative_to is not None else Path(source).parent
    content.update(overrides)
    layout = content.pop("layout", None)
    if layout is None:
        raise InputError(f"{where} has no 'layout'; choose from: {', '.join(LAYOUTS)}.")
    if layout not in LAYOUTS:
        raise InputError(f"{where} has the unknown layout '{layout}'.{did_you_mean(layout, LAYOUTS)}")
    dataset_class = layout_class(layout)
    parameters = inspect.signature(dataset_class).parameters
    if wrong := check_keys(content, parameters, f"{where} ('{layout}')"):
        raise InputError(wrong)
    if "root" in parameters:
        content["root"] = folder / str(content.get("root", "."))
    needed = [name for name, p in parameters.items() if p.default is inspect.Parameter.empty and name not in content]
    if needed:
        raise InputError(f"{where} has no '{needed[0]}', which layout '{layout}' needs.")
    return DataFileSettings(layout, dataset_class, content)


def layout_class(layout: str) -> type[SegmentationDataset]:
    """The class behind a name in LAYOUTS."""
    module, _, name = LAYOUTS[layout].rpartition(".")
    found: type[SegmentationDataset] = getattr(importlib.import_module(module), name)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"There is no data file '{path}'; give a YAML file with a layout and its folders.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Data file '{path}' cannot be read ({error}); give a YAML file.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise InputError(
            f"Data file '{path}' is not valid YAML{line}; see the example in the documentation."
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"Data file '{path}' holds no settings; it needs at least 'layout'.")
    return content
