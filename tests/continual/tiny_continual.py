"""The smallest continual recipe that has everything: five classes in three steps, on images of two or three classes."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from rich.console import Console

from queryseg.continual.continual_run import train_continually
from queryseg.continual.continual_table import ContinualTable
from queryseg.recipe_file import read_recipe, resolve

CLASSES = ["sky", "road", "car", "tree", "sign"]
SIZE = 32


def write_data(root: Path) -> Path:
    """Ten images, every pair of classes once: the first above, the second below, a column of ignored pixels."""
    random = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for first, second in itertools.combinations(range(len(CLASSES)), 2):
        label = np.full((SIZE, SIZE), first, np.uint8)
        label[SIZE // 2 :] = second
        label[:, 0] = 255
        shade = np.array([30, 80, 130, 180, 230])[np.minimum(label, 4)]
        image = np.clip(shade[..., None] + random.integers(-20, 20, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{first}{second}.png")
        Image.fromarray(label).save(root / "labels" / f"{first}{second}.png")
    return root


def recipe(root: Path, **changes: Any) -> dict[str, Any]:
    """Plain values; changes: dotted keys, with __ for dots."""
    source = {"layout": "folders", "root": str(root), "classes": CLASSES}
    content: dict[str, Any] = {
        "classes": CLASSES,
        "model": {
            "backbone": {
                "class_path": "queryseg.backbones.PlainViT",
                "init_args": {
                    "name": "vit_tiny_patch16_224", "patch_size": 8, "image_size": SIZE,
                    "options": {"embed_dim": 16, "depth": 2, "num_heads": 2},
                },
            },
            "pixel_decoder": "queryseg.pixel_decoders.Identity",
            "queries": {"class_path": "queryseg.queries.LearnableQueries", "init_args": {"num_queries": 5}},
            "decoder": "queryseg.decoders.QueryInjection",
            "readout": "queryseg.readouts.Mixture",
        },
        "objectives": {
            "criterion": {"class_path": "queryseg.objectives.SetCriterion", "init_args": {"num_points": 32}},
        },
        "data": {
            "train": source, "validate": {"same": source}, "crop": [SIZE, SIZE], "short_sides": [SIZE],
            "max_category_share": 1.0, "distort": False, "num_workers": 0,
        },
        "training": {
            "steps": 4, "batch_size": 2, "learning_rate": 1e-3, "backbone_factor": 1.0, "clip_norm": 1.0,
            "save_every": 2, "log_every": 1,
        },
        "continual": {"classes_per_step": [2, 2, 1], "steps_per_class": 2, "learning_rate": 5e-4},
    }  # fmt: skip
    for key, value in changes.items():
        node, names = content, key.split("__")
        for name in names[:-1]:
            node = node[name]
        node[names[-1]] = value
    return content


def write_recipe(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def run(content: dict[str, Any], out: Path, **options: Any) -> ContinualTable:
    """Train on one thread, without a word unless there is a `console`."""
    torch.set_num_threads(1)
    options = {"console": Console(quiet=True), **options}
    return train_continually(resolve(content), out, accelerator="cpu", **options)


def run_and_die(path: Path, out: Path, calls: int, name: str | None = None) -> None:
    """For a process of its own: killed with SIGKILL just before a file is moved into its place, `calls` after the
    first. name: only files that are called so count."""
    original, left = os.replace, calls

    def deadly(source: Any, target: Any) -> None:
        nonlocal left
        left -= name is None or Path(target).name == name
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        original(source, target)

    os.replace = deadly
    run(read_recipe(path), out)


if __name__ == "__main__":
    path, out, devices = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    run(read_recipe(path), out, devices=devices)
