from __future__ import annotations

import io
from pathlib import Path

import pytest
import tiny_run
from rich.console import Console

from queryseg.training import progress as module
from queryseg.training import train
from queryseg.training.progress import Progress

ROW = {
    "step": 1, "learning_rate": 0.1, "loss": 2.5, "set/class": 1.25, "gradient_norm": 3.0, "miou/city": 0.5,
    "images_per_second": 20.0, "seconds_per_step": 0.2, "loader_share": 0.125,
}  # fmt: skip


def test_plain_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    text = io.StringIO()
    with Progress(Console(file=text, width=40), steps=1000, step=0) as progress:
        for step in range(1, 101):
            clock[0] += 1
            progress.advance(step)
            progress.row(step, ROW)
        progress.validated(100, {"city": 0.625, "fog": 0.25})
    lines = text.getvalue().splitlines()
    status = "loss 2.500 (set/class 1.250) · 20.0 images/s · loader 12% · 50 ms per image"
    assert lines == [
        f"step 1/1000 · {status} · about 0:03:20 left",
        f"step 31/1000 · {status} · about 0:03:14 left",
        f"step 61/1000 · {status} · about 0:03:08 left",
        f"step 91/1000 · {status} · about 0:03:02 left",
        "step 100/1000 · mIoU city 62.5, fog 25.0",
    ]


def test_a_terminal_gets_a_bar() -> None:
    text = io.StringIO()
    console = Console(file=text, width=160, force_terminal=True)
    with Progress(console, steps=1000, step=0) as progress:
        progress.validated(1, {"city": 0.625})
        progress.advance(7)
        progress.row(7, ROW)
    shown = text.getvalue()
    assert "7/1000" in shown
    assert "loss 2.500 (set/class 1.250) · 20.0 images/s · loader 12% · mIoU city 62.5" in shown


def test_a_run_says_what_it_will_do(data: Path, tmp_path: Path) -> None:
    text = io.StringIO()
    values = tiny_run.settings(data, steps=2, ema_decay=None, validate_every=0, accumulate=3) | {"frozen": True}
    train(tiny_run.build(values), values, tmp_path, accelerator="cpu", console=Console(file=text))
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("PlainViT, Identity, LearnableQueries, QueryInjection, MaskHeads, Mixture: 0.0")
    assert lines[0].endswith("% of them trained")
    assert "100%" not in lines[0]
    assert lines[1] == "The backbone starts from random weights."
    assert lines[2] == "7 images, 2 steps of 6 = 1.7 epochs, 32-true on cpu"
    assert lines[-1].startswith("step 2/2 · ")
