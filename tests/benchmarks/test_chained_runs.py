"""Runs in chains, with a script that only notes its name."""

from __future__ import annotations

import json
from pathlib import Path

from chained_runs import append_row, train_chains

SCRIPT = """
import argparse, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("work", "run", "camvid"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
with open(pathlib.Path(args.work) / "log", "a") as file:
    file.write(f"{args.run} {args.camvid}\\n")
sys.exit(args.run == "b")
"""


def test_a_chain_runs_in_order_and_ends_with_a_run_that_fails(tmp_path: Path, capsys) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    train_chains(str(script), [["a", "b", "c"], ["d"]], tmp_path, Path("camvid"), 1)
    assert (tmp_path / "log").read_text().splitlines() == ["a camvid", "b camvid", "d camvid"]
    told = capsys.readouterr().out.splitlines()
    assert [line.partition(" ")[0] for line in told] == ["a", "b", "d"]
    assert told[0].startswith("a is done; 3 of 4 left")
    assert told[1] == f"b failed; its log is in {tmp_path}. Its chain stops here."


def test_rows_are_lines(tmp_path: Path) -> None:
    for number in range(2):
        append_row(tmp_path / "rows.jsonl", {"run": number})
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == [{"run": 0}, {"run": 1}]
