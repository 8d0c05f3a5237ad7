"""Runs in chains, with a script that only notes its name."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import chained_runs
import pytest
from chained_runs import PRETRAINED, append_row, check_pretrained, train_chains, train_missing

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


def test_without_the_trunk_one_sentence_says_how_to_make_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        check_pretrained(tmp_path)
    assert stop.value.code == 2
    assert "make it with benchmarks/generalization/pretrain.py" in capsys.readouterr().err
    (tmp_path / PRETRAINED).touch()
    check_pretrained(tmp_path)


def test_missing_runs_are_trained_in_their_chains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(chained_runs, "train_chains", lambda *values: asked.append(values))
    args = argparse.Namespace(only="a", work=tmp_path, camvid=None, jobs=2)
    train_missing("script", {"a1": "x", "a2": "y", "a3": "x", "b": "x", "a4": "y"}, {"a2"}, args)
    assert asked == [("script", [["a1", "a3"], ["a4"]], tmp_path, None, 2)]
