"""timm models by name, with one-sentence errors where timm would give a traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, Literal

import timm

from queryseg.errors import RecipeError

_FAMILIES = {
    "vision_transformer": "PlainViT",
    "vision_transformer_hybrid": "PlainViT",
    "deit": "PlainViT",
    "eva": "RotaryViT",
    "vision_transformer_sam": "SamViT",
}
"""timm's module → the class that drives its models; every other module: PyramidBackbone."""


def family_of(name: str) -> str:
    """The backbone class for a timm model.

    Raises: RecipeError if timm has no such model or tag.
    """
    if not timm.is_model(name):
        architecture = name.partition(".")[0]
        close = difflib.get_close_matches(architecture, timm.list_models(), 3, 0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() names those that exist."
        raise RecipeError(f"timm has no model '{name}'; {hint}")
    architecture, _, tag = name.partition(".")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise RecipeError(f"timm has no weights '{tag}' for {architecture}; its tags are {', '.join(tags) or 'none'}.")
    return _FAMILIES.get(_module_of(name), "PyramidBackbone")


def _module_of(name: str) -> str:
    return timm.model_entrypoint(name.partition(".")[0]).__module__.rpartition(".")[2]


def check_family(name: str, wanted: str) -> None:
    """Raises: RecipeError if another backbone class drives this model."""
    family = family_of(name)
    if family != wanted:
        raise RecipeError(f"timm model '{name}' is not one for {wanted}; use queryseg.backbones.{family}.")


def default_config(name: str) -> Any:
    """What timm knows about the weights of a model: tag, mean, std, whether there are any."""
    family_of(name)
    return timm.get_pretrained_cfg(name)


def has_joint_head(name: str) -> bool:
    """Whether timm's head of this model projects into an image–text space: CLIP, but not fine-tuned on classes."""
    return "clip" in name and not re.search(r"(^|_)ft(_|$)", default_config(name).tag)


def build_model(
    name: str,
    family: str,
    patch_size: int | None,
    image_size: int | tuple[int, int] | None,
    remainder: Literal["pad", "cut"],
    arguments: dict[str, Any],
) -> Any:
    """A timm vision transformer with random weights, whose position table has the grid of `image_size`.

    Raises: RecipeError for unknown names, models of another family, and arguments that timm refuses.
    """
    check_family(name, family)
    if patch_size is not None:
        if _module_of(name) == "vision_transformer_hybrid":
            raise RecipeError(f"timm model '{name}' has a convolutional stem of its own; leave patch_size out.")
        arguments = {**arguments, "patch_size": patch_size}
    if image_size is None:
        return create_model(name, arguments)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    model = create_model(name, {**arguments, "img_size": (height, width)})
    stride: int = model.patch_embed.feat_ratio()
    padded = (-(-height // stride) * stride, -(-width // stride) * stride)
    if remainder == "pad" and padded != (height, width):
        return create_model(name, {**arguments, "img_size": padded})
    return model


def build_feature_network(name: str, pretrained: bool | str, options: Mapping[str, Any]) -> Any:
    """timm's `features_only` with its last four maps, for any input size. pretrained: True: hub; a path: a local file.

    Raises: RecipeError for models that take one image size only and for arguments that timm refuses.
    """
    arguments: dict[str, Any] = {"out_indices": (-4, -3, -2, -1), "features_only": True, **options}
    if default_config(name).fixed_input_size:
        if not _module_of(name).startswith("swin_transformer"):
            raise RecipeError(
                f"timm model '{name}' takes images of one size only, but a backbone must take any; use a ResNet, Swin "
                "or ConvNeXt."
            )
        arguments["strict_img_size"] = False  # Swin pads its windows instead
    if isinstance(pretrained, str):
        arguments["pretrained_cfg_overlay"] = {"file": pretrained}
    return create_model(name, {"pretrained": bool(pretrained), **arguments})


def create_model(name: str, arguments: Mapping[str, Any]) -> Any:
    """Raises: RecipeError for arguments that timm refuses."""
    try:
        return timm.create_model(name, **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise RecipeError(f"timm cannot build '{name}' with {given}: {error}.") from error
