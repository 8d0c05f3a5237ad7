"""Compares a model with a labelled data set.

Shape legend: N images, K classes, H×W pixels.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from queryseg.data.dataset import SegmentationDataset
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError, QuerysegError
from queryseg.evaluation.evaluation import Evaluation, Example
from queryseg.evaluation.observation import Observer, observed
from queryseg.inference.engine import Engine, SegmentationEngine
from queryseg.inference.windows import protocol_labels
from queryseg.metrics.confusion import confusion_matrix, margins
from queryseg.segmenter import Segmenter
from queryseg.types import Sample

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def evaluate(
    model: Segmenter | SegmentationEngine,
    dataset: SegmentationDataset,
    protocol: Protocol,
    *,
    name: str | None = None,
    device: torch.device | None = None,
    num_workers: int = 0,
    num_examples: int = 0,
    observer: Observer | None = None,
    num_observed: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Label every image as the protocol says and compare at the label's native size.

    name          of the data set in tables; None: its own
    model         or its engine, or that of an exported file
    device        moves the model there first; None, and exported files: it stays where it is
    num_workers   processes that read and decode; the result does not depend on it
    num_examples  images to keep for a report
    observer      is shown what the model said of an image beside its label; costs no second forward pass
    num_observed  images that the observer is shown, evenly spread; None: all

    A model in training comes back as it was: modes of its modules, random states, gradients. Images pass one by one,
    so that a score never depends on how images of different sizes were batched.

    Raises: InputError if the classes differ, the data set is empty, or a file cannot be used
    """
    engine: SegmentationEngine = Engine(model) if isinstance(model, Segmenter) else model
    name = dataset.name if name is None else name
    _check_classes(engine.class_names, dataset, name)
    num_images, num_classes = len(dataset), len(dataset.classes)
    if not num_images:
        raise InputError(f"Data set '{name}' is empty; a score needs at least one labelled image.")
    shown = spread(num_images, num_examples)
    watched = frozenset(spread(num_images, num_images if num_observed is None else num_observed))
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    per_image: list[Tensor] = []
    examples: list[Example] = []
    start = time.perf_counter()
    with untouched(engine), torch.no_grad():  # not inference_mode: what a part caches then would break later training
        if device is not None and isinstance(engine, nn.Module):
            engine.to(device)
        for index, sample in enumerate(_samples(dataset, num_workers)):
            size = (sample.label_map.shape[0], sample.label_map.shape[1])
            watch = None if index not in watched else observer
            with nullcontext() if watch is None else observed(_model_of(engine), sample, protocol, watch):
                prediction = protocol_labels(engine, sample.image, protocol, size)
            counts = confusion_matrix(prediction, sample.label_map.to(prediction.device), num_classes)
            confusion += counts
            per_image.append(torch.stack(margins(counts)))
            if index in shown:
                examples.append(_example(sample, prediction))
            if progress is not None:
                progress(index + 1, num_images)
    seconds = time.perf_counter() - start
    return Evaluation(name, dataset.classes, protocol, confusion, torch.stack(per_image), seconds, tuple(examples))


def _model_of(engine: SegmentationEngine) -> Segmenter:
    if not isinstance(engine, Engine):
        raise InputError("Exported files show labels but no queries; observe the run that they were made from.")
    return engine.model


def spread(length: int, number: int) -> list[int]:
    """The middles of `number` equal stretches of range(length): the same ones every time, not only the first frames."""
    number = min(length, number)
    return [(2 * i + 1) * length // (2 * number) for i in range(number)]


def _check_classes(known: tuple[str, ...], dataset: SegmentationDataset, name: str) -> None:
    given = dataset.classes.names
    if known == given:
        return
    if len(known) != len(given):
        difference = f"{len(known)} classes ({_ends(known)}), but data set '{name}' has {len(given)} ({_ends(given)})"
    else:
        label = next(i for i, (a, b) in enumerate(zip(known, given, strict=True)) if a != b)
        difference = f"label {label} as '{known[label]}', but data set '{name}' calls it '{given[label]}'"
    raise InputError(
        f"The model knows {difference}; give the data file the model's classes and a label_map that leads to them."
    )


def _ends(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} … {names[-1]}"


def _example(sample: Sample, prediction: Tensor) -> Example:
    picture = np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())
    return Example(sample.name, picture, sample.label_map.numpy(), prediction.cpu().numpy())


class _Sentences(Dataset[Sample | QuerysegError]):
    """Hands errors over as values: a loader's process would wrap them in its traceback and lose the one sentence."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample | QuerysegError:
        try:
            return self.dataset[index]
        except QuerysegError as error:
            return error


def _samples(dataset: SegmentationDataset, num_workers: int) -> Iterator[Sample]:
    for sample in DataLoader(_Sentences(dataset), batch_size=None, num_workers=num_workers):
        if isinstance(sample, QuerysegError):
            raise sample
        yield sample


@contextmanager
def untouched(engine: object) -> Iterator[None]:
    """Eval mode inside; afterwards every module is in its old mode (frozen parts of a training model are in eval mode
    on purpose) and all random states are as before (loaders, data sets and parts may draw)."""
    modules = list(engine.modules()) if isinstance(engine, nn.Module) else []
    modes = [(module, module.training) for module in modules]
    states = random.getstate(), np.random.get_state()
    devices = {p.device for module in modules for p in module.parameters(recurse=False) if p.device.type == "cuda"}
    try:
        with torch.random.fork_rng(devices=[d for d in devices if d.index is not None]):
            if isinstance(engine, nn.Module):
                engine.eval()
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for module, mode in modes:
            module.training = mode
