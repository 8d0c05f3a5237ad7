"""Runs whose queries are texts: what they store, and what of it predicts without the text encoder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch
from rich.console import Console
from safetensors.torch import load_file
from test_resume import assert_same_runs
from torch import Tensor

from queryseg.errors import InputError
from queryseg.inference.run_folder import read_model
from queryseg.inference.text_prompt import read_text_prompt
from queryseg.queries import TextualQueries
from queryseg.recipe_file import build, resolve
from queryseg.training import train
from queryseg.training.trainer import Trainer

pytest.importorskip("open_clip", reason="the extra `text` is not installed")
IMAGE = torch.randint(0, 256, (1, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def recipe(data: Path, model: dict[str, Any], grqa: bool = False, **training: Any) -> dict[str, Any]:
    values = tiny_run.settings(data, **training)
    objectives = {"set": {"class_path": "queryseg.objectives.SetCriterion", "init_args": {"num_points": 32}}}
    if grqa:
        objectives["grqa"] = {"class_path": "queryseg.objectives.GRQA", "init_args": {"start": 0.5, "min_pixels": 2}}
    return resolve(
        {
            "classes": tiny_run.CLASSES,
            "model": model,
            "objectives": objectives,
            "data": values["data"],
            "training": values["training"],
        }
    )


def run(resolved: dict[str, Any], out: Path, **options: Any) -> None:
    train(build(resolved), resolved, out, accelerator="cpu", console=Console(quiet=True), **options)


def masks(model: Any, images: Tensor = IMAGE) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(model.normalise(images)).final.mask_logits
    return found


@pytest.mark.parametrize(("injected", "grqa", "vectors"), [(False, False, "per_class"), (True, True, "shared")])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    injected: bool,
    grqa: bool,
    vectors: str,
    data: Path,
    textual_model: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also with GRQA and its moving average on queries that join the trunk. What the run stores predicts what the
    learning model says, text encoder or not."""
    ended: list[Any] = []
    original = Trainer.fit

    def fit(self: Trainer) -> Any:
        result = original(self)
        ended.append(self.result.eval())
        return result

    monkeypatch.setattr(Trainer, "fit", fit)
    settings = recipe(data, {**textual_model(injected), "class_vectors": vectors}, grqa)
    run(settings, tmp_path / "whole")
    run(settings, tmp_path / "parts", until=3)
    run(settings, tmp_path / "parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")
    learned = ended[0]
    assert isinstance(learned.queries, TextualQueries)
    assert learned.queries.prompt is not None
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "open_clip", None)
        stored = read_model(tmp_path / "whole").model
        torch.testing.assert_close(masks(stored), masks(learned), rtol=0, atol=1e-5)
    prompt = read_text_prompt(tmp_path / "whole")
    assert torch.equal(prompt.vectors, learned.queries.prompt)


def test_a_stored_model_has_nothing_that_prediction_does_not_read(
    data: Path, textual_model: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Every tensor of the file, doubled and shifted, changes what is predicted."""
    run(recipe(data, textual_model(), steps=2, ema_decay=None), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    model = read_model(tmp_path).model.double()
    assert "queries.embeddings" in stored
    assert not any("prompt" in name or "tower" in name for name in stored)
    state = model.state_dict()
    assert stored.keys() == state.keys()

    def said() -> Tensor:
        with torch.no_grad():
            final = model(model.normalise(IMAGE)).final
        return torch.cat((final.mask_logits.flatten(), final.class_logits.flatten()))

    expected = said()
    idle = []
    for name, value in state.items():
        before = value.clone()
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(value.dtype)
        value.copy_(2 * value + noise) if value.is_floating_point() else None
        if torch.equal(said(), expected) and not name.endswith("num_batches_tracked"):
            idle.append(name)
        value.copy_(before)
    assert idle == []


def test_another_run_goes_on_with_the_prompt(
    data: Path, textual_model: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(data, textual_model(), steps=2, ema_decay=None)
    run(settings, tmp_path / "first")
    begun: list[Tensor] = []
    original = Trainer.fit

    def fit(self: Trainer) -> Any:
        begun.append(self.model.queries.prompt.detach().clone())  # type: ignore[union-attr]
        return original(self)

    monkeypatch.setattr(Trainer, "fit", fit)
    run(settings, tmp_path / "second", start_from=tmp_path / "first")
    assert torch.equal(begun[0], read_text_prompt(tmp_path / "first").vectors)


def test_training_without_open_clip_is_one_sentence(
    data: Path, textual_model: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(InputError, match=r"needs the package open_clip, .*`pip install 'queryseg\[text\]'") as caught:
        run(recipe(data, textual_model()), tmp_path)
    assert "\n" not in str(caught.value)
