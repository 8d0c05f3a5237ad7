"""The scripts that ask steps of continual runs refuse what is no such step, before anything is asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from continual_arms import MAIN, Run
from unseen_streets import Step, ask_steps

from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import write_recipe
from queryseg.inference.text_prompt import write_trained
from queryseg.recipe_file import build_untrained, resolve


def never(*_: Any) -> Any:
    raise AssertionError("nothing is to be measured")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("nothing", "There is no run"),
        ("recipe", "model.safetensors"),
        ("run", "is no continual run: it has no continual.json; give the folder"),
    ],
)
def test_a_folder_that_is_no_step(
    held: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "step_1"
    if held != "nothing":
        folder.mkdir()
        recipe = resolve({key: value for key, value in Run(MAIN, "simcis", 0).content().items() if key != "continual"})
        write_recipe(folder, recipe)
        if held == "run":
            model = build_untrained(recipe)
            write_trained(folder, model, model.state_dict())
    monkeypatch.setattr(sys, "argv", ["script", str(folder)])
    with pytest.raises(SystemExit) as stop:
        ask_steps("Ask.", never, never, {})
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_what_a_script_misses_while_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_bank(*_: Any) -> Any:
        raise CheckpointError("There is no bank.")

    monkeypatch.setattr(Step, "read", lambda folder: folder)
    monkeypatch.setattr(sys, "argv", ["script", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        ask_steps("Ask.", no_bank, never, {})
    assert stop.value.code == 2
    assert "error: There is no bank." in capsys.readouterr().err
