from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny_run
import torch

from queryseg.contracts import Step
from queryseg.training.guard import DivergenceError, is_finite
from queryseg.types import Output, Target


class Trap(tiny_run.Stay):
    """A loss that is NaN from the third step on."""

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, torch.Tensor]:
        if step.index < 2:
            return {}
        return {"distance": self.value(output.final.content.sum() * 0)}

    def value(self, zero: torch.Tensor) -> torch.Tensor:
        return zero + math.nan

    def after_step(self, step: Step) -> None:
        pass


class GradientTrap(Trap):
    """A loss of 0 whose gradient is NaN."""

    def value(self, zero: torch.Tensor) -> torch.Tensor:
        return zero.sqrt()


@pytest.mark.parametrize(
    ("trap", "sentence"), [(Trap, r"stay/distance nan"), (GradientTrap, "A gradient is no finite number")]
)
def test_a_run_that_diverges_keeps_its_batch(
    trap: type[Trap], sentence: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_run, "Stay", trap)
    values = tiny_run.settings(data, ema_decay=None, save_every=1)
    with pytest.raises(DivergenceError, match=sentence) as error:
        tiny_run.run(values, tmp_path)
    kept = torch.load(tmp_path / "failed_batch.pt", weights_only=True)
    assert f"in step 3 on {', '.join(kept['names'])};" in str(error.value)
    assert "\n" not in str(error.value)
    assert kept["images"].shape == (2, 3, 32, 32)
    assert kept["label_maps"].shape == (2, 32, 32)
    before: dict[str, Any] = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert before["step"] == kept["step"] == 2
    assert all(torch.equal(value, before["model"][name]) for name, value in kept["weights"].items())


def test_only_the_bad_micro_batch_is_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Second(Trap):
        def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, torch.Tensor]:
            self.seen.append(output.final.content)
            return {"distance": output.final.content.sum() * (math.inf if len(self.seen) == 2 else 0)}

    monkeypatch.setattr(tiny_run, "Stay", Second)
    with pytest.raises(DivergenceError, match="in step 1 on"):
        tiny_run.run(tiny_run.settings(data, accumulate=3), tmp_path)
    assert len(torch.load(tmp_path / "failed_batch.pt", weights_only=True)["names"]) == 2


def test_scaled_gradients_may_overflow() -> None:
    loss, norm = torch.tensor(1.0), torch.tensor(math.inf)
    assert is_finite([loss], norm, scaled=True)
    assert not is_finite([loss], norm, scaled=False)
    assert not is_finite([loss, torch.tensor(math.nan)], torch.tensor(1.0), scaled=True)
