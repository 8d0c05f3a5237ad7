"""Many training runs by one command: those that are missing, a few at a time, one row of results for each.

Runs of one chain share a beginning and follow each other; chains run side by side. Every run is a process of its own,
which its script begins by `--run NAME`.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from queryseg.metrics.measurement import number

PRETRAINED = "pretrained.safetensors"
"""The trunk that runs begin with, in their folder."""


def check_pretrained(work: Path) -> None:
    """Raises: SystemExit with code 2 if the trunk is missing"""
    if not (work / PRETRAINED).exists():
        print(f"There is no {work / PRETRAINED}; make it with benchmarks/generalization/pretrain.py.", file=sys.stderr)
        raise SystemExit(2)


def rounded(value: float) -> float | None:
    """A score as rows hold it; None if there is none."""
    known = number(value)
    return None if known is None else round(known, 5)


def append_row(results: Path, row: Mapping[str, Any]) -> None:
    """One line, whole, whoever else writes at the same time."""
    with results.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(row) + "\n")


def read_rows(results: Path) -> list[dict[str, Any]]:
    """What is finished; of a run that was measured again, the last row."""
    rows = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    return list({row["run"]: row for row in rows}.values())


def train_chains(script: str, chains: Sequence[Sequence[str]], work: Path, camvid: Path | None, jobs: int) -> None:
    """chains: names of runs, in order; jobs: chains at a time, one thread each. A run that fails ends its chain."""
    left, start = sum(map(len, chains)), time.perf_counter()
    total = left

    def train_chain(chain: Sequence[str]) -> None:
        nonlocal left
        for name in chain:
            command = [sys.executable, script, "--work", str(work), "--run", name]
            command += ["--camvid", str(camvid)] if camvid else []
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            if subprocess.run(command, env=environment).returncode:
                print(f"{name} failed; its log is in {work}. Its chain stops here.", flush=True)
                return
            left -= 1
            minutes = (time.perf_counter() - start) / 60
            eta = minutes / max(1, total - left) * left
            print(f"{name} is done; {left} of {total} left, about {eta:.0f} minutes.", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(train_chain, chain) for chain in chains]:
            future.result()


def train_missing(script: str, runs: Mapping[str, str], done: Collection[str], args: argparse.Namespace) -> None:
    """runs: name → its chain, named by what the chain's runs share; done: those that are left out, as are those whose
    names do not begin as `--only` says; args: of `table_parser`"""
    chains: dict[str, list[str]] = {}
    for name, chain in runs.items():
        if name not in done and name.startswith(args.only):
            chains.setdefault(chain, []).append(name)
    train_chains(script, list(chains.values()), args.work, args.camvid, args.jobs)


def table_parser(description: str | None, work: Path, camvid: str, example: str) -> argparse.ArgumentParser:
    """What scripts that make a table of runs are asked with. camvid: its folders; example: of `--only`"""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=work, help="folder of the runs")
    parser.add_argument("--camvid", type=Path, help=f"CamVid's folder ({camvid}), for its tables")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--only", default="", help=f"runs whose names begin so, e.g. {example}")
    parser.add_argument("--print", action="store_true", help="only print what is there")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    return parser
