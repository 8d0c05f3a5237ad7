"""Writes pictures or label maps as a video, encoded by FFmpeg through PyAV (extra `video`).

Shape legend: H×W pixels.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from queryseg.errors import InputError
from queryseg.inference.video.video_source import import_av

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

Content = Literal["pictures", "labels"]

PICTURE_CODECS = ("libopenh264", "libx264", "mpeg4")
"""The first one that the installed FFmpeg has. H.264 plays everywhere: Cisco's BSD-licensed encoder, then x264 (GPL; in
PyAV's wheels); MPEG-4 part 2, FFmpeg's own (LGPL), always exists."""

_OPTIONS = {
    "libx264": {"preset": "ultrafast", "tune": "zerolatency", "crf": "20"},
    "mpeg4": {"qmin": "3", "qmax": "5"},
    "ffv1": {"level": "3"},
}
_TICK = Fraction(1, 60_000)
"""Exact for 25, 30, 50, 60, 29.97 and 59.94 frames per second; MPEG-4 allows at most 1/65535."""
_BT709 = 1
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


class VideoWriter:
    """One video file; whatever was written stays playable if the program, the disk or the power ends.

    path     .mp4 (fragmented, a fragment per second), .mkv or another ending that FFmpeg knows; labels need .mkv
    rate     frames per second that players are told; every frame keeps its own timestamp
    content  "pictures": RGB, lossy H.264 or MPEG-4, 4:2:0, which needs even sizes: an odd last row or column is doubled
             "labels": 8-bit grey, lossless (FFV1): values read back are class indices; timestamps are rounded to 1 ms
    codec    of pictures, FFmpeg's name; None: the first of `PICTURE_CODECS`

    The first frame sets the size; later ones of another size are scaled to it (labels: nearest).
    Raises: InputError for an unknown codec or a file that cannot be written
    """

    def __init__(
        self, path: str | Path, rate: Fraction | float = 30, content: Content = "pictures", codec: str | None = None
    ) -> None:
        self.path, self.content = Path(path), content
        self._av = import_av()
        if content == "labels" and self.path.suffix.lower() != ".mkv":
            raise InputError(f"'{path}' does not end in .mkv; label videos are lossless FFV1, which needs Matroska.")
        self.codec = "ffv1" if content == "labels" else self._find(codec)
        self._rate = Fraction(rate).limit_denominator(1001)
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._last = -1

    def write(self, picture: npt.NDArray[np.uint8], time: float) -> None:
        """picture (H, W, 3) RGB, or (H, W) labels; time in seconds, later than the frame before.

        Raises: InputError if the disk is full or the file cannot be written
        """
        if self._stream is None:
            self._open(*picture.shape[:2])
        assert self._stream is not None
        assert self._container is not None
        is_labels = self.content == "labels"
        if not is_labels:
            picture = _even(picture)
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="gray" if is_labels else "rgb24")
        size = (self._stream.width, self._stream.height)
        if not is_labels:
            frame = frame.reformat(*size, format="yuv420p", dst_colorspace="ITU709")
        elif (frame.width, frame.height) != size:
            frame = frame.reformat(*size, interpolation="POINT")
        self._last = max(self._last + 1, round(time / _TICK))
        frame.pts, frame.time_base = self._last, _TICK
        try:
            self._container.mux(self._stream.encode(frame))
        except (self._av.FFmpegError, OSError) as error:
            raise self._unwritable(error) from None

    def close(self) -> None:
        """Raises: InputError if the end cannot be written"""
        container, stream, self._container, self._stream = self._container, self._stream, None, None
        if container is None:
            return
        try:
            if stream is not None:
                container.mux(stream.encode(None))
            container.close()
        except (self._av.FFmpegError, OSError) as error:
            with contextlib.suppress(Exception):
                container.close()
            raise self._unwritable(error) from None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # the first error is the one to tell
            with contextlib.suppress(InputError):
                self.close()

    def _open(self, height: int, width: int) -> None:
        try:
            options = _FRAGMENTS if self.path.suffix.lower() in (".mp4", ".mov", ".m4v") else {}
            container = self._av.open(str(self.path), "w", options=options)
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise self._unwritable(error) from None
        self._container = container
        stream: Any = container.add_stream(self.codec, rate=self._rate, options=_OPTIONS.get(self.codec, {}))
        is_labels = self.content == "labels"
        stream.width, stream.height = (width, height) if is_labels else (width + width % 2, height + height % 2)
        stream.pix_fmt = "gray" if is_labels else "yuv420p"
        context = stream.codec_context
        context.time_base, context.thread_count = _TICK, 1
        if not is_labels:
            context.gop_size = max(1, round(self._rate))
            context.colorspace = context.color_primaries = context.color_trc = _BT709
        self._stream = stream

    def _find(self, codec: str | None) -> str:
        for name in PICTURE_CODECS if codec is None else (codec,):
            with contextlib.suppress(self._av.codec.codec.UnknownCodecError):
                if self._av.Codec(name, "w").type == "video":
                    return name
        raise InputError(f"FFmpeg has no video encoder '{codec}' here; try one of: {', '.join(PICTURE_CODECS)}.")

    def _unwritable(self, error: Exception) -> InputError:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        return InputError(f"'{self.path}' cannot be written ({reason}); choose a folder with room in it.")


def _even(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
