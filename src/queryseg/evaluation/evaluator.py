"""Compares a model with a labelled data set.

Shape legend: N images, K classes, H×W pixels.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from queryseg.data.dataset import SegmentationDataset, layout_and_split
from queryseg.data.protocol import Protocol, ProtocolPreset, protocol_of
from queryseg.errors import InputError, QuerysegError
from queryseg.evaluation.class_agreement import check_classes
from queryseg.evaluation.evaluation import Evaluation, Example
from queryseg.evaluation.measures import MapReader, Measures, SegmentFinder, build_metrics
from queryseg.evaluation.observation import Observer, observed
from queryseg.inference.engine import Engine, SegmentationEngine
from queryseg.inference.windows import compared, protocol_labels, windowed_if_large
from queryseg.metrics.pixel_scores import PixelScores
from queryseg.segmenter import Segmenter
from queryseg.types import Sample

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


def evaluate(
    model: Segmenter | SegmentationEngine,
    dataset: SegmentationDataset,
    protocol: Protocol | ProtocolPreset,
    *,
    name: str | None = None,
    device: torch.device | None = None,
    num_workers: int = 0,
    num_examples: int = 0,
    measures: Measures = (),
    find_segments: SegmentFinder | None = None,
    observer: Observer | None = None,
    num_observed: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Label every image as the protocol says and compare at the label's native size, or at the one that it says.

    protocol      a preset gives what holds for the data set's layout
    name          of the data set in tables; None: its own
    model         or its engine, or that of an exported file
    device        moves the model there first; None, and exported files: it stays where it is
    num_workers   processes that read and decode; the result does not depend on it
    num_examples  images to keep for a report
    measures      what to measure besides the labels of all pixels: "boundary", "panoptic", "calibration", or metrics
    find_segments of the model, for panoptic quality; None: connected pixels of one thing are one object
    observer      is shown what the model said of an image beside its label; costs no second forward pass
    num_observed  images that the observer is shown, evenly spread; None: all

    A model in training comes back as it was: modes of its modules, random states, gradients. Images pass one by one,
    so that a score never depends on how images of different sizes were batched.

    Raises: InputError if the classes differ, the data set is empty, a file cannot be used, or an image is too large to
    be shown whole
    """
    layout, split = layout_and_split(dataset)
    protocol = protocol_of(protocol, layout)
    engine: SegmentationEngine = Engine(model) if isinstance(model, Segmenter) else model
    name = dataset.name if name is None else name
    check_classes(engine.class_names, dataset, name)
    num_images, num_classes = len(dataset), len(dataset.classes)
    if not num_images:
        raise InputError(f"Data set '{name}' is empty; a score needs at least one labelled image.")
    shown = spread(num_images, num_examples)
    watched = frozenset(spread(num_images, num_images if num_observed is None else num_observed))
    metrics = build_metrics(measures, dataset.classes, find_segments)
    pixels, needs = PixelScores(num_classes), frozenset[str]().union(*(metric.needs for metric in metrics))
    reader = MapReader(engine, protocol, dataset.classes, needs, find_segments)
    examples: list[Example] = []
    image_names: list[str] = []
    start = time.perf_counter()
    with untouched(engine), torch.no_grad():  # not inference_mode: what a part caches then would break later training
        if device is not None and isinstance(engine, nn.Module):
            engine.to(device)
        for index, sample in enumerate(_samples(dataset, num_workers)):
            sample = compared(sample, protocol)
            if isinstance(engine, Engine):
                _check_affordable(sample, protocol)
            watch = None if index not in watched else observer
            with nullcontext() if watch is None else observed(_model_of(engine), sample, protocol, watch):
                prediction = reader.read(sample)
            if "panoptic" in needs:
                prediction = replace(prediction, panoptic=reader.segments(sample, prediction.label_map))
            beside = replace(sample, label_map=sample.label_map.to(prediction.label_map.device))  # once for all
            for metric in (pixels, *metrics):
                metric.update(prediction, beside)
            image_names.append(sample.name)
            if index in shown:
                examples.append(_example(sample, prediction.label_map))
            if progress is not None:
                progress(index + 1, num_images)
    seconds = time.perf_counter() - start
    found = pixels.compute()
    assert found.total is not None, "pixel scores keep the confusion matrix"
    return Evaluation(
        name,
        dataset.classes,
        protocol,
        found.total,
        found.statistics.long(),
        seconds,
        tuple(examples),
        split,
        {metric.name: metric.compute() for metric in metrics},
        layout,
        tuple(image_names),
    )


def predict_examples(
    model: Segmenter | SegmentationEngine,
    dataset: SegmentationDataset,
    protocol: Protocol | ProtocolPreset,
    indices: Sequence[int],
) -> list[Example]:
    """Some images once more, with the labels that `evaluate` compared. Raises: InputError if a file cannot be read"""
    protocol = protocol_of(protocol, layout_and_split(dataset)[0])
    engine: SegmentationEngine = Engine(model) if isinstance(model, Segmenter) else model
    examples = []
    with untouched(engine), torch.no_grad():
        for index in indices:
            sample = compared(dataset[index], protocol)
            height, width = sample.label_map.shape
            examples.append(_example(sample, protocol_labels(engine, sample.image, protocol, (height, width))))
    return examples


def _check_affordable(sample: Sample, protocol: Protocol) -> None:
    height, width = sample.image.shape[1:]
    if windowed_if_large(protocol, (height, width)) != protocol:
        raise InputError(
            f"Image '{sample.name}' has {width}×{height} pixels, too many to be shown whole as the protocol says "
            f"({protocol}); evaluate in windows, e.g. --window 512, or at a smaller size, e.g. --short-side 512."
        )


def _model_of(engine: SegmentationEngine) -> Segmenter:
    if not isinstance(engine, Engine):
        raise InputError("Exported files show labels but no queries; observe the run that they were made from.")
    return engine.model


def spread(length: int, number: int) -> list[int]:
    """The middles of `number` equal stretches of range(length): the same ones every time, not only the first frames."""
    number = min(length, number)
    return [(2 * i + 1) * length // (2 * number) for i in range(number)]


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
