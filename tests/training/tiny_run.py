"""The smallest run that has everything: a data set of files, a model, settings, and ways to stop it."""

from __future__ import annotations

import copy
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from queryseg.backbones import PlainViT
from queryseg.contracts import Objective, Step
from queryseg.decoders import QueryInjection
from queryseg.objectives import GRQA, SetCriterion
from queryseg.pixel_decoders import Identity
from queryseg.queries import LearnableQueries
from queryseg.readouts import Mixture
from queryseg.recipe import DataSettings, Recipe, TrainingSettings
from queryseg.segmenter import Parts
from queryseg.training import TrainingResult, train
from queryseg.training.trainer import Trainer
from queryseg.types import Dims, Output, Target

CLASSES = ["left", "right", "disc"]


class Stay(Objective):
    """Compares with a reference from the second half of the run on, and remembers a mean as GRQA's bank does."""

    references = frozenset({"ema", "frozen"})
    mean: Tensor

    def __init__(self, dims: Dims, reference: str = "ema") -> None:
        super().__init__()
        self.reference = reference
        self.weights = {"distance": 1.0}
        self.register_buffer("mean", torch.zeros(dims.width))
        self.seen: list[Tensor] = []

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        self.seen.append(output.final.content.detach().mean((0, 1)))
        if step.progress < 0.5:
            return {}
        other = step.reference(self.reference).output().final.content
        return {"distance": (output.final.content - other - self.mean).square().mean()}

    def after_step(self, step: Step) -> None:
        self.mean.lerp_(torch.stack(self.seen).mean(0), 0.1)
        self.seen.clear()


class Even(Objective):
    """Draws no random numbers and divides by nothing that a batch decides: means over batches can be compared."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        self.weights = {"logits": 1.0, "masks": 0.1}

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        areas = torch.stack([(target.label_map == 0).float().mean() for target in targets])
        masks = output.final.mask_logits.sigmoid().mean((1, 2, 3))
        return {"logits": output.final.class_logits.square().mean(), "masks": (masks - areas).square().mean()}


def write_data(root: Path, num_images: int = 7, size: int = 40) -> Path:
    """Two halves and a disc, as PNG files of varying colours."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(num_images):
        label = (columns > size // 3 + i).astype(np.uint8)
        label[(rows - 10 - 2 * i) ** 2 + (columns - 20) ** 2 < 60] = 2
        colors = random.integers(0, 256, (3, 3))
        image = np.clip(colors[label] + random.integers(-20, 20, (size, size, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / "images" / f"{i}.png")
        Image.fromarray(label).save(root / "labels" / f"{i}.png")
    return root


def settings(root: Path, **training: Any) -> dict[str, Any]:
    """Plain values of a run of 6 steps that saves, logs and validates at different ones."""
    source = {"layout": "folders", "root": str(root), "classes": CLASSES}
    return {
        "classes": CLASSES,
        "data": {
            "train": source, "validate": {"same": source}, "crop": [32, 32], "short_sides": [32, 40], "num_workers": 0,
        },
        "training": {
            "steps": 6, "batch_size": 2, "learning_rate": 1e-3, "clip_norm": 1.0, "ema_decay": 0.9, "save_every": 2,
            "log_every": 5, "validate_every": 3, **training,
        },
        "frozen": False,
        "drop_path": 0.2,
        "objectives": ["set", "stay"],
        "embed": 16,
    }  # fmt: skip


def build(values: Mapping[str, Any], seed: int = 0) -> Recipe:
    """A recipe with weights of its own."""
    values = copy.deepcopy(dict(values))
    torch.manual_seed(seed)
    size = {"embed_dim": values["embed"], "depth": 3, "num_heads": 2}
    backbone = PlainViT(
        "vit_tiny_patch16_224", patch_size=8, image_size=32, drop_path_rate=values["drop_path"], options=size
    )
    if values["frozen"]:
        backbone.freeze(until=1)
    queries = partial(LearnableQueries, num_queries=5)
    makers: dict[str, Callable[[Dims], Objective]] = {
        "set": partial(SetCriterion, num_points=32),
        "stay": Stay,
        "keep": partial(Stay, reference="frozen"),
        "even": Even,
        "grqa": partial(GRQA, start=0.5, min_pixels=2),
        "bank": partial(GRQA, start=1.0, min_pixels=2),
    }
    data = {**values["data"], "crop": tuple(values["data"]["crop"])}
    return Recipe(
        values["classes"],
        Parts(backbone, Identity, queries, QueryInjection, Mixture),
        {name: makers[name] for name in values["objectives"]},
        DataSettings(**data),
        TrainingSettings(**values["training"]),
        seed,
    )


def run(values: Mapping[str, Any], out: Path, **options: Any) -> TrainingResult:
    """Train without a word, on one thread."""
    torch.set_num_threads(1)
    return train(build(values), values, out, accelerator="cpu", console=Console(quiet=True), **options)


def run_and_die(values: Mapping[str, Any], out: Path, resume: bool, function: str, calls: int) -> None:
    """For a process of its own: killed with SIGKILL just before it calls os.`function` for the n-th time."""
    original, left = getattr(os, function), calls

    def deadly(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    setattr(os, function, deadly)
    run(values, out, resume=resume)


def run_quietly(values: Mapping[str, Any], out: Path, resume: bool) -> None:
    run(values, out, resume=resume)


def run_distributed(data: Path, out: Path) -> None:
    """Two processes; each leaves what it ended with."""
    original = Trainer.fit

    def fit(self: Trainer) -> TrainingResult:
        result = original(self)
        assert self.average is not None
        states = {"model": self.model.state_dict(), "average": self.average.state_dict()}
        torch.save(states, out / f"{self.fabric.global_rank}.pt")
        return result

    Trainer.fit = fit  # type: ignore[method-assign]
    run(even_settings(data), out, devices=2)


def even_settings(data: Path, **training: Any) -> dict[str, Any]:
    """A run whose losses are the same however its batches are spread over processes."""
    values = settings(data, steps=3, log_every=1, validate_every=0, **training)
    return values | {"objectives": ["even", "bank"], "drop_path": 0.0}


if __name__ == "__main__":
    run_distributed(Path(sys.argv[1]), Path(sys.argv[2]))
