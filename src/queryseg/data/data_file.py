"""Data files: YAML that says where labelled images are and what their labels mean."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from queryseg.data.dataset import SegmentationDataset
from queryseg.data.spelling import check_keys, did_you_mean
from queryseg.errors import InputError

LAYOUTS: dict[str, str] = {
    "folders": "queryseg.data.folders.Folders",
    "panoptic_folders": "queryseg.data.panoptic_folders.PanopticFolders",
    "streets": "queryseg.data.streets.Streets",
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
    module, _, class_name = LAYOUTS[layout].rpartition(".")
    dataset_class = getattr(importlib.import_module(module), class_name)
    parameters = inspect.signature(dataset_class).parameters
    if wrong := check_keys(content, parameters, f"{where} ('{layout}')"):
        raise InputError(wrong)
    if "root" in parameters:
        content["root"] = folder / str(content.get("root", "."))
    needed = [name for name, p in parameters.items() if p.default is inspect.Parameter.empty and name not in content]
    if needed:
        raise InputError(f"{where} has no '{needed[0]}', which layout '{layout}' needs.")
    if lenient and "unpaired" in parameters:
        content.setdefault("unpaired", "report")
    if "name" in parameters and not isinstance(source, Mapping):
        content.setdefault("name", Path(source).stem)
    dataset: SegmentationDataset = dataset_class(**content)
    return dataset


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
