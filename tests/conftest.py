"""Tiny models that every test may build."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from queryseg.backbones import PlainViT
from queryseg.decoders import QueryInjection
from queryseg.inference.run_folder import write_recipe
from queryseg.inference.text_prompt import write_trained
from queryseg.pixel_decoders import Identity
from queryseg.queries import LearnableQueries
from queryseg.readouts import Mixture
from queryseg.recipe_file import build_untrained, resolve
from queryseg.segmenter import Parts, Segmenter, build_segmenter

# The same examples on every run, so that a red test is about the change; `pytest --hypothesis-profile explore` hunts.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", derandomize=False, deadline=None, max_examples=5000)
settings.load_profile("repeatable")

NAMES = ("road", "building", "sky", "car")
TINY_VIT: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_qprompt() -> Callable[..., Segmenter]:
    """Builds a QPrompt of about 60,000 parameters; keyword arguments go to the backbone."""

    def build(**backbone: Any) -> Segmenter:
        arguments = {"patch_size": 16, "image_size": 32, "options": TINY_VIT, **backbone}
        parts = Parts(
            PlainViT("vit_tiny_patch16_224", **arguments),
            Identity,
            partial(LearnableQueries, num_queries=6, std=1.0),
            QueryInjection,
            Mixture,
        )
        return build_segmenter(NAMES, parts)

    return build


@pytest.fixture
def hugging_face_mask2former() -> Callable[..., Any]:
    """Builds Hugging Face's Mask2Former in float64, three classes, with random weights under which masks block about
    half of the cells; keyword arguments go to its configuration."""
    pytest.importorskip("transformers")
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    def build(**options: Any) -> Any:
        swin: dict[str, Any] = {"embed_dim": 8, "depths": [1, 2, 2, 2], "num_heads": [1, 1, 2, 2], "window_size": 4}
        sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_feedforward_dim": 24}
        counts = {"encoder_layers": 2, "decoder_layers": 5, "num_attention_heads": 4, "num_queries": 5}
        config = Mask2FormerConfig(
            backbone_config=SwinConfig(**swin, out_features=[f"stage{i}" for i in range(1, 5)]),
            dim_feedforward=48,
            **{**sizes, **counts, "id2label": dict(enumerate(NAMES[:3])), **options},
        )
        model = Mask2FormerForUniversalSegmentation(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0.0 if parameter.ndim > 1 else 0.5, 0.2)
        return model.double().eval()

    return build


TINY_RECIPE = """
classes: [road, building, sky, car]
model:
  backbone:
    class_path: queryseg.backbones.PlainViT
    init_args:
      name: vit_tiny_patch16_224
      patch_size: 16
      image_size: 32
      options: {embed_dim: 32, depth: 3, num_heads: 2}
  pixel_decoder: queryseg.pixel_decoders.Identity
  queries: {class_path: queryseg.queries.LearnableQueries, init_args: {num_queries: 6}}
  decoder: queryseg.decoders.QueryInjection
  readout: queryseg.readouts.Mixture
objectives:
  criterion: {class_path: queryseg.objectives.SetCriterion, init_args: {num_points: 64}}
data:
  train: data.yaml
"""


@pytest.fixture
def recipe_path(tmp_path: Any) -> Any:
    """A recipe of a tiny QPrompt, without its data file."""
    path = tmp_path / "recipe.yaml"
    path.write_text(TINY_RECIPE)
    return path


@pytest.fixture
def hugging_face_eomt() -> Callable[..., Any]:
    """Builds Hugging Face's EoMT with random weights under which masks are neither empty nor full.

    kind: dinov2, swiglu (as in its giant model) or dinov3; keyword arguments go to the configuration.
    """
    transformers = pytest.importorskip("transformers")

    def build(kind: str = "dinov2", **config: Any) -> Any:
        sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 64, "num_blocks": 2}
        labels = {label: f"class {label}" for label in range(config.pop("num_labels", 5))}
        settings = {**sizes, "num_queries": 8, "id2label": labels, "num_register_tokens": 4, **config}
        if kind == "dinov3":
            settings = {"intermediate_size": 128, "layer_norm_eps": 1e-5, "pos_embed_rescale": None, **settings}
            model = transformers.EomtDinov3ForUniversalSegmentation(transformers.EomtDinov3Config(**settings))
        else:
            settings = {"use_swiglu_ffn": kind == "swiglu", **settings}
            model = transformers.EomtForUniversalSegmentation(transformers.EomtConfig(**settings))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                scales = "layer_scale" in name or ("norm" in name and name.endswith("weight"))
                parameter.normal_(float(scales), 1.0 if name == "query.weight" else 0.2, generator=generator)
            model.attn_mask_probs.zero_()
        return model

    return build


@pytest.fixture(scope="session")
def textual_model() -> Callable[..., dict[str, Any]]:
    """The `model` of a recipe of a tiny tqdm, whose text encoder has random weights, the same ones every time.

    injected: queries join the last block instead of reading a pixel decoder; keyword arguments go to the query source.
    """
    tower: dict[str, Any] = {"embed_dim": 24, "text_cfg": {"width": 16, "heads": 2, "layers": 2, "context_length": 20}}

    def build(injected: bool = False, **options: Any) -> dict[str, Any]:
        clip = {"name": "vit_base_patch16_clip_quickgelu_224", "patch_size": 8, "image_size": 32}
        clip |= {"options": {**TINY_VIT, **({} if injected else {"num_classes": 24})}}
        source = {"tower": tower, "tower_weights": False, "prompt_length": 3, **options}
        sizes = {"width": 16, "hidden": 24, "num_layers": 2, "num_heads": 2, "groups": 4}
        parts: dict[str, Any] = {
            "pixel_decoder": {"class_path": "queryseg.pixel_decoders.TextDeformable", "init_args": sizes},
            "decoder": {
                "class_path": "queryseg.decoders.CrossAttention",
                "init_args": {"num_layers": 3, "hidden": 24, "num_heads": 2},
            },
        }
        if injected:
            parts["pixel_decoder"], parts["decoder"] = (
                "queryseg.pixel_decoders.Identity",
                "queryseg.decoders.QueryInjection",
            )
            source |= {"conditioned": False, "position": False}
        else:
            clip |= {"pyramid": "learned", "joint": True}
            source |= {"context_width": 16, "context_layers": 2, "context_heads": 2}
        return {
            "backbone": {"class_path": "queryseg.backbones.PlainViT", "init_args": clip},
            "queries": {"class_path": "queryseg.queries.TextualQueries", "init_args": {**source, **options}},
            "readout": "queryseg.readouts.Mixture",
            **parts,
        }

    return build


@pytest.fixture
def textual_run(textual_model: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Path]:
    """Writes the run of a tiny tqdm that learned nothing, with the classes NAMES; arguments as of `textual_model`."""
    pytest.importorskip("open_clip", reason="the extra `text` is not installed")

    def write(injected: bool = False, vectors: str = "per_class", seed: int = 0, **options: Any) -> Path:
        model = {**textual_model(injected, **options), "class_vectors": vectors}
        content = {"classes": list(NAMES), "model": model, "objectives": {}, "data": {"train": "none.yaml"}}
        recipe = resolve(content)
        torch.manual_seed(seed)
        learning = build_untrained(recipe)
        learning.begin_training()
        heads: Any = learning.heads
        with torch.no_grad():
            heads.class_embed.weight.mul_(20)
            heads.mask_embed.layers[-1].weight.mul_(50)
        folder = tmp_path / f"run_{seed}"
        folder.mkdir()
        write_recipe(folder, recipe)
        write_trained(folder, learning, learning.state_dict())
        return folder

    return write
