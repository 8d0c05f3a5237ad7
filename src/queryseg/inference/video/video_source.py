"""Frames of a file, a camera or a stream, decoded by FFmpeg through PyAV (extra `video`).

Shape legend: H×W pixels.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from queryseg.errors import InputError
from queryseg.extras import require
from queryseg.inference.video.frame_source import Frame, check_max_frames

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

LIVE_ADDRESSES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt")
ATTEMPTS = 5
"""A stream that breaks off is opened again so many times, after 1, 2, 4, … seconds."""
NETWORK_SECONDS = 10.0
"""A stream that sends nothing for so long has broken off."""


def import_av() -> Any:
    """PyAV. Raises: InputError naming the extra that it comes with"""
    return require("av", "Video", "video")


class VideoSource:
    """The frames of `source`, opened at once.

    source          a file, `camera:0` (`camera:/dev/video2`, on Windows `camera:NAME`), `rtsp://…` or another address
    max_frames      end after so many
    paced           a file plays at its own speed, as a camera would give it; then it is live
    decode_threads  of FFmpeg; one leaves the other cores to the model

    Frames are turned upright as the file says; timestamps never go back. A file whose damage the decoder cannot conceal
    is an error; of a live source such packets are skipped, and one that breaks off is opened again. `num_damaged`
    counts packets skipped and frames in which damage was concealed.

    Raises: InputError for what is no video, or a missing PyAV
    """

    def __init__(
        self,
        source: str | Path,
        max_frames: int | None = None,
        paced: bool = False,
        decode_threads: int = 1,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check_max_frames(max_frames)
        self._av = import_av()
        self.name = re.sub(r"(?<=://)[^/@]*@", "", str(source))  # without user and password
        self._address, self._format, self._options = _address(str(source))
        self._is_network = "://" in self._address
        is_stream = self._format is not None or self._address.partition("://")[0].lower() in LIVE_ADDRESSES
        self._reopens = is_stream
        self._paced = paced and not is_stream
        self.live = is_stream or paced
        self.waited, self.num_damaged = 0.0, 0
        self._max_frames, self._decode_threads, self._clock = max_frames, decode_threads, clock
        self._stopped = threading.Event()
        try:
            self._container: InputContainer | None = self._open()
        except (self._av.FFmpegError, OSError, ValueError) as error:
            raise InputError(
                f"'{self.name}' cannot be opened as a video ({_reason(error)}); {self._advice()}"
            ) from None
        stream = self._stream(self._container)
        self.rate: Fraction | None = stream.average_rate or stream.guessed_rate
        self.announced = None if is_stream else self._count(self._container, stream)
        """frames that the file says it has, dropped or cut-off ones included"""
        limits = [n for n in (self.announced, max_frames) if n is not None]
        self.num_frames = min(limits) if limits and (self.announced or is_stream) else None

    def __iter__(self) -> Iterator[Frame]:
        """Raises: InputError for damage in a file, or a stream that does not come back"""
        index, last, offset, begin = 0, -1.0, 0.0, self._clock()
        step = float(1 / (self.rate or 30))
        while not self._stopped.is_set():
            try:
                for raw in self._decoded():
                    captured = self._clock()
                    told = index * step if raw.time is None else float(raw.time)
                    if index == 0:
                        offset = -told
                    seconds = told + offset
                    if seconds <= last:  # streams start at 0 again after a reconnection
                        offset += last + step - seconds
                        seconds = last + step
                    if self._paced:
                        self._wait(begin + seconds - captured)
                        captured = self._clock()
                    yield Frame(index, seconds, captured, _upright(raw))
                    index, last = index + 1, seconds
                    if index == self._max_frames or self._stopped.is_set():
                        return
                reason = "it ended"
            except (self._av.FFmpegError, OSError) as error:
                reason = _reason(error)
                if not self._reopens:
                    raise InputError(
                        f"'{self.name}' is damaged after frame {index} ({reason}); repair or cut it, e.g. with ffmpeg."
                    ) from None
            finally:
                self._close()
            if not self._reopens:
                if index == 0:
                    raise InputError(f"'{self.name}' holds no frame that can be decoded; give another video.")
                return
            self._reopen(index, reason)

    def stop(self) -> None:
        """Wakes what waits; a network source ends after its time-out at the latest."""
        self._stopped.set()

    def _open(self) -> InputContainer:
        patience = NETWORK_SECONDS if self._is_network else None
        container: InputContainer = self._av.open(
            self._address, format=self._format, options=self._options, timeout=patience
        )
        return container

    def _stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise InputError(f"'{self.name}' has no pictures, only other streams; give a video.")
        stream: VideoStream = container.streams.video[0]
        stream.codec_context.thread_count = self._decode_threads
        return stream

    def _decoded(self) -> Iterator[VideoFrame]:
        if self._container is None:
            self._container = self._open()
        stream = self._stream(self._container)
        packets = iter(self._container.demux(stream))
        while True:
            start = self._clock()
            try:
                packet = next(packets)
            except StopIteration:
                return
            if self.live and not self._paced:
                self.waited += self._clock() - start
            try:
                frames = self._decode(packet)
            except self._av.error.InvalidDataError:
                if not self._reopens:
                    raise
                self.num_damaged += 1
                continue
            self.num_damaged += sum(frame.is_corrupt for frame in frames)
            yield from frames

    @staticmethod
    def _decode(packet: Packet[VideoStream]) -> list[VideoFrame]:
        return list(packet.decode())

    def _reopen(self, index: int, reason: str) -> None:
        for attempt in range(ATTEMPTS):
            self._wait(2.0**attempt)
            if self._stopped.is_set():
                return
            try:
                self._container = self._open()
                return
            except (self._av.FFmpegError, OSError) as error:
                reason = _reason(error)
        raise InputError(
            f"'{self.name}' broke off after frame {index} and did not come back in {ATTEMPTS} attempts ({reason}); "
            "check the camera and the network."
        )

    def _wait(self, seconds: float) -> None:
        start = self._clock()
        if seconds > 0:
            self._stopped.wait(seconds)
        self.waited += self._clock() - start

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _count(self, container: InputContainer, stream: VideoStream) -> int | None:
        if stream.frames:
            return int(stream.frames)
        length = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
        if length is None and container.duration:
            length = container.duration / self._av.time_base
        return round(length * self.rate) if length and self.rate else None

    def _advice(self) -> str:
        if self._format is not None:
            return "check that the camera is connected and no other program uses it."
        if self._is_network:
            return "check the address and the network."
        return "give a video file, camera:0 or rtsp://…"


def _address(name: str) -> tuple[str, str | None, dict[str, str]]:
    """What FFmpeg opens, as which format (None: it finds out), with which options."""
    if not name.startswith("camera:"):
        return name, None, {"rtsp_transport": "tcp", "fflags": "nobuffer"} if name.startswith("rtsp") else {}
    camera = name.removeprefix("camera:")
    if not camera:
        raise InputError("'camera:' needs a number or name behind it; the first camera is camera:0.")
    if sys.platform == "darwin":
        return f"{camera}:none", "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        return f"video={camera}", "dshow", {}
    return (f"/dev/video{camera}" if camera.isdigit() else camera), "v4l2", {}


def _upright(raw: VideoFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(H, W, 3) uint8 RGB"""
    pixels = raw.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    quarters = round(raw.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, quarters)) if quarters else pixels


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
