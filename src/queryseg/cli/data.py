"""Check every file of a data set, generate streets in Cityscapes' layout, write corrupted images, or draw a sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryseg.cli.corruption_options import add_corruption_options, chosen_corruptions
from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.data.check import check_data
from queryseg.data.contact_sheet import contact_sheet
from queryseg.data.corruptions.corrupted_tree import write_corrupted
from queryseg.data.corruptions.corruption_sheet import corruption_sheet
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset
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
    generate.add_argument("--workers", type=int, default=2, help="rendering processes (default 2)")

    corrupt = actions.add_parser("corrupt", help="write the images under corruptions, as Cityscapes-C lays them out")
    corrupt.add_argument("data", metavar="DATA.yaml", help="a data file; its labels stay where they are")
    corrupt.add_argument("--out", type=Path, required=True, metavar="DIR", help="an interrupted run goes on here")
    add_corruption_options(corrupt, "cityscapes-c", "1,2,3,4,5")
    corrupt.add_argument("--workers", type=int, default=2, help="computing processes (default 2)")

    show = actions.add_parser("show", help="write a contact sheet: image, label, overlay; or corruptions of an image")
    show.add_argument("data", metavar="DATA.yaml", help="a data file")
    show.add_argument("--out", type=Path, default=Path("contact_sheet.png"), metavar="FILE.png")
    show.add_argument("--num-images", type=int, default=8, metavar="N", help="evenly spaced (default 8)")
    show.add_argument("--columns", type=int, help="samples (default 2) or corruptions (default 4) beside each other")
    add_corruption_options(show, None, "3")
    show.add_argument("--index", type=int, default=0, metavar="I", help="sample to show under corruptions (default 0)")

    for action in (check, generate, corrupt, show):
        action.add_argument("--json", type=Path, metavar="FILE", help="the result for machines")


def run(options: argparse.Namespace) -> int:
    """Dispatch to the action. Exit code 1 if `check` found problems."""
    actions = {"check": _check, "generate": _generate, "corrupt": _corrupt, "show": _show}
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
            written.append(write_cityscapes(streets, options.out, options.split, options.workers, progress))
        console.print(f"{options.num_images} images of {domain}; data file {written[-1]}", soft_wrap=True)
    write_json(options.json, {"data_files": [str(path) for path in written]})
    return 0


def _corrupt(options: argparse.Namespace) -> int:
    corruptions = chosen_corruptions(options)
    make_folder(options.out)
    with progress_bar("corrupting") as progress:
        data_files, written = write_corrupted(options.data, corruptions, options.out, options.workers, progress)
    console.print(f"{written:,} images written; {len(data_files)} data files, e.g. {data_files[0]}", soft_wrap=True)
    write_json(options.json, {"data_files": [str(path) for path in data_files], "written": written})
    return 0


def _show(options: argparse.Namespace) -> int:
    dataset = open_data(options.data)
    make_folder(options.out.parent)
    if options.corruptions is not None:
        return _show_corruptions(options, dataset)
    if options.num_images < 1:
        raise InputError(f"--num-images is {options.num_images}, but a contact sheet shows at least one image.")
    count = min(options.num_images, len(dataset))
    indices = [i * len(dataset) // count for i in range(count)]
    contact_sheet(dataset, indices, 2 if options.columns is None else options.columns).save(options.out)
    console.print(f"{count} of {len(dataset)} images on {options.out}", soft_wrap=True)
    write_json(options.json, {"file": str(options.out), "indices": indices})
    return 0


def _show_corruptions(options: argparse.Namespace, dataset: SegmentationDataset) -> int:
    corruptions = chosen_corruptions(options)
    if not 0 <= options.index < len(dataset):
        raise InputError(f"--index is {options.index}, but the data set has samples 0 to {len(dataset) - 1}.")
    sample = dataset[options.index]
    corruption_sheet(sample, corruptions, 4 if options.columns is None else options.columns).save(options.out)
    console.print(f"{sample.name} under {len(corruptions)} corruptions on {options.out}", soft_wrap=True)
    names = [f"{name}-{severity}" for name, severity in corruptions]
    write_json(options.json, {"file": str(options.out), "sample": sample.name, "corruptions": names})
    return 0
