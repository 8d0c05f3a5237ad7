"""Loads a timm vision transformer from a file in the layout of its authors, and says what became of every tensor.

timm's own converters resample (antialiased) and drop tensors while they rename, so they can give no such account; the
names are translated here and timm is used for the hub and for resampling.

Shape legend: C width of the trunk, P prefix tokens, h×w and n×n grids of patches, k×k pixels of a patch.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from huggingface_hub.errors import HfHubHTTPError
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from queryseg.backbones.timm_models import create_model
from queryseg.errors import CheckpointError, reason_of
from queryseg.weight_file import file_sha256, read_tensors

Resize = Literal["antialiased", "bicubic", "bilinear"]
"""antialiased: as timm does, bicubic for position tables and by pseudo-inverse (FlexiViT) for patch kernels; bicubic:
without either, as published conversions of DINOv2 to patch 16 do (Rein, SoMA) and tqdm with EVA-02; bilinear: likewise,
as tqdm does with CLIP."""


@dataclass(frozen=True)
class WeightReport:
    """What became of the tensors of one file.

    matched    names in the timm model that were filled as they are
    resampled  names in the timm model that were filled after a change of grid or patch size
    left_over  names in the file that the model has no use for (text towers, classifiers, mask tokens)
    missing    names in the timm model that the file did not fill and that may stay as they were (counters)
    file       path, or "hub:" and the name of the model
    sha256     of the file; None for the hub, which checks its own
    """

    matched: tuple[str, ...]
    resampled: tuple[str, ...]
    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    file: str
    sha256: str | None

    def summary(self) -> str:
        """One line of counts."""
        return (
            f"{self.file}: {len(self.matched)} tensors matched, {len(self.resampled)} resampled, "
            f"{len(self.left_over)} of the file left over, {len(self.missing)} missing"
        )

    def lines(self) -> list[str]:
        """The summary, then every name that was not simply matched."""
        groups = {"resampled": self.resampled, "left over": self.left_over, "missing": self.missing}
        return [self.summary(), *(f"{group}: {name}" for group, names in groups.items() for name in names)]


_STEMS = r"(?:patch_embed\.proj|conv1)\.weight$"
_RENAMES = (
    # OpenAI CLIP, open_clip
    (r"^conv1\.", "patch_embed.proj."),
    (r"^class_embedding$", "cls_token"),
    (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."),
    (r"^ln_post\.", "norm."),
    (r"^proj$", "head.weight"),
    (r"^transformer\.resblocks\.", "blocks."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    # SAM
    (r"\.mlp\.lin([12])\.", r".mlp.fc\1."),
    # DINOv2, DINOv3
    (r"^(?:register|storage)_tokens$", "reg_token"),
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    # EVA-02
    (r"\.attn\.inner_attn_ln\.", ".attn.norm."),
    (r"\.mlp\.ffn_ln\.", ".mlp.norm."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
"""Authors' names → timm's, in this order; no pattern occurs in another layout with another meaning."""
_RENAMES_IF = {
    "blocks.0.mlp.fc1_g.weight": ((r"\.mlp\.w1\.", ".mlp.fc1_g."), (r"\.mlp\.w2\.", ".mlp.fc1_x.")),
    "blocks.0.attn.q_proj.weight": ((r"\.attn\.([qv])_bias$", r".attn.\1_proj.bias"),),
    "blocks.0.gamma_1": ((r"\.ls([12])\.gamma$", r".gamma_\1"),),  # DINOv3
    "blocks.0.ls1.gamma": ((r"\.gamma_([12])$", r".ls\1.gamma"),),  # DeiT III
}
"""The same where timm has two models of one layout: applied if the timm model has this tensor."""


def load_weights(
    model: Any, name: str, source: str | Literal[True], options: Mapping[str, Any], resize: Resize
) -> WeightReport:
    """Fill a timm vision transformer.

    source        a local file in the original layout, or True: timm's weights from the hub
    options       further arguments of the timm model
    resize        of patch kernels and position tables, see `Resize`

    Raises: CheckpointError if the file cannot be read, belongs to another architecture, or leaves a weight of the
    model without a value; the model is unchanged then.
    """
    grid = None
    if isinstance(source, str):
        file, found = source, read_tensors(source)
    else:
        with hub_errors(name):
            native: Any = timm.create_model(name, pretrained=True, **options)
        file, found, grid = f"hub:{name}", native.state_dict(), native.patch_embed.grid_size
    wanted = model.state_dict()
    tensors, origins = _translate(found, wanted, file, name)

    matched: list[str] = []
    resampled: list[str] = []
    state: dict[str, Tensor] = {}
    for key, target in wanted.items():
        if key not in tensors:
            continue
        state[key] = _resized(key, tensors[key], target, model, grid, resize)
        if state[key].shape != target.shape:
            raise CheckpointError(
                f"{file} does not fit {name}: '{origins[key]}' has shape {tuple(tensors[key].shape)} in the file, and "
                f"'{key}' {tuple(target.shape)} in the model; name the timm model that the file was made for."
            )
        (matched if state[key] is tensors[key] else resampled).append(key)
    missing = [key for key in wanted if key not in state]
    _check_complete(file, name, len(state), len(wanted), missing)
    model.load_state_dict(state, strict=False)
    digest = file_sha256(source) if isinstance(source, str) else None
    used = {origins[key] for key in state}
    left_over = tuple(key for key in found if key not in used)
    return WeightReport(tuple(matched), tuple(resampled), left_over, tuple(missing), file, digest)


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn what timm and the hub raise while weights are fetched into one sentence.

    Raises: CheckpointError
    """
    try:
        yield
    except (OSError, HfHubHTTPError) as error:
        raise CheckpointError(
            f"The weights of {name} could not be fetched from the hub ({type(error).__name__}: {reason_of(error)}); "
            "give a local file (pretrained: PATH), or fetch them on a machine with access and copy its cache."
        ) from error
    except RuntimeError as error:
        raise CheckpointError(
            f"timm's weights for {name} cannot be used ({reason_of(error)}); "
            "name a model and tag from timm.list_pretrained(), and leave out options that change its shapes."
        ) from error


def match_by_timm(name: str, path: str, options: Mapping[str, Any]) -> WeightReport:
    """What becomes of a file's tensors when timm itself loads it, under the names after timm's conversion; for networks
    that are no plain stack of blocks.

    Raises: CheckpointError if the file leaves a weight of the model without a value, which timm would not notice;
    RecipeError for options that timm refuses.
    """
    found = read_tensors(path)
    model = create_model(name, {**options, "num_classes": 0})
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    tensors = found if convert is None else convert(dict(found), model)
    wanted = model.state_dict()
    fitting = [key for key, target in wanted.items() if key in tensors and tensors[key].shape == target.shape]
    missing = [key for key in wanted if key not in fitting]
    _check_complete(path, name, len(fitting), len(wanted), missing)
    left_over = tuple(key for key in tensors if key not in wanted)
    return WeightReport(tuple(fitting), (), left_over, tuple(missing), path, file_sha256(path))


def _check_complete(file: str, name: str, num_filled: int, num_wanted: int, missing: Sequence[str]) -> None:
    lost = [key for key in missing if not key.endswith("num_batches_tracked")]
    if lost:
        raise CheckpointError(
            f"{file} does not fit {name}: it fills {num_filled} of {num_wanted} tensors, and '{lost[0]}' is not among "
            "them; name the timm model that the file was made for."
        )


def _translate(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], file: str, name: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors under timm's names, and the name in the file that each came from."""
    stems = [key for key in found if re.search(rf"(?:^|\.){_STEMS}", key)]
    if not stems:
        raise CheckpointError(
            f"{file} does not fit {name}: none of its {len(found)} tensors is called '…patch_embed.proj.weight' or "
            "'…conv1.weight'; give weights of a vision transformer in its authors' layout."
        )
    root = min((re.sub(_STEMS, "", key) for key in stems), key=len)
    rules = [*_RENAMES, *(rule for key, some in _RENAMES_IF.items() if key in wanted for rule in some)]
    origins: dict[str, str] = {}
    for key in found:
        if key.startswith(root):
            new = key.removeprefix(root)
            for pattern, replacement in rules:
                new = re.sub(pattern, replacement, new)
            origins[new] = key
    tensors = {new: found[key] for new, key in origins.items()}

    if f"{root}class_embedding" in found:  # CLIP's tables have no batch axis, its projection stands on the right
        tensors["cls_token"] = tensors["cls_token"][None, None]
        tensors["pos_embed"] = tensors["pos_embed"][None]
        if "head.weight" in tensors:
            tensors["head.weight"] = tensors["head.weight"].T
            tensors["head.bias"] = torch.zeros(tensors["head.weight"].shape[0])
            origins["head.bias"] = origins["head.weight"]
    if f"{root}register_tokens" in found and "pos_embed" in tensors:
        # DINOv2 gives a position to its class token; timm's models with registers have none
        tensors["cls_token"] = tensors["cls_token"] + tensors["pos_embed"][:, :1]
        tensors["pos_embed"] = tensors["pos_embed"][:, 1:]
    for key in [key for key in wanted if key.endswith(".attn.q_bias")]:
        fused = key.replace("q_bias", "qkv.bias")
        if key not in tensors and fused in tensors:  # DINOv3 masks the bias of its keys
            tensors[key], _, tensors[key.replace("q_bias", "v_bias")] = tensors[fused].chunk(3)
            origins[key] = origins[key.replace("q_bias", "v_bias")] = origins[fused]
    return tensors, origins


def _resized(
    key: str, tensor: Tensor, target: Tensor, model: Any, grid: tuple[int, int] | None, resize: Resize
) -> Tensor:
    """The tensor itself, or a resampled copy if it depends on patch or image size. grid: of the file's position table;
    None: square."""
    if key == "patch_embed.proj.weight" and tensor.ndim == 4 and tensor.shape[2:] != target.shape[2:]:  # (C, 3, k, k)
        size = tuple(target.shape[2:])
        if resize != "antialiased":
            return F.interpolate(tensor.float(), size, mode=resize, align_corners=False)
        resampled: Tensor = resample_patch_embed(tensor, list(size))
        return resampled
    smooth, mode = resize == "antialiased", "bilinear" if resize == "bilinear" else "bicubic"
    if key == "pos_embed" and tensor.ndim == 3:  # (1, P + n·n, C)
        wanted = model.patch_embed.grid_size
        prefix = target.shape[1] - wanted[0] * wanted[1]
        side = math.isqrt(max(0, tensor.shape[1] - prefix))
        source = grid or (side, side)
        if source == tuple(wanted) or source[0] * source[1] != tensor.shape[1] - prefix:
            return tensor
        table: Tensor = resample_abs_pos_embed(tensor, list(wanted), list(source), prefix, mode, smooth)
        return table
    if (
        key == "pos_embed" and tensor.ndim == target.ndim == 4 and tensor.shape[1:3] != target.shape[1:3]
    ):  # SAM: (1, n, n, C)
        grids = tensor.float().permute(0, 3, 1, 2)
        return F.interpolate(grids, target.shape[1:3], mode=mode, antialias=smooth).permute(0, 2, 3, 1)
    if key.endswith((".rel_pos_h", ".rel_pos_w")) and len(tensor) != len(target):  # SAM: (2·n − 1, C)
        return F.interpolate(tensor.float().T[None], target.shape[:1], mode="linear")[0].T
    return tensor
