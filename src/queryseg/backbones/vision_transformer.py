"""What all vision transformers of timm share: how they are built, paused, tapped and frozen.

Shape legend: B images, H×W pixels, C width of the trunk, E queries that joined, T tokens, J width of an image–text
space, h×w the grid of patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from timm.layers.mlp import GluMlp
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from queryseg.backbones.feature_pyramid import FeaturePyramid
from queryseg.backbones.timm_models import build_model, has_joint_head
from queryseg.backbones.weights import Resize, WeightReport, load_weights
from queryseg.contracts import Backbone, Projection
from queryseg.errors import InputError, RecipeError
from queryseg.ops.resampling import resample_table
from queryseg.types import Dims, Joint, Trunk

MAX_TABLES = 8  # grids kept: one for training and a few test sizes


class VisionTransformer(Backbone):
    """A timm vision transformer, driven block by block; queries may join before any of the last `dims.joinable` blocks.

    The timm model without its blocks, norm and heads is the stem. Position tables are made for `image_size`; for any
    other grid they are resampled in the forward pass, as timm does (antialiased bicubic).

    name            of a timm model, tag included, e.g. "vit_large_patch14_dinov2.lvd142m"
    pretrained      True: timm's weights from the hub; a path: a local file in the original layout
    patch_size      pixels; None: the model's own. Other sizes resample the patch weights
    image_size      pixels, (H, W) or one number; sets the grid of the position table; None: the model's own
    taps            blocks (counted from 0, repetition allowed) whose patches are kept; None: the last blocks of the
                    first third, half, two thirds and all of the depth if a pyramid needs them
    pyramid         "none": one level, the patches where the trunk paused; "bilinear" or "learned": four taps become
                    strides 2, 1, ½ and ¼ of the patch size
    frozen          no gradient for anything that timm made
    drop_path_rate  stochastic depth, linear from 0
    remainder       images that are no multiple of the patch size: "pad" them, or "cut" the remainder away, so that the
                    masks of the rest stand for the whole image (as tqdm's EVA-02 does)
    joint           project tokens into the image–text space (CLIP models only)
    resize          how pretrained patch kernels and position tables become those of other sizes, see `Resize`; None:
                    bicubic for DINOv2, antialiased for all others
    class_token_scale  pretrained class tokens are multiplied by it: tqdm's code adds CLIP's twice (2)
    options         further arguments of the timm model
    """

    weight_report: WeightReport | None
    family: str
    _kept_positions: dict[tuple[int, int], Tensor]
    _kept_source: tuple[object, ...] = ()

    def __init__(
        self,
        name: str,
        pretrained: bool | str = False,
        patch_size: int | None = None,
        image_size: int | tuple[int, int] | None = None,
        taps: Sequence[int] | None = None,
        pyramid: Literal["none", "bilinear", "learned"] = "none",
        frozen: bool = False,
        drop_path_rate: float = 0.0,
        remainder: Literal["pad", "cut"] = "pad",
        joint: bool = False,
        resize: Resize | None = None,
        class_token_scale: float = 1.0,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if joint and not has_joint_head(name):
            raise RecipeError(
                f"backbone {name} has no projection into an image–text space; leave `joint` out or use a CLIP model "
                "that was not fine-tuned on classes, e.g. vit_base_patch16_clip_quickgelu_224.openai."
            )
        arguments = {"drop_path_rate": drop_path_rate, **self._arguments(), **(options or {})}
        if not joint:
            arguments.setdefault("num_classes", 0)
        model = build_model(name, self.family, patch_size, image_size, remainder, arguments)
        self._strip(model, joint)
        self.weight_report = None
        if pretrained:
            resize = resize or ("bicubic" if "dinov2" in name else "antialiased")
            self.weight_report = load_weights(model, name, pretrained, options or {}, resize)
            _scale_class_token(model, name, class_token_scale)
        self.mean, self.std = tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])
        self.patch: int = model.patch_embed.feat_ratio()  # of hybrids more than the kernel of the projection
        self.remainder = remainder
        self.prefix: int = getattr(model, "num_prefix_tokens", 0)

        self.blocks = nn.ModuleList(model.blocks)
        model.blocks = nn.Sequential()
        embed: int = model.embed_dim
        own_norm = getattr(model, "norm", nn.Identity())
        # EVA-02 normalises after pooling and SAM in its neck: both end without a norm of tokens
        self._new_norm = isinstance(own_norm, nn.Identity)
        self.norm = nn.LayerNorm(embed, eps=1e-6) if self._new_norm else own_norm
        model.norm = nn.Identity()
        self.project: nn.Linear | None = model.head if joint else None
        model.head = nn.Identity()
        self._kept_positions = {}
        if joint:
            self.provides = frozenset({"joint_embeddings"})
        self._take_over(model)
        self.stem: Any = model

        self.taps = self._checked_taps(taps, pyramid != "none")
        self.pyramid = None if pyramid == "none" else FeaturePyramid(embed, pyramid == "learned")
        strides: tuple[int, ...] = (self.patch,)
        if self.pyramid is not None:
            self.requires = frozenset({"complete_trunk"})
            strides = (2 * self.patch, self.patch, self.patch // 2, self.patch // 4)
            if not joint:  # taps are raw: a norm that nothing reads would stop distributed training
                self.norm.requires_grad_(False)
        width = 0 if self.project is None else self.project.out_features
        channels = (embed,) * len(strides)
        self.dims = Dims((), embed, len(self.blocks), channels, strides, embed, embed, self._joinable(), width)
        if frozen:
            self.freeze()

    # what families differ in

    def _arguments(self) -> dict[str, Any]:
        """Arguments of the timm model that every model of this family needs."""
        return {"dynamic_img_size": True}

    def _strip(self, model: Any, joint: bool) -> None:
        """Drop what segmentation never reads, so that weights for it count as left over."""
        model.fc_norm = nn.Identity()
        model.attn_pool = None
        if not joint:
            model.head = nn.Identity()

    def _take_over(self, model: Any) -> None:
        """Move further modules from the timm model to this one."""

    def _joinable(self) -> int:
        return len(self.blocks)

    # contract

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        if self.remainder == "cut":
            return height, width
        return -(-height // self.patch) * self.patch, -(-width // self.patch) * self.patch

    def begin(self, images: Tensor) -> Trunk:
        height, width = images.shape[-2:]
        grid = (height // self.patch, width // self.patch)
        if 0 in grid:
            raise InputError(
                f"An image of {height}×{width} pixels holds no patch of {self.patch}×{self.patch}; use larger images "
                "or remainder: pad."
            )
        if self.remainder == "cut":
            images = images[..., : grid[0] * self.patch, : grid[1] * self.patch]
        return Trunk(self._embed(images, grid), grid, prefix=self.prefix)

    def _embed(self, images: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) → (B, T, C); timm's own resamples even a table of the right grid while a graph is exported, in a
        way that other runtimes lack."""
        stem = self.stem
        tokens = [getattr(stem, name, None) for name in ("cls_token", "dist_token", "reg_token")]
        prefix: list[Tensor] = [token.expand(images.shape[0], -1, -1) for token in tokens if token is not None]
        patches, table = stem.patch_embed(images).flatten(1, 2), self._positions(grid)
        if table is None:
            embedded = torch.cat([*prefix, patches], 1)
        elif stem.no_embed_class:
            embedded = torch.cat([*prefix, patches + table], 1)
        else:
            embedded = torch.cat([*prefix, patches], 1) + table
        return cast(Tensor, stem.norm_pre(stem.pos_drop(embedded)))

    def _positions(self, grid: tuple[int, int]) -> Tensor | None:
        """The position table for a grid, (1, [prefix +] h·w, C). Where nothing is learned, resampled tables are kept:
        resampling takes longer than a block on a GPU."""
        table: Tensor | None = self.stem.pos_embed
        if table is None or grid == self._table_grid():
            return table
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._resampled(table, grid)
        changes = 0 if table.is_inference() else table._version
        source = (id(table), changes, table.dtype, table.device)
        if self._kept_source != source or len(self._kept_positions) >= MAX_TABLES:
            self._kept_positions, self._kept_source = {}, source
        if grid not in self._kept_positions:
            self._kept_positions[grid] = self._resampled(table, grid)
        return self._kept_positions[grid]

    def _table_grid(self) -> tuple[int, int]:
        height, width = self.stem.patch_embed.grid_size
        return height, width

    def _resampled(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        prefix = 0 if self.stem.no_embed_class else self.prefix
        if not torch.compiler.is_exporting():
            return cast(Tensor, resample_abs_pos_embed(table, list(grid), list(self._table_grid()), prefix))
        patches = table[:, prefix:].view(1, *self._table_grid(), -1)
        return torch.cat([table[:, :prefix], resample_table(patches, grid).flatten(1, 2)], 1)

    def set_image_size(self, height: int, width: int) -> None:
        """Resample the position table for images of this size once instead of in every forward pass, e.g. before
        export; results stay the same. Replaces parameters: call it outside training."""
        height, width = self.canvas(height, width)
        grid = (height // self.patch, width // self.patch)
        table = self._positions(grid)
        if table is not None:
            self.stem.pos_embed = nn.Parameter(table.detach().clone(), self.stem.pos_embed.requires_grad)
        self.stem.patch_embed.img_size = (height, width)
        self.stem.patch_embed.grid_size = grid
        self.stem.patch_embed.num_patches = grid[0] * grid[1]

    def block(self, index: int, trunk: Trunk, blocked: Tensor | None) -> Tensor:
        tokens: Tensor = self.blocks[index](trunk.tokens, attn_mask=self.visible(trunk, blocked))
        return tokens

    def visible(self, trunk: Trunk, blocked: Tensor | None) -> Tensor | None:
        """blocked (B, E, h, w) → (B, 1, T, T) bool, True where a row attends to a column; None: everywhere."""
        if blocked is None:
            return None
        batch, length = trunk.tokens.shape[:2]
        rows = F.pad(~blocked.flatten(2), (trunk.extra + trunk.prefix, 0), value=True)
        return torch.cat([rows, rows.new_ones(batch, length - trunk.extra, length)], 1)[:, None]

    def keep(self, trunk: Trunk) -> Trunk:
        if trunk.depth - 1 not in self.taps:
            return trunk
        return replace(trunk, taps=(*trunk.taps, trunk.patches.permute(0, 3, 1, 2)))

    def finish(self, trunk: Trunk) -> Trunk:
        return replace(trunk, tokens=self.norm(trunk.tokens))

    def levels(self, trunk: Trunk) -> tuple[Tensor, ...]:
        if self.pyramid is None:
            return (trunk.patches.permute(0, 3, 1, 2),)
        kept = dict(zip(sorted(set(self.taps)), trunk.taps, strict=True))
        levels: tuple[Tensor, ...] = self.pyramid([kept[tap] for tap in self.taps])
        return levels

    def joint(self, trunk: Trunk) -> Joint | None:
        if self.project is None or trunk.depth < len(self.blocks):
            return None
        end = self.finish(trunk)
        end = replace(end, tokens=self.project(end.tokens))
        return Joint(end.tokens[:, end.extra], end.patches.permute(0, 3, 1, 2))

    def sections(self) -> Sequence[nn.Module]:
        return [self.stem, *self.blocks]

    def freeze(self, until: int | None = None) -> None:
        """See `Backbone`; with all blocks, also what else timm made."""
        super().freeze(until)
        if until is None:
            for module in (None if self._new_norm else self.norm, self.project):
                if module is not None:
                    module.requires_grad_(False)

    def projections(self, index: int) -> Sequence[Projection]:
        block: Any = self.blocks[index]
        found = []
        for name, linear in block.named_modules():
            if not isinstance(linear, nn.Linear):
                continue
            fused = name == "attn.qkv"
            gated = name == "mlp.fc1" and isinstance(block.mlp, GluMlp)
            # EVA-02 and DINOv3 keep the biases of a fused layer beside it
            beside = [getattr(block.attn, bias, None) for bias in ("q_bias", "v_bias")] if fused else []
            biases = tuple(bias for bias in (linear.bias, *beside) if bias is not None)
            found.append(Projection(linear, 3 if fused else 2 if gated else 1, biases))
        return found

    def undecayed(self) -> frozenset[str]:
        tables = self.stem.named_parameters(recurse=False)  # timm's no_weight_decay() forgot registers for a while
        return frozenset(f"stem.{name}" for name, _ in tables)

    def _checked_taps(self, taps: Sequence[int] | None, needed: bool) -> tuple[int, ...]:
        depth = len(self.blocks)
        if taps is None:
            return tuple(max(0, part * depth // 12 - 1) for part in (4, 6, 8, 12)) if needed else ()
        if list(taps) != sorted(taps) or any(not 0 <= tap < depth for tap in taps):
            raise RecipeError(f"taps: {list(taps)} must be block numbers from 0 to {depth - 1} in ascending order.")
        if needed and len(taps) != 4:
            raise RecipeError(f"taps: {list(taps)} has {len(taps)} entries, but a pyramid is made of 4; name 4 blocks.")
        return tuple(taps)


def _scale_class_token(model: Any, name: str, scale: float) -> None:
    """Raises: RecipeError if there is none to scale"""
    if scale == 1:
        return
    token: nn.Parameter | None = getattr(model, "cls_token", None)
    if token is None:
        raise RecipeError(f"backbone {name} has no class token to scale by {scale}; leave class_token_scale out.")
    with torch.no_grad():
        token.mul_(scale)
