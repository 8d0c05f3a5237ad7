"""Time, memory and arithmetic of candidates side by side: runs, recipes, exported files, and what to compare them with
(`bare`, `ladder`, `hf:eomt`, `hf:mask2former`, `hf:segformer_b0` …, `timm:nextvit_small` …). Every figure says what it
includes. Other options change the recipes among the candidates, as in `queryseg train`."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from pathlib import Path
from typing import get_args

import torch

from queryseg.benchmarking import Options, Settings, Workload, benchmark, find_candidates
from queryseg.benchmarking.benchmark_report import write_report
from queryseg.benchmarking.benchmark_table import terminal
from queryseg.benchmarking.catalogue import sources_of
from queryseg.cli.output import check_json, console, make_folder, progress_bar, write_json
from queryseg.cli.run_options import add_run_options, tell_base
from queryseg.errors import UsageError
from queryseg.inference.engine import Size
from queryseg.inference.precision import InferencePrecision

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Candidates, what they see, how to measure, where to write."""
    parser.add_argument(
        "candidates",
        nargs="+",
        metavar="CANDIDATE",
        help="folder of a run or recipe.yaml (random weights), also as SOURCE@openvino:int8 (any format and precision) "
        "or SOURCE@pruned; exported file, bare, ladder, hf:MODEL, timm:MODEL",
    )
    hw = ("H", "W")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(512, 1024), metavar=hw, help="as shown to models (default 512 1024)"
    )
    parser.add_argument("--frame", type=int, nargs=2, metavar=hw, help="as decoded and labelled (default: --size)")
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1], metavar="N", help="images at once; several: a sweep (default 1)"
    )
    parser.add_argument(
        "--sizes", type=_size, nargs="+", default=[], metavar="HxW", help="a resolution sweep, e.g. 256x512 1024x2048"
    )
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="that count (default 20)")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="rounds before, at least (default 3)")
    parser.add_argument("--stages", action=argparse.BooleanOptionalAction, default=True, help="time every stage, too")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … (default auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch on the CPU")
    parser.add_argument("--precision", choices=get_args(InferencePrecision), default="fp32", help="default fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile; stages are then not timed apart")
    add_run_options(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="every figure and the time of every round")
    parser.add_argument("--out", type=Path, metavar="DIR", help="report.html, benchmark.json and the plots")


def run(options: argparse.Namespace) -> int:
    """Build the candidates, let them take turns, print and write."""
    if options.threads is not None:
        if options.threads < 1:
            raise UsageError(f"--threads is {options.threads}; give at least 1.")
        torch.set_num_threads(options.threads)
    check_json(options.json)
    size: Size = (options.size[0], options.size[1])
    frame: Size | None = None if options.frame is None else (options.frame[0], options.frame[1])
    workload = Workload(size, options.batch[0], frame)
    settings = Settings(options.rounds, options.warmup, options.stages, options.sizes, options.batch[1:])
    how = Options(
        size,
        options.device,
        options.precision,
        options.compile,
        tuple(options.allow_code),
        tuple(options.overrides),
        options.base,
    )
    candidates = find_candidates(options.candidates, how)
    for source in sources_of(options.candidates):
        tell_base(source)
    out = None if options.out is None else make_folder(options.out)
    with progress_bar("benchmark") as progress:
        result = benchmark(candidates, workload, settings, progress)
    console.print(terminal(result))
    content = {"command": shlex.join(["queryseg", *sys.argv[1:]]), **result.to_json()}
    write_json(options.json, content)
    if out is not None:
        write_json(out / "benchmark.json", content)
        write_report(result, out)
        console.print(f"Report: {out / 'report.html'}", soft_wrap=True)
    return 0


def _size(word: str) -> Size:
    """ "512x1024" → (512, 1024)"""
    match = re.fullmatch(r"(\d+)[x×](\d+)", word)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{word}' is no size; write HEIGHTxWIDTH, e.g. 512x1024")
    return int(match[1]), int(match[2])
