"""Where frames come from: an array at a time, or a video (see `video_source`).

Shape legend: H×W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from queryseg.errors import InputError

VIDEO_EXTENSIONS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv")


@dataclass(frozen=True)
class Frame:
    """One picture of a video.

    index     0, 1, … in the order of the source, dropped frames included
    time      seconds since the beginning of the video, as the source tells
    captured  when it arrived here, in seconds of the pipeline's clock
    pixels    (H, W, 3) uint8 RGB, upright
    """

    index: int
    time: float
    captured: float
    pixels: npt.NDArray[np.uint8]


class FrameSource(Protocol):
    """What a pipeline needs to know of frames before it sees them.

    name        as errors and reports call it
    live        frames come when they come, whether one is ready for them or not
    rate        frames per second, as far as known
    num_frames  how many there will be, as far as known
    waited      seconds spent so far in waiting for frames to come, not in decoding them
    """

    name: str
    live: bool
    rate: Fraction | None
    num_frames: int | None
    waited: float

    def __iter__(self) -> Iterator[Frame]: ...

    def stop(self) -> None:
        """Iteration ends soon; called from another thread."""


class ArraySource:
    """Frames that a program already has: uint8 RGB arrays (H, W, 3), one after the other.

    rate        their number per second, for timestamps
    live        they come at their own pace, so late ones may be dropped
    max_frames  end after so many
    """

    def __init__(
        self,
        arrays: Iterable[npt.NDArray[np.uint8]],
        rate: Fraction | int = 30,
        live: bool = False,
        max_frames: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if rate <= 0:
            raise InputError(f"A video's rate is given as {rate}; give frames per second, above 0.")
        check_max_frames(max_frames)
        self.name, self.live, self.waited = "frames", live, 0.0
        self.rate: Fraction | None = Fraction(rate)
        self._step = float(1 / Fraction(rate))
        counts = [len(arrays)] if isinstance(arrays, Sized) else []
        self.num_frames = min([*counts, max_frames]) if max_frames is not None and counts else next(iter(counts), None)
        self._arrays, self._clock, self._max_frames = arrays, clock, max_frames
        self._stopped = False

    def __iter__(self) -> Iterator[Frame]:
        """Raises: InputError for something that is no picture"""
        for index, pixels in enumerate(islice(self._arrays, self._max_frames)):
            if self._stopped:
                return
            if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)):
                given = f"{pixels.shape} of {pixels.dtype}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
                raise InputError(f"Frame {index} is given as {given}; frames are arrays (H, W, 3), uint8, RGB.")
            yield Frame(index, index * self._step, self._clock(), pixels)

    def stop(self) -> None:
        self._stopped = True


def is_video(source: str | Path) -> bool:
    """Whether a name stands for a video: `camera:0`, an address (`rtsp://…`), or a file by its extension."""
    name = str(source)
    return name.startswith("camera:") or "://" in name or Path(name).suffix.lower() in VIDEO_EXTENSIONS


def check_max_frames(max_frames: int | None) -> None:
    """Raises: InputError"""
    if max_frames is not None and max_frames < 1:
        raise InputError(f"The number of frames is limited to {max_frames}; give at least 1.")
