"""What a run of textual queries stores beside its model: the learned prompt, which only further training and other
class names need.

Shape legend: m vectors of the prompt, W width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from queryseg.errors import CheckpointError
from queryseg.inference.run_folder import read_weights, write_model
from queryseg.segmenter import Segmenter

TEXT_PROMPT = "text_prompt.safetensors"


@dataclass(frozen=True)
class TextPrompt:
    """vectors  (m, W)
    tower_sha256  of the text encoder that it was learned with
    """

    vectors: Tensor
    tower_sha256: str


def write_trained(folder: Path, model: Segmenter, weights: Mapping[str, Tensor]) -> None:
    """weights: of the model while it learns → what prediction reads in model.safetensors, the rest beside it."""
    kept, aside = model.fold(weights)
    if aside:
        write_model(folder, aside, TEXT_PROMPT)
    write_model(folder, kept)


def training_weights(folder: Path) -> dict[str, Tensor]:
    """What only further training reads of a run, by its names in the model; {} if there is nothing of that kind."""
    path = folder / TEXT_PROMPT
    return read_weights(path) if path.is_file() else {}


def read_text_prompt(folder: Path) -> TextPrompt:
    """Raises: CheckpointError if the run has none"""
    found = training_weights(folder)
    try:
        return TextPrompt(found["queries.prompt"], bytes(found["queries.tower_sha256"].tolist()).hex())
    except KeyError:
        raise CheckpointError(
            f"{folder} holds no {TEXT_PROMPT}, the prompt that its class names were learned behind; copy the whole "
            "folder that training wrote, or predict without other classes."
        ) from None
