"""Segment images or video with a trained run. Images (a file, a folder or a glob) become label PNGs (class indices),
colours and overlays. Video (a file, camera:0, rtsp://…) becomes an overlay (MP4) and, if asked for, a lossless video of
class indices (MKV): of a file every frame, in order; of a live source the newest frame, while late ones are dropped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.cli.predict_video import add_video_arguments, check_images_only, predict_video
from queryseg.cli.run_options import add_run_options, tell_base
from queryseg.inference.precision import InferencePrecision
from queryseg.inference.predictor import Predictor, find_images
from queryseg.inference.video.frame_source import is_video
from queryseg.loading import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, images or a video, a folder."""
    parser.add_argument("run", type=Path, help="folder of a run, or an exported file")
    parser.add_argument(
        "source",
        help="an image, a folder (with its subfolders), a glob such as 'frames/*.jpg', a video, camera:0 or rtsp://…",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default auto)")
    parser.add_argument(
        "--precision", choices=get_args(InferencePrecision), default="fp32", help="of a run's arithmetic (default fp32)"
    )
    parser.add_argument(
        "--compile", action="store_true", help="make machine code for every image size: slow at first, faster then"
    )
    add_run_options(parser)
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
        base=options.base,
    )
    tell_base(options.run)
    return predictor


def run(options: argparse.Namespace) -> int:
    """Three PNGs per image under --out, or a video's overlay and labels, named after it."""
    if is_video(options.source):
        return predict_video(options, load_predictor(options))
    check_images_only(options)
    images = find_images(options.source)
    predictor = load_predictor(options)
    out = make_folder(options.out)
    root = Path(options.source) if Path(options.source).is_dir() else None
    results = []
    with progress_bar("predicting") as progress:
        for number, path in enumerate(images, 1):
            result = predictor.predict(path)
            stem = (path.relative_to(root) if root else Path(path.name)).with_suffix("")
            make_folder((out / stem).parent)
            files = {}
            for kind in ("labels", "color", "overlay"):
                files[kind] = f"{out / stem}_{kind}.png"
                result.save(files[kind], kind)
            results.append({"image": str(path), "files": files, "share": result.share()})
            progress(number, len(images))
    console.print(
        f"{len(images)} image(s) segmented into {out}: *_labels.png, *_color.png, *_overlay.png", soft_wrap=True
    )
    write_json(options.json, {"classes": list(predictor.classes.names), "images": results})
    return 0
