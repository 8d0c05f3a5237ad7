"""Figures as people read them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from queryseg.benchmarking.benchmark_table import (
    FittedTable,
    broken,
    flops_text,
    interval,
    megabytes,
    milliseconds,
    three_digits,
)
from queryseg.benchmarking.timing_statistics import Interval


@pytest.mark.parametrize(
    ("value", "text"), [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (-0.126, "-0.13")]
)
def test_three_digits(value, text):
    """Three significant digits at any size of the kinds that occur."""
    assert three_digits(value) == text


def test_units():
    """Seconds become ms, FLOPs get their prefix, bytes are MiB, quartiles stand in brackets."""
    assert milliseconds(0.0123) == "12.3"
    assert (flops_text(90_200_000_000), flops_text(1_450_000_000_000)) == ("90.2 G", "1.45 T")
    assert flops_text(6_570_000) == "6.57 M"
    assert (megabytes(2**20), megabytes(300 * 2**20)) == ("1.0 MiB", "300 MiB")
    assert interval(Interval(1.09, 1.04, 1.167)) == "1.09 [1.04, 1.17]"


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("gtav.yaml@openvino:int8", 15, ["gtav.yaml", " @openvino:int8"]),
        ("gtav.yaml@openvino:int8", 12, ["gtav.yaml", " @openvino:", " int8"]),
        ("ladder: − pixel decoder", 15, ["ladder: − pixel", " decoder"]),
        ("runs/qprompt_large_gtav", 15, ["runs/qprompt_", " large_gtav"]),
        ("unbreakablename", 12, ["unbreakablename"]),
        ("a@b", 12, ["a", " @b"]),
        ("-leading", 12, ["-leading"]),
    ],
)
def test_names_break_at_their_joints(name, width, lines):
    """No piece of a name is cut, and none is lost."""
    assert broken(name, width).split("\n") == lines
    assert "".join(lines).replace(" ", "") == name.replace(" ", "")


@pytest.mark.parametrize("width", [80, 160])
def test_a_table_fits_the_terminal_with_whole_figures(width):
    """In 80 columns names take two lines; every figure is in one piece, and where there is room the name is, too."""
    figures = ["101", "105", "110", "3%", "1.08 [1.03, 1.12]", "0.63", "120"]
    head = ["candidate", "infer p50", "p95", "p99", "spread", "× bare", "× source", "end to end"]
    names = ["gtav.yaml", "qprompt_dinov2_large@openvino:int8"]
    file = io.StringIO()
    table = FittedTable("time in ms", [head, *([name, *figures] for name in names)], "a caption")
    Console(file=file, width=width).print(table)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert sum("1.08 [1.03, 1.12]" in line and "110" in line for line in lines) == 2
    assert any(line.startswith(names[1]) for line in lines) == (width == 160)
    if width == 80:
        assert [line[:16].rstrip() for line in lines[-5:-1]] == [
            "gtav.yaml", "qprompt_dinov2_", " large", " @openvino:int8",
        ]  # fmt: skip
