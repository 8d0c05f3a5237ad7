"""The mathematics of GRQA, one function per equation.

Shape legend: B images, Q queries, K classes, E width of the space that queries and pixels share, H×W pixels, h×w a map.
`groups` (B, Q) int64 is c, the class that each query stands for; `ratios` is ρ = π/π_ref at c.

Source: QPrompt-R1 §3.3, equation numbers below; choices where it is silent: spec §3.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def class_means(pixels: Tensor, label_maps: Tensor, num_classes: int, min_pixels: int) -> tuple[Tensor, Tensor]:
    """f_c, the mean of the normalised pixel embeddings of class c in one image, not normalised again.

    pixels (B, E, h, w); label_maps (B, H, W) int64, 255 = ignored, read at the nearest upper left pixel
    → means (B, K, E), present (B, K) bool: at least `min_pixels` of the map's pixels. Source: Eq. 4.
    """
    pixels = F.normalize(pixels, dim=1)
    labels = F.interpolate(label_maps[:, None].to(pixels.dtype), pixels.shape[-2:], mode="nearest")
    classes = torch.arange(num_classes, device=pixels.device)
    member = labels.flatten(2) == classes[:, None]  # (B, K, h·w)
    counts = member.sum(2)
    means = member.to(pixels.dtype) @ pixels.flatten(2).mT / counts.clamp(min=1)[..., None]
    return means, counts >= min_pixels


def updated_prototypes(
    prototypes: Tensor, initialised: Tensor, means: Tensor, present: Tensor, momentum: float
) -> tuple[Tensor, Tensor]:
    """P_c ← unit(α·P_c + (1−α)·f_c), f_c averaged over the images of all processes that have the class; the first
    touch takes f_c alone; classes not seen stay.

    prototypes (K, E), initialised (K,) bool, means (B, K, E), present (B, K) → the new prototypes and initialised.
    Source: Eq. 4.
    """
    total = torch.cat([(means * present[..., None]).sum(0), present.sum(0)[:, None].to(means.dtype)], 1)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
    mean, seen = total[:, :-1] / total[:, -1:].clamp(min=1), total[:, -1] > 0
    mixed = torch.where(initialised[:, None], momentum * prototypes + (1 - momentum) * mean, mean)
    return torch.where(seen[:, None], F.normalize(mixed, dim=1), prototypes), initialised | seen


def image_alignment(means: Tensor, prototypes: Tensor, pairs: Tensor) -> Tensor:
    """L_img, the mean of ‖f_c − P_c‖² over the (image, class) pairs (B, K) bool; 0 without a pair. Source: Eq. 5."""
    distances = (means - prototypes).square().sum(-1)
    return torch.where(pairs, distances, 0).sum() / pairs.sum().clamp(min=1)


def similarities(queries: Tensor, prototypes: Tensor) -> Tensor:
    """S = unit(Q)·Pᵀ: (B, Q, E), (K, E) → (B, Q, K). Source: Eq. 6."""
    return F.normalize(queries, dim=-1) @ prototypes.T


def log_policy(similarity: Tensor, allowed: Tensor, temperature: float) -> Tensor:
    """ln π, the logarithm of the softmax of S/τ over the allowed classes (B, K) bool; −∞ for the others. An image that
    allows no class gets the softmax over all. Source: Eq. 10."""
    allowed = allowed | ~allowed.any(1, keepdim=True)
    return (similarity / temperature).masked_fill(~allowed[:, None], -torch.inf).log_softmax(-1)


def at(values: Tensor, groups: Tensor) -> Tensor:
    """What each query's class says: values (B, Q, K) → (B, Q)"""
    return values.gather(2, groups[..., None])[..., 0]


def group_advantages(rewards: Tensor, groups: Tensor, num_groups: int, eps: float) -> tuple[Tensor, Tensor]:
    """A = (r − μ_g) / (σ_g + ε) among the queries of a row that share a group, population σ; 0 for a query alone.

    rewards, groups (B, Q) → advantages (B, Q) and group sizes (B, num_groups). Source: Eq. 8–9.
    """
    member = F.one_hot(groups, num_groups).to(rewards.dtype)
    sizes = member.sum(1)

    def mean_of_group(values: Tensor) -> Tensor:
        means = (values[:, None] @ member)[:, 0] / sizes.clamp(min=1)
        return means.gather(1, groups)

    centred = rewards - mean_of_group(rewards)
    deviation = mean_of_group(centred.square()).sqrt()
    alone = sizes.gather(1, groups) < 2
    return (centred / (deviation + eps)).masked_fill(alone, 0), sizes


def clipped_surrogate(ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """min(ρA, clip(ρ, 1−ϵ, 1+ϵ)·A), to be maximised: (B, Q) → (B, Q). Source: Eq. 11–12."""
    return torch.minimum(ratios * advantages, ratios.clamp(1 - clip, 1 + clip) * advantages)


def k3(log_ratios: Tensor) -> Tensor:
    """u − ln u − 1 with u = 1/ρ, from ln ρ, exact near ρ = 1: any shape. Source: Eq. 13."""
    return torch.expm1(-log_ratios) + log_ratios
