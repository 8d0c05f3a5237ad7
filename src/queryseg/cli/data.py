"""Check every file of a data set, generate streets, write shards or corrupted images, draw sheets, or audit labels."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import yaml

from queryseg.cli.corruption_options import add_corruption_options, chosen_corruptions
from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.data.audit_picture import audit_picture
from queryseg.data.check import check_data
from queryseg.data.contact_sheet import contact_sheet
from queryseg.data.conversion_cache import cache_folder, clear_cache
from queryseg.data.corruptions.corrupted_tree import write_corrupted
from queryseg.data.corruptions.corruption_sheet import corruption_sheet
from queryseg.data.data_file import open_data
from queryseg.data.data_identity import DataIdentity
from queryseg.data.dataset import SegmentationDataset
from queryseg.data.label_audit import audit_labels
from queryseg.data.shard_writer import write_shards
from queryseg.data.streets import DOMAINS, Streets
from queryseg.data.writer import write_cityscapes
from queryseg.errors import InputError, UsageError


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

    corrupt = actions.add_parser("corrupt", help="write the images under corruptions, as Cityscapes-C lays them out")
    corrupt.add_argument("data", metavar="DATA.yaml", help="a data file; its labels stay where they are")
    corrupt.add_argument("--out", type=Path, required=True, metavar="DIR", help="an interrupted run goes on here")
    add_corruption_options(corrupt, "cityscapes-c", "1,2,3,4,5")
    corrupt.add_argument("--workers", type=int, default=2, help="computing processes (default 2)")

    show = actions.add_parser(
        "show", help="write a contact sheet: image, label, overlay; an image under corruptions; or an audit of labels"
    )
    show.add_argument("data", metavar="DATA.yaml", help="a data file")
    show.add_argument(
        "--audit", action="store_true", help="which label becomes which class, with a piece of an image for each"
    )
    show.add_argument(
        "--out", type=Path, metavar="FILE.png", help="(default contact_sheet.png, corruptions.png or label_audit.png)"
    )
    show.add_argument(
        "--num-images", type=int, metavar="N", help="evenly spaced (default 8 on a sheet; 200 are read for an audit)"
    )
    show.add_argument("--columns", type=int, help="(default 2 samples, 4 corruptions, or 6 labels of an audit)")
    add_corruption_options(show, None, "3")
    show.add_argument("--index", type=int, default=0, metavar="I", help="sample to show under corruptions (default 0)")

    cache = actions.add_parser("cache", help="say where converted labels are kept, and delete them")
    cache.add_argument("--clear", action="store_true", help="delete them; they are made again when they are needed")

    shard = actions.add_parser("shard", help="write a few large tar files (WebDataset's structure) for clusters")
    shard.add_argument("data", metavar="DATA.yaml", help="a data file")
    shard.add_argument("--out", type=Path, required=True, metavar="DIR")
    shard.add_argument("--size", default="500MB", help="of a shard, at most: 500MB, 2GB … (default 500MB)")
    shard.add_argument("--workers", type=int, default=2, help="encoding processes (default 2)")

    for action in (check, generate, corrupt, show, shard, cache):
        action.add_argument("--json", type=Path, metavar="FILE", help="the result for machines")


def run(options: argparse.Namespace) -> int:
    """Dispatch to the action. Exit code 1 if `check` found problems."""
    actions = {
        "check": _check, "generate": _generate, "corrupt": _corrupt, "show": _show, "shard": _shard, "cache": _cache,
    }  # fmt: skip
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


def _shard(options: argparse.Namespace) -> int:
    size = num_bytes(options.size)
    dataset, identity = open_data(options.data), DataIdentity.of(options.data)
    with progress_bar("sharding") as progress:
        index = write_shards(dataset, options.out, identity.to_json(), size, options.workers, progress)
    data_file = options.out / "data.yaml"
    content = yaml.safe_dump({"layout": "shards", "root": ".", "name": dataset.name}, sort_keys=False)
    data_file.write_text(content, encoding="utf-8")
    num_shards = len(list(options.out.glob("shard-*.tar")))
    console.print(f"{len(dataset)} samples in {num_shards} shard(s); data file {data_file}", soft_wrap=True)
    write_json(options.json, {"index": str(index), "data_file": str(data_file), "shards": num_shards})
    return 0


def num_bytes(text: str) -> int:
    """ "500MB" → 500,000,000. Raises: UsageError"""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None or float(found[1]) == 0:
        raise UsageError(f"--size is '{text}', but takes a number of bytes such as 500MB or 2GB.")
    return int(float(found[1]) * 1000 ** " KMGT".index(found[2] or " "))


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
    if options.num_images is not None and options.num_images < 1:
        raise InputError(f"--num-images is {options.num_images}, but at least one image is shown.")
    if options.audit:
        return _audit(dataset, options)
    if options.corruptions is not None:
        return _show_corruptions(options, dataset)
    out = options.out or Path("contact_sheet.png")
    count = min(options.num_images or 8, len(dataset))
    indices = [i * len(dataset) // count for i in range(count)]
    make_folder(out.parent)
    contact_sheet(dataset, indices, 2 if options.columns is None else options.columns).save(out)
    console.print(f"{count} of {len(dataset)} images on {out}", soft_wrap=True)
    write_json(options.json, {"file": str(out), "indices": indices})
    return 0


def _audit(dataset: SegmentationDataset, options: argparse.Namespace) -> int:
    columns = 6 if options.columns is None else options.columns
    if columns < 1:
        raise InputError(f"--columns is {columns}, but a row of an audit has at least one label.")
    out = options.out or Path("label_audit.png")
    with progress_bar("reading labels") as progress:
        audit = audit_labels(dataset, options.num_images or 200, progress=progress)
    make_folder(out.parent)
    audit_picture(dataset, audit, columns).save(out)
    met = sum(use.pixels > 0 for use in audit.uses)
    console.print(f"{met} of {len(audit.uses)} labels met in {audit.num_read} samples, on {out}", soft_wrap=True)
    write_json(options.json, {"file": str(out), **audit.to_json()})
    return 0


def _cache(options: argparse.Namespace) -> int:
    place = cache_folder() / "conversions"
    size = clear_cache() if options.clear else sum(path.stat().st_size for path in place.glob("*/*"))
    console.print(f"{size / 1e6:.1f} MB of converted labels {'deleted from' if options.clear else 'in'} {place}")
    write_json(options.json, {"folder": str(place), "bytes": size, "cleared": options.clear})
    return 0


def _show_corruptions(options: argparse.Namespace, dataset: SegmentationDataset) -> int:
    corruptions = chosen_corruptions(options)
    if not 0 <= options.index < len(dataset):
        raise InputError(f"--index is {options.index}, but the data set has samples 0 to {len(dataset) - 1}.")
    sample, out = dataset[options.index], options.out or Path("corruptions.png")
    make_folder(out.parent)
    corruption_sheet(sample, corruptions, 4 if options.columns is None else options.columns).save(out)
    console.print(f"{sample.name} under {len(corruptions)} corruptions on {out}", soft_wrap=True)
    names = [f"{name}-{severity}" for name, severity in corruptions]
    write_json(options.json, {"file": str(out), "sample": sample.name, "corruptions": names})
    return 0
