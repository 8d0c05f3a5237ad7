"""Check every file of a data set, generate streets in Cityscapes' layout, or draw a contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.data.check import check_data
from queryseg.data.contact_sheet import contact_sheet
from queryseg.data.data_file import open_data
from queryseg.data.streets import DOMAINS, Streets
from queryseg.data.writer import write_cityscapes
from queryseg.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An action, then its options."""
    actions = parser.add_subparsers(dest="action", required=True)
    check = actions.add_parser("check", help="read every file; report sizes, classes, unknown labels, unreadable files")
    check.add_argument("data", metavar="DATA.yaml", help="a data file")
    check.add_argument("--workers", type=int, default=2, help="reading processes (default 2)")

    generate = actions.add_parser("generate", help="write streets as Cityscapes lays them out")
    generate.add_argument("--out", type=Path, required=True, metavar="DIR")
    generate.add_argument("--domain", nargs="+", default=["clear"], help=" ".join(DOMAINS))
    generate.add_argument("--split", default="train", help="name of the split's folders (default train)")
    generate.add_argument("--num-images", type=int, default=200, metavar="N", help="per domain (default 200)")
    generate.add_argument("--seed", type=int, default=0, help="other seeds give other scenes (default 0)")
    generate.add_argument("--size", type=int, nargs=2, default=(256, 512), metavar=("HEIGHT", "WIDTH"))
    generate.add_argument("--panoptic", action="store_true", help="write segments in COCO's panoptic format, too")
    generate.add_argument("--workers", type=int, default=2, help="rendering processes (default 2)")

    show = actions.add_parser("show", help="write a contact sheet: image, label, overlay")
    show.add_argument("data", metavar="DATA.yaml", help="a data file")
    show.add_argument("--out", type=Path, default=Path("contact_sheet.png"), metavar="FILE.png")
    show.add_argument("--num-images", type=int, default=8, metavar="N", help="evenly spaced (default 8)")
    show.add_argument("--columns", type=int, default=2)

    for action in (check, generate, show):
        action.add_argument("--json", type=Path, metavar="FILE", help="the result for machines")


def run(options: argparse.Namespace) -> int:
    """Dispatch to the action. Exit code 1 if `check` found problems."""
    actions = {"check": _check, "generate": _generate, "show": _show}
    return actions[options.action](options)


def _check(options: argparse.Namespace) -> int:
    dataset = open_data(options.data, lenient=True)
    with progress_bar("reading") as progress:
        report = check_data(dataset, options.workers, progress)
    console.print(report.table())
    for line in report.lines():
        console.print(line, soft_wrap=True)
    write_json(options.json, report.to_json())
    return 0 if report.ok else 1


def _generate(options: argparse.Namespace) -> int:
    make_folder(options.out)
    written = []
    for domain in options.domain:
        streets = Streets(domain, options.num_images, options.seed, tuple(options.size))
        with progress_bar(domain) as progress:
            folder, split, workers = options.out, options.split, options.workers
            written.append(write_cityscapes(streets, folder, split, workers, progress, options.panoptic))
        console.print(f"{options.num_images} images of {domain}; data file {written[-1]}", soft_wrap=True)
    write_json(options.json, {"data_files": [str(path) for path in written]})
    return 0


def _show(options: argparse.Namespace) -> int:
    dataset = open_data(options.data)
    if options.num_images < 1:
        raise InputError(f"--num-images is {options.num_images}, but a contact sheet shows at least one image.")
    count = min(options.num_images, len(dataset))
    indices = [i * len(dataset) // count for i in range(count)]
    make_folder(options.out.parent)
    contact_sheet(dataset, indices, options.columns).save(options.out)
    console.print(f"{count} of {len(dataset)} images on {options.out}", soft_wrap=True)
    write_json(options.json, {"file": str(options.out), "indices": indices})
    return 0
