"""The video half of `queryseg predict`: options, files, progress and the summary."""

from __future__ import annotations

import argparse
import math
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.data.class_table import ClassTable
from queryseg.data.drawing import OverlayPainter
from queryseg.errors import UsageError
from queryseg.inference.predictor import Predictor
from queryseg.inference.video.frame_source import FrameSource
from queryseg.inference.video.pipeline import Durations, Stage
from queryseg.inference.video.video_prediction import VideoFrame, VideoPrediction, VideoStatistics
from queryseg.inference.video.video_source import VideoSource
from queryseg.inference.video.video_writer import VideoWriter

SAVES = ("overlay", "labels", "both")


def add_video_arguments(parser: argparse.ArgumentParser) -> None:
    """What only videos know; each is None unless it is given."""
    group = parser.add_argument_group("video")
    group.add_argument("--save", choices=SAVES, help="which videos are written (default overlay)")
    group.add_argument(
        "--drop-late",
        action=argparse.BooleanOptionalAction,
        help="the newest frame wins (default for cameras and streams); a file then plays at its own speed",
    )
    group.add_argument("--deadline", type=seconds, metavar="33ms", help="count frames whose labels come later")
    group.add_argument("--smooth", type=float, metavar="0.5", help="weight of past scores in a moving average (0…1)")
    group.add_argument("--max-frames", type=int, metavar="N", help="end after so many frames")
    group.add_argument("--threads", type=int, metavar="N", help="of the model; leave a core to decoding and encoding")
    group.add_argument("--codec", help="FFmpeg's encoder of the overlay (default H.264, else mpeg4)")


def seconds(text: str) -> float:
    """33ms or 0.5s → seconds"""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no time; write 33ms or 0.5s")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def check_images_only(options: argparse.Namespace) -> None:
    """Raises: UsageError for a video's option beside images"""
    for name in ("save", "drop_late", "deadline", "smooth", "max_frames", "threads", "codec"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} is for video, but '{options.source}' is none; leave it out.")


def predict_video(options: argparse.Namespace, predictor: Predictor) -> int:
    """An overlay (MP4) and label maps (MKV) under --out; what is written so far stays playable whatever happens."""
    if options.threads is not None:
        if options.threads < 1:
            raise UsageError(f"--threads is {options.threads}; give at least 1.")
        torch.set_num_threads(options.threads)
    source = VideoSource(options.source, options.max_frames, paced=bool(options.drop_late))
    out = make_folder(options.out)
    save, stem = options.save or "overlay", _stem(options.source)
    stages, writers = writing_stages(out / stem, save, source, predictor.classes, options.codec)
    interrupted = False
    with ExitStack() as closing:
        for writer in writers.values():
            closing.enter_context(writer)
        prediction = closing.enter_context(
            VideoPrediction(
                predictor,
                source,
                drop_late=options.drop_late,
                deadline=options.deadline,
                smooth=options.smooth or 0.0,
                then=stages,
            )
        )
        with progress_bar("predicting") as progress:
            try:
                for frame in prediction:
                    progress(frame.index + 1, source.num_frames)
            except KeyboardInterrupt:
                interrupted = True
    statistics = prediction.statistics
    files = {kind: str(writer.path) for kind, writer in writers.items()}
    _print_summary(statistics, files, options.deadline)
    if source.num_damaged:
        console.print(f"{source.num_damaged} frames are damaged: skipped, or patched by the decoder")
    is_short = source.announced and not (options.max_frames or interrupted)
    if is_short and prediction.num_read < 0.95 * (source.announced or 0):
        console.print(
            f"The file announces about {source.announced} frames, {prediction.num_read} are in it: it may be cut off"
        )
    told = {"source": source.name, "files": files, "damaged": source.num_damaged, "read": prediction.num_read}
    write_json(options.json, told | summary(statistics))
    if interrupted:
        raise KeyboardInterrupt(f"stopped after {statistics.frames} frames; they are in {out}")
    return 0


def summary(statistics: VideoStatistics) -> dict[str, Any]:
    """The figures for machines; times in ms, unknown ones null."""
    stages = {
        times.name: {
            **_milliseconds(times.working),
            "starved_s": round(times.starved, 3),
            "blocked_s": round(times.blocked, 3),
        }
        for times in statistics.stages
    }
    return {
        "frames": statistics.frames,
        "dropped": statistics.dropped,
        "missed_deadlines": statistics.missed,
        "latency_ms": _milliseconds(statistics.latency),
        "time_per_frame_ms": _number(1000 * statistics.time_per_frame),
        "over_slowest_stage": _number(statistics.over_slowest),
        "over_sum_of_stages": _number(statistics.over_sum),
        "flicker": _number(statistics.flicker, 6),
        "stages_ms": stages,
    }


def writing_stages(
    path: Path, save: str, source: FrameSource, classes: ClassTable, codec: str | None
) -> tuple[list[Stage], dict[str, VideoWriter]]:
    """The stages that draw and encode, and the writers to close after them: `path`_overlay.mp4, `path`_labels.mkv."""
    rate = source.rate or 30
    stages: list[Stage] = []
    writers: dict[str, VideoWriter] = {}
    if save in ("labels", "both"):
        labels = writers["labels"] = VideoWriter(f"{path}_labels.mkv", rate, "labels")

        def encode_labels(frame: VideoFrame) -> VideoFrame:
            labels.write(frame.segmentation.labels, frame.time)
            return frame

        stages.append(Stage("encode labels", encode_labels))
    if save in ("overlay", "both"):
        overlay = writers["overlay"] = VideoWriter(f"{path}_overlay.mp4", rate, "pictures", codec)
        paint = OverlayPainter(classes)

        def draw(frame: VideoFrame) -> VideoFrame:
            paint(frame.segmentation.image, frame.segmentation.labels)  # in place: nobody looks at the frame later
            return frame

        def encode(frame: VideoFrame) -> VideoFrame:
            overlay.write(frame.segmentation.image, frame.time)
            return frame

        stages += [Stage("draw", draw), Stage("encode", encode)]
    return stages, writers


def _print_summary(statistics: VideoStatistics, files: dict[str, str], deadline: float | None) -> None:
    late = "" if deadline is None else f", {statistics.missed} later than {1000 * deadline:g} ms"
    console.print(f"{statistics.frames} frames segmented, {statistics.dropped} dropped{late}", soft_wrap=True)
    if statistics.frames:
        table = Table("ms per frame", "p50", "p95", "p99")
        rows = [(stage.name, stage.working) for stage in statistics.stages]
        for name, times in (*rows, ("arrival to labels", statistics.latency)):
            table.add_row(name, *(f"{1000 * times.percentile(percent):.1f}" for percent in (50, 95, 99)))
        console.print(table)
    if statistics.frames > 1:
        console.print(
            f"{1000 * statistics.time_per_frame:.1f} ms per frame: {statistics.over_slowest:.2f} × the slowest stage "
            f"({statistics.slowest_stage.name}), {statistics.over_sum:.2f} × the sum of the stages",
            soft_wrap=True,
        )
    if not math.isnan(statistics.flicker):
        console.print(f"flicker: {100 * statistics.flicker:.2f} % of steady pixels change their label per frame")
    for path in files.values():
        if statistics.frames:
            console.print(path, soft_wrap=True)


def _milliseconds(times: Durations) -> dict[str, float | None]:
    percentiles = {f"p{percent}": _number(1000 * times.percentile(percent)) for percent in (50, 95, 99)}
    return {"mean": _number(1000 * times.mean), **percentiles, "max": _number(1000 * times.largest)}


def _number(value: float, digits: int = 3) -> float | None:
    return None if math.isnan(value) else round(value, digits)


def _stem(source: str) -> str:
    """camera:0 → camera_0, rtsp://user:password@host/live?x=1 → host_live, a/b.mp4 → b"""
    if "://" in source:
        address = re.sub(r"^[^/]*@", "", source.partition("://")[2]).partition("?")[0]
        return re.sub(r"[^\w.-]+", "_", address).strip("_") or "stream"
    if source.startswith("camera:"):
        return re.sub(r"[^\w.-]+", "_", source).strip("_")
    return Path(source).stem
