"""Segment images or video with a trained run. Images (a file, a folder or a glob) become label PNGs (class indices),
colours and overlays; with --task panoptic or instance, PNGs of segment ids, one JSON in COCO's panoptic format, colours
and overlays. Video (a file, camera:0, rtsp://…) becomes an overlay (MP4) and, if asked for, a lossless video of
class indices (MKV): of a file every frame, in order; of a live source the newest frame, while late ones are dropped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from queryseg.cli.evaluation_options import add_protocol_options, changed_protocol
from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.cli.predict_video import add_video_arguments, check_images_only, predict_video
from queryseg.cli.run_options import add_class_options, add_run_options, asked_classes, tell_base, tell_classes
from queryseg.data.coco_panoptic import CocoPanoptic, PanopticImage, categories_of
from queryseg.errors import UsageError
from queryseg.inference.precision import InferencePrecision
from queryseg.inference.predictor import Predictor, find_images
from queryseg.inference.segment import Segment
from queryseg.inference.segmentation import Kind, Segmentation
from queryseg.inference.video.frame_source import is_video
from queryseg.loading import load
from queryseg.types import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, images or a video, a folder."""
    parser.add_argument("run", type=Path, help="folder of a run, or an exported file")
    parser.add_argument(
        "source",
        help="an image, a folder (with its subfolders), a glob such as 'frames/*.jpg', a video, camera:0 or rtsp://…",
    )
    parser.add_argument(
        "--task",
        choices=get_args(Task),
        help="classes of pixels, or segments of images (default: what the run was trained for; videos: semantic)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    add_protocol_options(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default auto)")
    parser.add_argument(
        "--precision", choices=get_args(InferencePrecision), default="fp32", help="of a run's arithmetic (default fp32)"
    )
    parser.add_argument(
        "--compile", action="store_true", help="make machine code for every image size: slow at first, faster then"
    )
    add_run_options(parser)
    add_class_options(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="files, and every class's share or a video's figures, for machines"
    )
    add_video_arguments(parser)


def load_predictor(options: argparse.Namespace) -> Predictor:
    """What the arguments name."""
    predictor = load(
        options.run,
        allow=options.allow_code,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        task=options.task,
        base=options.base,
        classes=asked_classes(options),
        text_tower=options.text_tower,
    )
    tell_base(options.run)
    tell_classes(predictor.vocabulary)
    predictor.protocol = changed_protocol(options, predictor.protocol)
    return predictor


def run(options: argparse.Namespace) -> int:
    """PNGs of every image under --out, and a JSON if they hold segments; or a video's overlay and labels."""
    if is_video(options.source):
        if options.task not in (None, "semantic"):
            raise UsageError(f"--task {options.task} is for images; videos are segmented semantically.")
        return predict_video(options, load_predictor(options))
    check_images_only(options)
    images = find_images(options.source)
    predictor = load_predictor(options)
    out = make_folder(options.out)
    root = Path(options.source) if Path(options.source).is_dir() else None
    task = predictor.task
    kinds: dict[str, Kind] = {"labels": "labels"} if task == "semantic" else {task: "segments"}
    kinds |= {"color": "color", "overlay": "overlay"}
    results, annotations = [], []
    with progress_bar("predicting") as progress:
        for number, path in enumerate(images, 1):
            result = predictor.predict(path)
            height, width = result.labels.shape
            if (protocol := predictor.protocol_for(height, width)) != predictor.protocol:
                note = f"{path}: {width}×{height} pixels are too many to be shown whole; shown as: {protocol}."
                console.print(note, soft_wrap=True)
            stem = (path.relative_to(root) if root else Path(path.name)).with_suffix("")
            make_folder((out / stem).parent)
            files = {}
            for name, kind in kinds.items():
                files[name] = f"{out / stem}_{name}.png"
                result.save(files[name], kind)
            found: dict[str, object] = {"image": str(path), "files": files, "share": result.share()}
            if result.segment_map is not None:
                annotations.append(annotation(result, stem, path.suffix, task))
                found["segments"] = [_plain(segment) for segment in result.segments]
            results.append(found)
            progress(number, len(images))
    written = [f"*_{name}.png" for name in kinds]
    if task != "semantic":
        index = out / f"{task}.json"
        CocoPanoptic(categories_of(predictor.classes), tuple(annotations)).write(index)
        written.append(index.name)
    console.print(f"{len(images)} image(s) segmented into {out}: {', '.join(written)}", soft_wrap=True)
    vocabulary = {} if predictor.vocabulary is None else {"vocabulary": predictor.vocabulary.to_json()}
    write_json(options.json, {"classes": list(predictor.classes.names), **vocabulary, "images": results})
    return 0


def annotation(result: Segmentation, stem: Path, suffix: str, task: Task) -> PanopticImage:
    """An image of the JSON. stem: its path below the source, without suffix."""
    name = stem.as_posix()
    height, width = result.labels.shape
    return PanopticImage(name, f"{name}{suffix}", f"{name}_{task}.png", (height, width), result.segments_info())


def _plain(segment: Segment) -> dict[str, object]:
    names = ("id", "class_name", "label", "is_thing", "score", "area", "bbox")
    return {name: getattr(segment, name) for name in names}
