"""A trained model, ready for a user's images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from queryseg.data.class_table import ClassTable
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.engine import CompiledEngine, Engine, SegmentationEngine
from queryseg.inference.host_copies import download
from queryseg.inference.image_source import ImageSource, as_batch, as_image, find_images
from queryseg.inference.panoptic import SegmentTask, check_task, protocol_segments
from queryseg.inference.precision import InferencePrecision, check_precision, matrix_products, with_weights_in
from queryseg.inference.query_pruning import TOLERANCE, PruningReport, prune_queries
from queryseg.inference.segment import found_segments
from queryseg.inference.segmentation import Segmentation
from queryseg.inference.vocabulary import Vocabulary
from queryseg.inference.windows import batch_labels, protocol_labels, protocol_scores, show, windowed_if_large
from queryseg.segmenter import Segmenter
from queryseg.types import Task

if TYPE_CHECKING:
    from queryseg.inference.video.video_prediction import Frames, VideoPrediction

__all__ = ["Predictor", "find_device", "find_images"]

STRIP_TOKENS = 1024
"""512×512 pixels in patches of 16."""


class Predictor:
    """Images → segmentations.

    model         is moved to the device and put in eval mode (half precision takes a copy); an engine, e.g. of an
                  exported file, stays as it is
    classes       what its labels mean
    protocol      how images are shown to it; None: whole, at their own size
    device        "auto": CUDA if there is one, else Apple's MPS, else the CPU
    precision     fp32, tf32, bf16 or fp16, see `InferencePrecision`
    compile       turn the graph into machine code, once per image size, see `CompiledEngine`
    task          what `predict` finds unless told otherwise: classes of pixels, or segments
    strip_tokens  patches whose masks are made at a time; fewer need less memory and more time. None: on a CPU
                  `STRIP_TOKENS`, elsewhere and compiled all at once

    Raises: InputError for a device or precision that there is not
    """

    def __init__(
        self,
        model: Segmenter | SegmentationEngine,
        classes: ClassTable,
        protocol: Protocol | None = None,
        device: str | torch.device = "auto",
        precision: InferencePrecision = "fp32",
        compile: bool = False,
        strip_tokens: int | None = None,
        task: Task = "semantic",
    ) -> None:
        check_task(task)
        if strip_tokens is not None and strip_tokens < 1:
            raise InputError(f"strip_tokens is {strip_tokens}; give at least 1 patch.")
        self.classes = classes
        self.protocol = protocol or Protocol()
        self.vocabulary: Vocabulary | None = None
        """Set by `queryseg.load` for other classes than those of training."""
        self.precision = precision
        self.task: Task = task
        self.engine: SegmentationEngine
        if isinstance(model, Segmenter):
            place = find_device(device)
            check_precision(precision, place)
            engine = Engine(with_weights_in(precision, model), precision).to(place).eval()
            if strip_tokens is None and place.type == "cpu" and not compile:
                strip_tokens = STRIP_TOKENS
            engine.model.decoder.strip_tokens = strip_tokens
            self.engine = CompiledEngine(engine) if compile else engine
        else:
            self.engine = model
        self.device = self.engine.device

    def predict(self, image: ImageSource, scores: bool = False, task: Task | None = None) -> Segmentation:
        """image: a path, a PIL image, or uint8 RGB values (see `ImageSource`); scores: keep the (K, H, W) scores, too.

        task  "semantic": classes of pixels; "panoptic": classes of stuff and objects of things; "instance": objects,
              which may overlap (see `Segmentation`); None: the predictor's own, which is what the run was trained for

        Raises: InputError naming a file that cannot be read; if the task does not go with the model, its protocol or
        its classes
        """
        chosen: Task = self.task if task is None else task
        check_task(chosen)
        pixels = as_image(image)
        if chosen != "semantic":
            if scores:
                raise InputError(f"Scores of pixels belong to the task 'semantic', but the task is '{chosen}'.")
            return self._segmented(pixels, chosen)
        protocol = self.protocol_for(pixels.shape[1], pixels.shape[2])
        with self.arithmetic():
            if scores:
                found = protocol_scores(self.engine, pixels, protocol)
                labels, kept = found.argmax(0).byte(), found.float().cpu().contiguous().numpy()
            else:
                labels, kept = protocol_labels(self.engine, pixels, protocol), None
        return Segmentation(_picture(pixels), labels.cpu().numpy(), self.classes, kept)

    def _segmented(self, pixels: Tensor, task: SegmentTask) -> Segmentation:
        with self.arithmetic():
            reading = protocol_segments(self.engine, pixels, self.protocol, self.classes, task)
        label_map, _ = reading.maps(self.classes.things)
        segment_map, segments = found_segments(reading, self.classes)
        return Segmentation(_picture(pixels), label_map.cpu().numpy(), self.classes, None, segment_map, segments)

    def labels(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The shortest way from a camera's memory to class indices, one image or a batch of equal size.

        images  (H, W, 3), (3, H, W), (B, H, W, 3) or (B, 3, H, W), uint8 RGB; with a last side of 3, RGB is last
        returns (H, W) or (B, H, W) uint8

        Raises: InputError
        """
        batch = as_batch(images)
        with self.arithmetic():
            found = download(batch_labels(self.engine, batch, self.protocol_for(batch.shape[2], batch.shape[3])))
        labels: npt.NDArray[np.uint8] = found().numpy()
        return labels if images.ndim == 4 else labels[0]

    def protocol_for(self, height: int, width: int) -> Protocol:
        """How an image of this size is shown: as `protocol` says, but in windows of 512 if that is whole and the image
        too large for it (see `windowed_if_large`; exported files fit images to themselves)."""
        if isinstance(self.engine, Engine | CompiledEngine):
            return windowed_if_large(self.protocol, (height, width))
        return self.protocol

    def predict_many(self, images: Iterable[str | Path]) -> Iterator[Segmentation]:
        """One segmentation per file, in order; the next file is read while the model works on this one."""
        with ThreadPoolExecutor(1) as reader:
            paths = iter(images)
            coming = [reader.submit(as_image, path) for path in _take(paths, 2)]
            while coming:
                pixels = coming.pop(0).result()
                coming += [reader.submit(as_image, path) for path in _take(paths, 1)]
                yield self.predict(pixels)

    def predict_video(
        self,
        source: Frames,
        drop_late: bool | None = None,
        deadline: float | None = None,
        smooth: float = 0.0,
        max_frames: int | None = None,
    ) -> VideoPrediction:
        """One `VideoFrame` (index, time, segmentation, latency) per frame, decoded while the model works on others.

        source     a video file, "camera:0", "rtsp://…", or arrays (H, W, 3), uint8, RGB
        drop_late  the newest frame wins; None: for live sources only, and every frame of a file, in order
        deadline   seconds from a frame's arrival to its labels; `.statistics.missed` counts what takes longer
        smooth     weight of the past in a moving average of scores, 0 (none) to below 1

        Raises: InputError
        """
        from queryseg.inference.video.video_prediction import VideoPrediction  # it is made of a Predictor

        return VideoPrediction(
            self, source, drop_late=drop_late, deadline=deadline, smooth=smooth, max_frames=max_frames
        )

    def prune(self, images: Iterable[ImageSource], tolerance: float = TOLERANCE) -> PruningReport:
        """From now on read only the queries that these images need, see `prune_queries`; shown as predicted images are.

        Raises: InputError
        """
        engine = self.engine.engine if isinstance(self.engine, CompiledEngine) else self.engine
        if self.task != "semantic":
            raise InputError(
                f"Pruning keeps the scores of pixels, not segments, but the task is '{self.task}'; load the run with "
                "the task 'semantic' to prune it."
            )
        if not isinstance(engine, Engine):
            raise InputError("An exported file cannot be pruned; prune the run and export it again.")
        if self.protocol.window is not None:
            raise InputError(f"Pruning shows whole images, but the protocol has windows: {self.protocol}.")
        shown = [show(as_image(image), self.protocol) for image in images]
        model, report = prune_queries(engine.model, shown, tolerance, engine.precision)
        pruned = Engine(model, engine.precision).eval()
        self.engine = CompiledEngine(pruned) if isinstance(self.engine, CompiledEngine) else pruned
        return report

    @contextmanager
    def arithmetic(self) -> Iterator[None]:
        """For whoever calls the engine: no gradients, and the predictor's way of multiplying matrices."""
        # not inference_mode: what a part caches then would break later training of the same model
        with torch.no_grad(), matrix_products(self.precision):
            yield


def recorded_protocol(recipe: Mapping[str, Any]) -> Protocol:
    """The protocol that a run's recipe was validated with."""
    return Protocol(**((recipe.get("data") or {}).get("protocol") or {}))


def recorded_task(recipe: Mapping[str, Any]) -> Task:
    """What a run's recipe was trained for."""
    task: Task = (recipe.get("data") or {}).get("task") or "semantic"
    check_task(task)
    return task


def find_device(name: str | torch.device) -> torch.device:
    """The device of a torch name or of "auto". Raises: InputError if this machine does not have it."""
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch has one for each way of not having it
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"Device '{name}' cannot be used here ({reason}); try 'auto' or 'cpu'.") from error
    return device


def _take(paths: Iterator[str | Path], number: int) -> list[str | Path]:
    return [path for _, path in zip(range(number), paths, strict=False)]


def _picture(pixels: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(3, H, W) → (H, W, 3) array"""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())
