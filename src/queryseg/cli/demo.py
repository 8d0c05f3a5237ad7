"""The whole path in minutes: generate streets, train a small QPrompt from scratch on clear days, evaluate it on fog,
night, rain, snow and another city, write a report with pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.data.protocol import Protocol
from queryseg.data.streets import DOMAINS, Streets
from queryseg.evaluation.domain_table import RunFacts, evaluate_many
from queryseg.evaluation.report import write_html
from queryseg.inference.run_folder import read_model
from queryseg.recipe_file import build, read_recipe, resolve
from queryseg.training.checkpoint import CHECKPOINT
from queryseg.training.launch import train

RECIPE = Path(__file__).with_name("demo.yaml")
TEST_SEED = 2
"""Neither the training scenes (0) nor those of the validation curve (1)."""

TAKES_OVERRIDES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: ./demo")
    parser.add_argument("--num-images", type=int, default=100, metavar="N", help="test images per domain (default 100)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table for machines")


def run(options: argparse.Namespace) -> int:
    """Train (or continue), evaluate, report."""
    start = time.perf_counter()
    run_folder = make_folder(options.out) / "run"
    content = read_recipe(RECIPE, options.overrides)
    resolved = resolve(content)
    train(build(resolved), resolved, run_folder, resume=(run_folder / CHECKPOINT).exists(), console=console)

    loaded = read_model(run_folder)
    size = tuple(content["data"]["train"]["size"])
    domains = {domain: Streets(domain, options.num_images, TEST_SEED, size) for domain in DOMAINS}
    with progress_bar("evaluating") as progress:
        table = evaluate_many(
            loaded.model,
            domains,
            Protocol(),
            facts=RunFacts.of(loaded.model, loaded.folder, loaded.recipe),
            sources=dict.fromkeys(DOMAINS, f"generated streets, seed {TEST_SEED}"),
            num_examples=3,
            progress=progress,
        )
    report = options.out / "report.html"
    write_html(table, report, "QPrompt on generated streets", run_folder / "metrics.csv")
    write_json(options.json or options.out / "table.json", table.to_json())
    console.print(table)
    console.print(
        f"{(time.perf_counter() - start) / 60:.1f} minutes. Open {report} for the pictures; try\n"
        f"  queryseg predict {run_folder} YOUR_IMAGE.png --out {options.out / 'predictions'}",
        soft_wrap=True,
    )
    return 0
