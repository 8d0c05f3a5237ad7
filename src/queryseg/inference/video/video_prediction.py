"""A trained model watches a video. The way of one frame:

    name of the thread   what happens                                       what it hands on
    decode               a picture of the source, RGB, its time of arrival  Frame
    prepare              (3, h, w) tensor at the size the model is shown    Frame, shown image
    infer                the model, on its device                           Frame, Finding
    enlarge              readout at the frame's size; moving average of     Frame, labels
                         scores, if asked for
    result               flicker, latency, deadline                         VideoFrame
    …                    stages of the caller, such as draw and encode      VideoFrame

Each line is a thread of its own, joined to the next by a bounded queue (`Pipeline`). FFmpeg, torch and NumPy release
Python's lock while they compute. `infer` uses as many cores as torch is told (`torch.set_num_threads`; so do `prepare`
and `enlarge`), every other stage one at most: on few cores leave one to the others. A GPU works
behind the back of `infer`, which only tells it what to do; its time shows where the labels are awaited, in `enlarge`.

Public: `Predictor.predict_video(source)` → `VideoPrediction`, an iterator of `VideoFrame`s with `.statistics`.
Shape legend: K classes, H×W pixels of a frame, h×w as shown to the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from queryseg.errors import InputError
from queryseg.inference.engine import Finding
from queryseg.inference.host_copies import download
from queryseg.inference.segmentation import Segmentation
from queryseg.inference.video.frame_source import ArraySource, Frame, FrameSource
from queryseg.inference.video.pipeline import Durations, Pipeline, Stage, StageTimes
from queryseg.inference.video.smoothing import ScoreSmoothing
from queryseg.inference.video.video_source import VideoSource
from queryseg.inference.windows import find, show
from queryseg.metrics.flicker import Flicker

if TYPE_CHECKING:
    from queryseg.inference.predictor import Predictor

Frames = str | Path | FrameSource | Iterable[npt.NDArray[np.uint8]]
"""A video file, `camera:0` or an address; a `FrameSource`; or arrays (H, W, 3), uint8, RGB."""


@dataclass(frozen=True)
class VideoFrame:
    """What the model says about one frame.

    index         of the frame in its source; gaps are frames that were dropped
    time          seconds since the beginning of the video
    segmentation  labels at the frame's own size
    latency       seconds from the frame's arrival to its labels
    """

    index: int
    time: float
    segmentation: Segmentation
    latency: float


@dataclass
class VideoStatistics:
    """Counts and times so far.

    frames          segmented
    dropped         replaced by a newer one before they were segmented
    missed          segmented later than the deadline
    latency         from arrival to labels; in a file that is read as fast as possible it includes waiting in queues
    stages          time per stage, in order
    flicker         see `metrics.flicker`
    time_per_frame  seconds between results, mean; nan before the second one
    """

    frames: int = 0
    missed: int = 0
    latency: Durations = field(default_factory=Durations)
    dropped: int = 0
    flicker: float = float("nan")
    stages: Sequence[StageTimes] = ()
    time_per_frame: float = float("nan")

    @property
    def slowest_stage(self) -> StageTimes:
        return max((s for s in self.stages if s.working.count), key=lambda s: s.working.mean)

    @property
    def over_slowest(self) -> float:
        """Time per frame over the mean time of the slowest stage: 1 if the others hide behind it entirely."""
        return self.time_per_frame / self.slowest_stage.working.mean if self.frames > 1 else float("nan")

    @property
    def over_sum(self) -> float:
        """Time per frame over the sum of the stages' mean times: 1 if nothing overlaps."""
        total = sum(s.working.mean for s in self.stages if s.working.count)
        return self.time_per_frame / total if self.frames > 1 else float("nan")


class VideoPrediction:
    """Iterates over `VideoFrame`s; the threads run while it does.

    drop_late   the newest frame wins and late ones are dropped; None: for live sources only. False: every frame, in
                order; a source that cannot wait then falls behind
    deadline    seconds from a frame's arrival to its labels; those that take longer count as missed
    smooth      weight of the past in a moving average of scores (`ScoreSmoothing`); 0: none
    max_frames  end after so many frames of the source
    then        further stages, VideoFrame → VideoFrame, each in a thread of its own
    queue_size  frames that may wait before each stage; with drop_late 1

    Break out of the loop, leave `with`, or call `close`: every thread ends.
    Raises: InputError
    """

    def __init__(
        self,
        predictor: Predictor,
        source: Frames,
        *,
        drop_late: bool | None = None,
        deadline: float | None = None,
        smooth: float = 0.0,
        max_frames: int | None = None,
        then: Sequence[Stage] = (),
        queue_size: int = 2,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if deadline is not None and not deadline > 0:
            raise InputError(f"The deadline is {deadline:g} s; give a time above 0.")
        self._smoothing = ScoreSmoothing(smooth)
        self.source = open_frames(source, max_frames, paced=bool(drop_late), clock=clock)
        self.drop_late = self.source.live if drop_late is None else drop_late
        self.deadline = deadline
        self._predictor, self._clock, self._flicker = predictor, clock, Flicker()
        self._statistics = VideoStatistics()
        self._first = self._last = 0.0
        stages = [
            Stage("prepare", self._prepare, newest_only=True),
            Stage("infer", self._infer, newest_only=True),
            Stage("enlarge", self._enlarge),
            Stage("result", self._result),
        ]
        self._pipeline = Pipeline(
            self.source, [*stages, *then], queue_size, self.drop_late, stop=self.source.stop, clock=clock
        )
        self._frames: Iterator[VideoFrame] = iter(self._pipeline)

    def __iter__(self) -> VideoPrediction:
        return self

    def __next__(self) -> VideoFrame:
        """Raises: StopIteration; InputError of a damaged source or of a stage, after the frames before it"""
        frame = next(self._frames)
        statistics, self._last = self._statistics, self._clock()
        if statistics.frames == 0:
            self._first = self._last
        statistics.frames += 1
        statistics.latency.add(frame.latency)
        statistics.missed += self.deadline is not None and frame.latency > self.deadline
        return frame

    @property
    def statistics(self) -> VideoStatistics:
        statistics = self._statistics
        statistics.dropped, statistics.stages = self._pipeline.dropped, self._pipeline.times
        statistics.flicker = self._flicker.value
        if statistics.frames > 1:
            statistics.time_per_frame = (self._last - self._first) / (statistics.frames - 1)
        return statistics

    @property
    def num_read(self) -> int:
        """Frames that the source has given so far."""
        return self._pipeline.times[0].working.count

    def close(self) -> None:
        self._pipeline.close()

    def __enter__(self) -> VideoPrediction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, frame: Frame) -> tuple[Frame, Tensor]:
        image = torch.from_numpy(frame.pixels).permute(2, 0, 1).contiguous()
        return frame, show(image, self._predictor.protocol)

    def _infer(self, prepared: tuple[Frame, Tensor]) -> tuple[Frame, Finding]:
        frame, shown = prepared
        size = (frame.pixels.shape[0], frame.pixels.shape[1])
        with self._predictor.arithmetic():
            return frame, find(self._predictor.engine, shown, self._predictor.protocol, size)

    def _enlarge(self, inferred: tuple[Frame, Finding]) -> tuple[Frame, npt.NDArray[np.uint8]]:
        frame, finding = inferred
        with self._predictor.arithmetic():
            if self._smoothing.weight:
                scores = finding.scores()[0].float()
                labels = self._smoothing(scores, frame.pixels).argmax(0).byte()
            else:
                labels = finding.labels()[0]
            arrived = download(labels)
        return frame, arrived().numpy()

    def _result(self, labelled: tuple[Frame, npt.NDArray[np.uint8]]) -> VideoFrame:
        frame, labels = labelled
        latency = self._clock() - frame.captured
        self._flicker.update(frame.pixels, labels)
        segmentation = Segmentation(frame.pixels, labels, self._predictor.classes)
        return VideoFrame(frame.index, frame.time, segmentation, latency)


def open_frames(
    source: Frames,
    max_frames: int | None = None,
    paced: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> FrameSource:
    """The frames that `source` names, see `VideoSource`. Raises: InputError"""
    if isinstance(source, str | Path):
        return VideoSource(source, max_frames, paced, clock=clock)
    if all(hasattr(source, name) for name in ("live", "rate", "waited", "stop")):
        if max_frames is not None:
            raise InputError("max_frames is given with a FrameSource; limit the source itself.")
        frames: FrameSource = source  # type: ignore[assignment]
        return frames
    return ArraySource(source, max_frames=max_frames, clock=clock)  # type: ignore[arg-type]
