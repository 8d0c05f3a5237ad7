"""Group-relative query alignment: every query of a class learns, not only the matched one.

Shape legend: see `group_alignment.py`; M segments of one image.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from queryseg.contracts import Objective, Step
from queryseg.errors import RecipeError
from queryseg.objectives.group_alignment import (
    at,
    class_means,
    clipped_surrogate,
    group_advantages,
    image_alignment,
    k3,
    log_policy,
    similarities,
    updated_prototypes,
)
from queryseg.objectives.mask_losses import at_least_float32
from queryseg.objectives.matching import Hungarian
from queryseg.types import Dims, Output, Prediction, Target

Space = Literal["mask", "token"]
"""Where queries meet pixels: mask embeddings and mask features, or query contents and image tokens of a ViT."""

EPS = 1e-4
"""Added to a group's deviation: queries that agree have no advantage."""


class GRQA(Objective):
    """Pulls pixels to their class's prototype and, among the queries nearest to one prototype, rewards those that are
    nearer than their group. A plug-in for any decoder; nothing of it is in the saved model.

    start         share of the run after which it begins (stage two); before, it only fills the prototype bank
    space         "mask": mask embeddings and mask features; "token": query contents and image tokens of a ViT
    reward        "alignment" (the paper's): similarity to the nearest prototype; "matching_cost" (DINO-R1's reward in
                  this loss): −min over segments of the matching cost, one group per image; "none": L_img alone
    group_scope   queries are compared within their "image", or over the "batch" of this process
    present_only  queries may stand only for classes present in the image (needs its labels, as all of this does)
    temperature   of the policy π
    momentum      α of the prototype bank
    min_pixels    a class with fewer pixels in the mask features' grid does not count in that image
    clip          ϵ of the clipped ratio
    *_weight      λ_img, λ_grqa and, within it, β of the KL term (0: computed for the log alone)
    num_points    of "matching_cost", per image

    Groups and prototypes are those of classes, whatever the targets are. With panoptic or instance targets L_img pulls
    the pixels of all objects of a class to one prototype, and in the space "mask" objects are told apart by nothing
    else than these pixels: expect it to help classes and to cost objects.

    Source: QPrompt-R1 §3.3, Eq. 4–15; defaults are Table 5's best. The bank that losses see is the one before this
    step's update. Every statistic is computed in float32 or better.
    """

    prototypes: Tensor
    initialised: Tensor
    references = frozenset({"ema"})
    statistics = frozenset(
        {"reward", "group_size", "classes_occupied", "active_queries", "ratio_spread", "clip_fraction"}
    )

    def __init__(
        self,
        dims: Dims,
        start: float = 2 / 3,
        space: Space = "mask",
        reward: Literal["alignment", "matching_cost", "none"] = "alignment",
        group_scope: Literal["image", "batch"] = "image",
        present_only: bool = False,
        temperature: float = 1.0,
        momentum: float = 0.99,
        min_pixels: int = 16,
        clip: float = 0.1,
        image_weight: float = 10.0,
        group_weight: float = 5.0,
        kl_weight: float = 1e-3,
        num_points: int = 12544,
    ) -> None:
        super().__init__()
        if not 0 <= start <= 1:
            raise RecipeError(f"GRQA starts at {start} of the run; give a share between 0 and 1.")
        if temperature <= 0:
            raise RecipeError(f"GRQA's temperature is {temperature}; give a number above 0.")
        if reward == "matching_cost" and group_scope == "batch":
            raise RecipeError("The reward 'matching_cost' forms one group per image; set group_scope to 'image'.")
        self.start, self.space, self.reward, self.group_scope = start, space, reward, group_scope
        self.present_only, self.temperature, self.momentum = present_only, temperature, momentum
        self.min_pixels, self.clip = min_pixels, clip
        self.matching = Hungarian(num_points=num_points)
        self.weights = {"image": image_weight}
        if reward != "none":
            self.weights |= {"group": group_weight, "kl": group_weight * kl_weight}
        self.requires = frozenset({"token_space"} if space == "token" else ())
        width = dims.mask_channels if space == "mask" else dims.width
        self.register_buffer("prototypes", torch.zeros(dims.num_classes, width))
        self.register_buffer("initialised", torch.zeros(dims.num_classes, dtype=torch.bool))
        self.seen: list[tuple[Tensor, Tensor]] = []  # (means, present) of every micro-batch of this step

    def losses(self, output: Output, targets: list[Target], step: Step) -> dict[str, Tensor]:
        with torch.autocast(output.final.content.device.type, enabled=False):
            reading = output.final
            queries, pixels = queries_and_pixels(reading, self.space)
            label_maps = torch.stack([target.label_map for target in targets])
            means, present = class_means(pixels, label_maps, len(self.initialised), self.min_pixels)
            self.seen.append((means.detach(), present))

            prototypes = self.prototypes.to(means.dtype)
            allowed = self.initialised.expand_as(present) & (present if self.present_only else True)
            similarity = similarities(queries, prototypes)
            rewards, groups, counted = self._rewards(similarity.detach(), allowed, reading, targets)
            whole = (~counted).long() if self.reward == "matching_cost" else groups  # one group of those that count
            advantages, sizes = self._advantages(rewards, whole)
            terms = statistics_of(reading, rewards, groups, sizes, len(self.initialised))
            if step.progress < self.start:
                return terms
            terms["image"] = image_alignment(means, prototypes, present & self.initialised)
            if self.reward == "none":
                return terms

            past = at_least_float32(self._reference_queries(output, step))
            now, then = (log_policy(s, allowed, self.temperature) for s in (similarity, similarities(past, prototypes)))
            log_ratios = torch.where(counted, at(now, groups) - at(then, groups), 0)
            ratios, advantages = log_ratios.exp(), advantages * counted
            surrogate = clipped_surrogate(ratios, advantages, self.clip)
            terms["group"], terms["kl"] = -surrogate.mean(), k3(log_ratios).mean()
            terms["ratio_spread"] = ratios.detach().std(correction=0)
            terms["clip_fraction"] = (surrogate < ratios * advantages).to(ratios.dtype).mean()
            return terms

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        means, present = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        self.seen.clear()
        prototypes, initialised = updated_prototypes(
            self.prototypes.to(means.dtype), self.initialised, means, present, self.momentum
        )
        self.prototypes.copy_(prototypes)
        self.initialised.copy_(initialised)

    def _reference_queries(self, output: Output, step: Step) -> Tensor:
        """The same rows: a source that chose queries from the image repeats its choices."""
        reference = step.reference("ema")
        contents = reference.contents(output.queries)
        with torch.no_grad():
            return reference.model.heads.embed(contents) if self.space == "mask" else contents

    def _rewards(
        self, similarity: Tensor, allowed: Tensor, reading: Prediction, targets: list[Target]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """r, c and whether the query counts at all; each (B, Q). Source: Eq. 7."""
        if self.reward != "matching_cost":
            rewards, groups = similarity.masked_fill(~allowed[:, None], -torch.inf).max(-1)
            counted = allowed.any(1, keepdim=True).expand_as(groups)
            return rewards.masked_fill(~counted, 0), groups, counted
        costs, labels = self.matching.costs_of_targets(reading, targets)
        costs, nearest = costs.detach().min(2)
        groups = labels.gather(1, nearest)
        counted = allowed.gather(1, groups) & costs.isfinite()
        return -costs.masked_fill(~counted, 0), groups, counted

    def _advantages(self, rewards: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
        num_groups = len(self.initialised)
        if self.group_scope == "image":
            return group_advantages(rewards, groups, num_groups, EPS)
        advantages, sizes = group_advantages(rewards.reshape(1, -1), groups.reshape(1, -1), num_groups, EPS)
        return advantages.view_as(rewards), sizes


def queries_and_pixels(reading: Prediction, space: Space) -> tuple[Tensor, Tensor]:
    """(B, Q, E) and (B, E, h, w) that are compared in a space, in float32 or better, not normalised."""
    if space == "mask":
        assert reading.mask_features is not None  # only inference works in strips
        return at_least_float32(reading.mask_embeddings), at_least_float32(reading.mask_features)
    assert reading.tokens is not None  # whoever asks for tokens requires "token_space"
    return at_least_float32(reading.content), at_least_float32(reading.tokens)


@torch.no_grad()
def statistics_of(
    reading: Prediction, rewards: Tensor, groups: Tensor, sizes: Tensor, num_classes: int
) -> dict[str, Tensor]:
    """What the log tells of queries: mean reward, mean size of the groups that are not empty, classes that any query of
    an image stands for, and active queries (each a mean over images)."""
    occupied = torch.zeros(len(groups), num_classes, device=groups.device).scatter_(1, groups, 1.0)
    return {
        "reward": rewards.mean(),
        "group_size": sizes.sum() / (sizes > 0).sum().clamp(min=1),
        "classes_occupied": occupied.sum(1).mean(),
        "active_queries": reading.active.sum(1).to(rewards.dtype).mean(),
    }
