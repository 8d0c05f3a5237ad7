"""Builds a text encoder and fills it from the hub or from a local file.

Shape legend: J width of the image–text space, W width of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor

from queryseg.errors import CheckpointError, RecipeError, reason_of
from queryseg.extras import require
from queryseg.text.text_tower import TextTower
from queryseg.text.tower_settings import TowerSettings
from queryseg.weight_file import read_tensors

HUB_FILE = "open_clip_model.safetensors"
"""What open_clip's repositories on the hub call their weights."""


def load_tower(settings: TowerSettings, download: bool = True) -> TextTower:
    """download: whether the hub may be asked for what is not in its cache.

    Raises: InputError without open_clip; RecipeError for an architecture that is not known or not fit; CheckpointError
    if the weights cannot be read, belong to another architecture or have another hash
    """
    open_clip = require("open_clip", "Reading class names as texts", "text")
    transformer = _build(open_clip, settings)
    if settings.weights is not False:
        _fill(transformer, settings, download)
    tower = TextTower(transformer, open_clip.SimpleTokenizer(), str(settings))
    if settings.sha256 is not None and tower.sha256 != settings.sha256:
        raise CheckpointError(
            f"The weights of the {settings} have the hash {tower.sha256[:12]}…, but {settings.sha256[:12]}… is asked "
            "for; give the weights that were meant, with tower_weights or --text-tower."
        )
    return tower


def _build(open_clip: Any, settings: TowerSettings) -> Any:
    """With random weights, the same ones every time."""
    configuration = settings.architecture
    if isinstance(configuration, str):
        name = configuration
        found = open_clip.get_model_config(name) if name in open_clip.list_models() else None
        if found is None:
            raise RecipeError(f"open_clip has no model '{name}'; open_clip.list_models() names those that it has.")
        configuration = found
    text = dict(configuration["text_cfg"])
    if text.get("hf_model_name") or text.get("no_causal_mask") or text.get("pool_type", "argmax") != "argmax":
        raise RecipeError(f"The {settings} is no text transformer of CLIP's kind; choose a CLIP or EVA02-CLIP model.")
    known = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio")
    if unknown := sorted(text.keys() - known):
        raise RecipeError(f"The {settings} has '{unknown[0]}', which is not known here; known are {', '.join(known)}.")
    activation = open_clip.transformer.QuickGELU if configuration.get("quick_gelu") else torch.nn.GELU
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return open_clip.transformer.TextTransformer(
            **text, output_dim=configuration["embed_dim"], act_layer=activation
        )


def _fill(transformer: Any, settings: TowerSettings, download: bool) -> None:
    path = str(settings.weights) if settings.hub is None else _from_hub(settings, settings.hub, download)
    found, wanted = read_tensors(path), transformer.state_dict()
    tensors = _text_tensors(found)
    for name, target in wanted.items():
        if name not in tensors:
            raise CheckpointError(
                f"{path} does not fit the {settings}: it holds no text encoder with a tensor '{name}'; give a file of "
                "the whole model in open_clip's or OpenAI's layout."
            )
        if tensors[name].shape != target.shape:
            raise CheckpointError(
                f"{path} does not fit the {settings}: '{name}' has shape {tuple(tensors[name].shape)} in the file, and "
                f"{tuple(target.shape)} here; name the architecture that the file was made for."
            )
    transformer.load_state_dict({name: tensors[name].to(target.dtype) for name, target in wanted.items()})


def _text_tensors(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the transformer's own names, which stand at the top of OpenAI's files and behind "text." in EVA's."""
    roots = [name.removesuffix("token_embedding.weight") for name in found if name.endswith("token_embedding.weight")]
    root = min(roots, key=len, default="")
    return {name.removeprefix(root): value for name, value in found.items() if name.startswith(root)}


def _from_hub(settings: TowerSettings, hub: str, download: bool) -> str:
    try:
        path: str = hf_hub_download(hub, HUB_FILE, local_files_only=not download)
    except (OSError, HfHubHTTPError, ValueError) as error:
        how = "could not be fetched from the hub" if download else "are not in the hub's cache of this machine"
        raise CheckpointError(
            f"The weights of the {settings} {how} ({type(error).__name__}: {reason_of(error)}); fetch them with `hf "
            f"download {hub} {HUB_FILE}`, or give a local file with tower_weights or --text-tower."
        ) from error
    return path
