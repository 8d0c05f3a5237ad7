"""What the queries of one or several runs do on labelled data sets: who is active, for which class, how near to its
prototype, and what changes from the first data set (the source domain) to the others. Two runs stand side by side, as
before and after. Of continual runs: whether queries still outline earlier classes, step by step."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from queryseg.cli.evaluation_options import add_evaluation_options, chosen_protocol, named_sources
from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.cli.run_options import add_base_option, tell_base
from queryseg.continual.objectness_table import is_continual, objectness_over_steps
from queryseg.data.data_file import open_data
from queryseg.data.dataset import SegmentationDataset
from queryseg.errors import UsageError
from queryseg.evaluation.diagnostics import Diagnosis, diagnose
from queryseg.evaluation.diagnostics.diagnosis_report import diagnoses_json, terminal_table, write_report
from queryseg.evaluation.domain_table import RunFacts
from queryseg.inference.predictor import find_device, recorded_protocol
from queryseg.inference.run_folder import bases_for, read_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs, data sets, a folder."""
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="folder of a run; two: before and after; continual runs: objectness over their steps",
    )
    add_evaluation_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="report.html, diagnostics.json, pictures; objectness.html, .json",
    )
    parser.add_argument(
        "--num-images", type=int, default=100, metavar="N", help="per data set, evenly spread (default 100; 0: all)"
    )
    parser.add_argument(
        "--space",
        choices=("mask", "token"),
        default="mask",
        help="compare mask embeddings with mask features, or query contents with image tokens (default mask)",
    )
    parser.add_argument(
        "--attention-images",
        type=int,
        default=2,
        metavar="N",
        help="images per data set whose attention is drawn, where the model has cross-attention, and similarity to "
        "classes, where queries are texts (default 2)",
    )
    parser.add_argument(
        "--queries",
        type=int,
        nargs="+",
        metavar="Q",
        help="queries whose attention is drawn (default: the most confident ones of different classes)",
    )
    parser.add_argument(
        "--similarity",
        nargs="+",
        metavar="CLASS",
        help="classes whose similarity to pixels is drawn, where queries are texts (default: those with most pixels)",
    )
    add_base_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="diagnostics.json once more, here")


def run(options: argparse.Namespace) -> int:
    """Look at every run; print its figures; write JSON, pictures and report."""
    sources = named_sources(options.data)
    datasets = {name: open_data(path) for name, path in sources.items()}
    runs = _names(options.runs)
    if any(map(is_continual, options.runs)):
        return _continual(options, runs, datasets)
    bases = bases_for(options.runs, options.base)
    loaded = {name: read_model(path, options.allow_code, bases[path]) for name, path in runs.items()}
    for path in options.runs:
        tell_base(path)
    out = make_folder(options.out)
    diagnoses: dict[str, Diagnosis] = {}
    for name, one in loaded.items():
        with progress_bar(f"diagnosing {name}") as progress:
            diagnoses[name] = diagnose(
                one.model,
                datasets,
                chosen_protocol(options, recorded_protocol(one.recipe)),
                num_images=options.num_images or None,
                space=options.space,
                num_attention_images=options.attention_images,
                attention_queries=options.queries,
                similar_classes=options.similarity,
                facts=RunFacts.of(one.model, one.folder, one.recipe),
                sources=sources,
                device=find_device(options.device),
                num_workers=options.workers,
                progress=progress,
            )
        console.print(terminal_table(name, diagnoses[name]))
    content = diagnoses_json(diagnoses)
    write_json(out / "diagnostics.json", content)
    write_json(options.json, content)
    write_report(diagnoses, out)
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True)
    return 0


def _continual(
    options: argparse.Namespace, runs: Mapping[str, Path], datasets: Mapping[str, SegmentationDataset]
) -> int:
    """Objectness of every step of every run; prints it, writes JSON and report."""
    if single := [folder for folder in options.runs if not is_continual(folder)]:
        raise UsageError(
            f"{single[0]} is no continual run and others are; give continual runs alone, or single steps (RUN/step_1)."
        )
    if options.queries or options.similarity or options.space != "mask" or options.base:
        raise UsageError(
            "Continual runs are asked for objectness alone; leave out --queries, --similarity, --space and --base, or "
            "give single steps (RUN/step_1)."
        )
    out = make_folder(options.out)
    with progress_bar("looking at every step") as progress:
        table = objectness_over_steps(
            runs,
            datasets,
            lambda recipe: chosen_protocol(options, recorded_protocol(recipe)),
            num_images=options.num_images or None,
            allow=options.allow_code,
            device=find_device(options.device),
            num_workers=options.workers,
            progress=progress,
        )
    for name in table.data_names:
        console.print(table.grid(name))
    table.write(out)
    write_json(options.json, table.to_json())
    console.print(f"Report: {out / 'objectness.html'}", soft_wrap=True)
    return 0


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Short names of runs: their folders', or the whole paths where those are not distinct."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("A run is given twice; give every run once.")
    names = [folder.resolve().name for folder in folders]
    distinct = len(set(names)) == len(names)
    return dict(zip(names if distinct else map(str, folders), folders, strict=True))
