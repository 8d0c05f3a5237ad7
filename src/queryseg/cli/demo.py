"""The whole path in minutes: generate streets, train a small QPrompt from scratch on clear days, evaluate it on fog,
night, rain, snow and another city, write a report with pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from queryseg.cli.output import console, make_folder, progress_bar, write_json
from queryseg.data.protocol import Protocol
from queryseg.data.streets import DOMAINS, Streets
from queryseg.data.writer import write_cityscapes
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
    """Where to, and on how many test images."""
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: ./demo")
    parser.add_argument("--num-images", type=int, default=60, metavar="N", help="test images per domain (default 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the table for machines")


def run(options: argparse.Namespace) -> int:
    """Generate, train (or continue), evaluate, report."""
    start = time.perf_counter()
    run_folder = make_folder(options.out) / "run"
    content = read_recipe(RECIPE, options.overrides)
    scenes = content["data"]["train"]
    if scenes["layout"] == "streets":
        content["data"]["train"] = str(write_training_streets(options.out / "streets", scenes))
    resolved = resolve(content)
    train(build(resolved), resolved, run_folder, resume=(run_folder / CHECKPOINT).exists(), console=console)

    loaded = read_model(run_folder)
    domains = {
        domain: Streets(domain, options.num_images, TEST_SEED, tuple(content["data"]["crop"])) for domain in DOMAINS
    }
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
    minutes = (time.perf_counter() - start) / 60
    write_json(options.json or options.out / "table.json", {"minutes": round(minutes, 2), **table.to_json()})
    console.print(table)
    console.print(
        f"{minutes:.1f} minutes. Open {report} for the pictures; try\n"
        f"  queryseg predict {run_folder} YOUR_IMAGE.png --out {options.out / 'predictions'}",
        soft_wrap=True,
    )
    return 0


def write_training_streets(root: Path, scenes: dict[str, Any]) -> Path:
    """The data file of training scenes on disk, where a user's own images would be: decoding one is cheaper than
    rendering it again in every epoch."""
    streets = Streets(**{key: value for key, value in scenes.items() if key != "layout"})
    data_file = root / f"train_{streets.domain}.yaml"
    if data_file.exists():  # it is written last
        return data_file
    with progress_bar("generating streets") as progress:
        return write_cityscapes(streets, root, "train", 2, progress)
