from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import tiny_run
from rich.console import Console
from safetensors.torch import load_file, save_file

from queryseg.adapters import Rein
from queryseg.backbones.weights import WeightReport
from queryseg.training import progress as module
from queryseg.training import train
from queryseg.training.progress import Progress
from queryseg.training.start import Beginning
from queryseg.training.summary import trunk_lines

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


def test_a_run_says_what_its_backbone_begins_with(data: Path, tmp_path: Path) -> None:
    """Random weights only where they are; those that another run or a file gave, also in part; and those of before."""
    values = tiny_run.settings(data, steps=2, ema_decay=None, validate_every=0)

    def second_line(out: str, **options: Any) -> str:
        text = io.StringIO()
        train(tiny_run.build(values), values, tmp_path / out, accelerator="cpu", console=Console(file=text), **options)
        return text.getvalue().splitlines()[1]

    first = tmp_path / "first"
    assert second_line("first", until=1) == "The backbone starts from random weights."
    assert second_line("again", start_from=first) == f"The backbone starts from the weights of {first}."
    weights = load_file(first / "model.safetensors")
    total = sum(name.startswith("backbone.") for name in weights)
    part, head = tmp_path / "part.safetensors", tmp_path / "head.safetensors"
    save_file({name: value for name, value in weights.items() if not name.startswith("backbone.blocks.2.")}, part)
    save_file({"queries.content": weights["queries.content"]}, head)
    kept = total - sum(name.startswith("backbone.blocks.2.") for name in weights)
    assert second_line("part", start_from=part) == (
        f"The backbone starts from the weights of {part} in {kept} of its {total} tensors, in the others from random "
        "weights."
    )
    assert second_line("head", start_from=head) == "The backbone starts from random weights."
    assert second_line("fork", fork=first) == f"The backbone goes on as it was when {first} stopped."
    assert second_line("first", resume=True) == "The backbone goes on as it was when this run stopped."


def test_loaded_weights_that_others_replace_are_not_told(tmp_path: Path) -> None:
    """A recipe's pretrained weights count only where --start-from left them; an adapter's own tensors do not count."""
    model = tiny_run.build(tiny_run.settings(Path("nowhere"))).model.backbone
    model.weight_report = WeightReport(("a",), (), (), (), "hub:vit", None)
    names = [f"backbone.{name}" for name, _ in model.named_parameters()]
    own = "hub:vit: 1 tensors matched, 0 resampled, 0 of the file left over, 0 missing"
    assert trunk_lines(model, Beginning(), ()) == [own]
    given = Beginning(start_from=Path("x"))
    assert trunk_lines(model, given, names) == ["The backbone starts from the weights of x."]
    assert trunk_lines(model, given, names[1:]) == [
        f"The backbone starts from the weights of x in {len(names) - 1} of its {len(names)} tensors, in the others "
        "from what its recipe loads.",
        own,
    ]
    model.attach(Rein(model.dims, num_tokens=5, rank=2))
    assert len(list(model.named_parameters())) > len(names)
    assert trunk_lines(model, given, names) == ["The backbone starts from the weights of x."]
