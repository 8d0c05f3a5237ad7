"""Segment images with a trained run: label PNGs (class indices), colours and overlays."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.inference.predictor import find_images
from queryseg.loading import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A run, images, a folder."""
    parser.add_argument("run", type=Path, help="folder of a run, or an exported file")
    parser.add_argument("source", help="an image, a folder (with its subfolders) or a glob such as 'frames/*.jpg'")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default auto)")
    parser.add_argument(
        "--allow-code", action="append", default=[], metavar="PACKAGE", help="trust this package's parts"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="files and share of every class, for machines")


def run(options: argparse.Namespace) -> int:
    """Three PNGs per image under --out, named after it."""
    images = find_images(options.source)
    predictor = load(options.run, allow=options.allow_code, device=options.device)
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
