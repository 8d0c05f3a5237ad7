"""Writes rendered streets in Cityscapes' on-disk layout, for this package and for every tool that reads Cityscapes.

Shape legend: H×W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import yaml
from PIL import Image

from queryseg.data.class_table import CITYSCAPES, CITYSCAPES_IDS
from queryseg.data.coco_panoptic import CocoPanoptic, PanopticImage, categories_of, to_segments, write_segment_ids
from queryseg.data.drawing import colorize
from queryseg.data.ordered_map import ordered_map
from queryseg.data.streets import Streets, render
from queryseg.data.whole_file import write_whole
from queryseg.types import IGNORE

_FRAME = "000019"  # Cityscapes labels the 20th frame of each snippet
_COMPRESSION = 3  # of PNG's 0..9: almost three times as fast as the default 6, for images 7 % larger


def write_cityscapes(
    streets: Streets,
    root: str | Path,
    split: str,
    num_workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    panoptic: bool = False,
) -> Path:
    """Render streets into a Cityscapes tree; returns the data file that `open_data` reads.

    root/leftImg8bit/{split}/{city}/{city}_000000_000019_leftImg8bit.png
    root/gtFine/{split}/{city}/{city}_000000_000019_gtFine_{labelIds,labelTrainIds,instanceIds,color}.png
    root/{split}_{city}.yaml

    The city is the domain, so that several domains fit into one tree. Each file appears whole or not at all; the data
    file comes last.

    num_workers  rendering processes (0: this one); the files do not depend on it
    progress     called with (images written, images in all)
    panoptic     write every image's segments in COCO's panoptic format, too, and return the data file that reads them:
                 gtFine/panoptic/{split}_{city}/{city}_000000_000019_panoptic.png, the JSON
                 gtFine/panoptic/{split}_{city}.json (category ids are trainIds), and root/{split}_{city}_panoptic.yaml
    """
    city = streets.domain.replace("_", "")  # tools split file names at underscores
    images, labels = Path(root) / "leftImg8bit" / split / city, Path(root) / "gtFine" / split / city
    segments = Path(root) / "gtFine" / "panoptic" / f"{split}_{city}"
    folders = _Folders(images, labels, segments if panoptic else None, city)
    write = partial(_write_scene, streets, folders)
    written = list(ordered_map(write, len(streets), num_workers, progress))
    common = {"root": ".", "images": f"leftImg8bit/{split}/{city}", "classes": "cityscapes"}
    data_file = _write_data_file(
        Path(root) / f"{split}_{city}.yaml",
        {
            "layout": "folders",
            **common,
            "labels": f"gtFine/{split}/{city}",
            "image_suffix": "_leftImg8bit.png",
            "label_suffix": "_gtFine_labelIds.png",
            "label_map": "cityscapes_ids",
        },
    )
    if not panoptic:
        return data_file
    entries = tuple(entry for entry in written if entry is not None)
    CocoPanoptic(categories_of(CITYSCAPES), entries).write(segments.with_suffix(".json"))
    index = {"labels": f"gtFine/panoptic/{split}_{city}", "index": f"gtFine/panoptic/{split}_{city}.json"}
    return _write_data_file(
        Path(root) / f"{split}_{city}_panoptic.yaml", {"layout": "panoptic_folders", **common, **index}
    )


def instance_ids(label_ids: npt.NDArray[np.uint8], instance_map: npt.NDArray[np.integer]) -> npt.NDArray[np.uint16]:
    """(H, W) Cityscapes instance ids: label id · 1000 + k for the k-th object of its class; stuff: the label id.

    label_ids     (H, W) official ids
    instance_map  (H, W) 0 where there is no object
    """
    result = label_ids.astype(np.uint16)
    numbered: dict[int, int] = {}
    for instance in np.unique(instance_map):
        if instance == 0:
            continue
        where = instance_map == instance
        label = int(label_ids[where][0])
        result[where] = label * 1000 + numbered.setdefault(label, 0)
        numbered[label] += 1
    return result


@dataclass(frozen=True)
class _Folders:
    images: Path
    labels: Path
    segments: Path | None
    city: str


def _write_scene(streets: Streets, folders: _Folders, index: int) -> PanopticImage | None:
    scene = render(streets.domain, streets.seed, index, streets.size)
    stem = f"{folders.city}_{index:06d}_{_FRAME}"
    label_ids = _LABEL_IDS[scene.label_map]
    pictures: dict[Path, npt.NDArray[np.integer]] = {
        folders.images / f"{stem}_leftImg8bit.png": scene.image,
        folders.labels / f"{stem}_gtFine_labelIds.png": label_ids,
        folders.labels / f"{stem}_gtFine_labelTrainIds.png": scene.label_map,
        folders.labels / f"{stem}_gtFine_instanceIds.png": instance_ids(label_ids, scene.instance_map),
        folders.labels / f"{stem}_gtFine_color.png": colorize(scene.label_map, CITYSCAPES),
    }
    for path, pixels in pictures.items():
        write_whole(path, partial(Image.fromarray(pixels).save, format="PNG", compress_level=_COMPRESSION))
    if folders.segments is None:
        return None
    ids, segments = to_segments(
        torch.from_numpy(scene.label_map), torch.from_numpy(scene.instance_map), CITYSCAPES.things
    )
    name = f"{stem}_panoptic.png"
    write_segment_ids(folders.segments / name, ids)
    return PanopticImage(stem, f"{stem}_leftImg8bit.png", name, streets.size, segments)


def _write_data_file(path: Path, content: dict[str, str]) -> Path:
    text = yaml.safe_dump(content, sort_keys=False)
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))
    return path


def _label_id_table() -> npt.NDArray[np.uint8]:
    table = np.zeros(256, np.uint8)  # ignored → 0, "unlabeled"
    for label_id, train_id in CITYSCAPES_IDS.items():
        if train_id != IGNORE:
            table[train_id] = label_id
    return table


_LABEL_IDS = _label_id_table()
