"""GRQA equals a loop-based float64 reference written from the paper's equations: every intermediate and gradient.

`grqa/dev.json` draws the inputs, `grqa/dev.npz` holds what must come out: prefix `main/`, and variants that keep only
what differs from it.

Shape legend: B images, Q queries, K classes, E width, h×w the pixel embeddings' grid.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from queryseg.contracts import Step
from queryseg.objectives import GRQA
from queryseg.objectives.group_alignment import (
    at,
    class_means,
    clipped_surrogate,
    group_advantages,
    k3,
    log_policy,
    similarities,
    updated_prototypes,
)
from queryseg.types import Dims, Features, Output, Prediction, Queries, Target, Trunk

FOLDER = Path(__file__).with_name("grqa")
TOLERANCE = {"rtol": 1e-8, "atol": 1e-8}


def unit(v: np.ndarray) -> np.ndarray:
    return v / np.sqrt((v * v).sum(-1, keepdims=True))


class Case:
    """The fixture's inputs, rebuilt from its seed as its manifest says."""

    def __init__(self) -> None:
        manifest: dict[str, Any] = json.loads((FOLDER / "dev.json").read_text())
        self.gold = {name: torch.from_numpy(value) for name, value in np.load(FOLDER / "dev.npz").items()}
        self.arguments, recipe = manifest["arguments"], manifest["recipe"]
        draw = np.random.Generator(np.random.PCG64(manifest["seed"]))
        drawn = {}
        for entry in manifest["tensors"]:  # the order matters
            value = np.asarray(draw.standard_normal(tuple(entry["shape"])) * entry["scale"] + entry["offset"])
            assert np.allclose(value.reshape(-1)[:3], entry["first"], rtol=1e-12)
            drawn[entry["name"]] = value
        full, labels = self._label_maps(recipe, drawn)
        assert np.array_equal(labels, self.gold["labels"].numpy())
        known = np.array(recipe["bank_initialised"], bool)
        bank = unit(drawn["bank_raw"]) * known[:, None]
        assign = np.array(recipe["assign"])
        queries = recipe["gain"] * bank[assign] + drawn["query_noise"]
        for image, target, source in recipe["copy_query"]:
            queries[image, target] = queries[image, source]
        towards = (unit(drawn["pixel_dir"]) + bank)[np.minimum(labels, len(bank) - 1)]
        pull = np.where((labels < 255)[..., None], towards, 0.0)
        pixels = drawn["pixel_noise"] + recipe["pixel_pull"] * np.moveaxis(pull, -1, 1)
        past = np.array(recipe["ref_gain"])[:, None, None] * bank[assign] + drawn["ref_noise"]
        self.known, self.bank, self.past = (torch.from_numpy(x) for x in (known, bank, past))
        self.label_maps = torch.from_numpy(full)
        self.queries = torch.from_numpy(queries).requires_grad_()
        self.pixels = torch.from_numpy(pixels).requires_grad_()
        self.num_classes = len(known)

    def _label_maps(self, recipe: dict[str, Any], drawn: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        images, height, width = (self.arguments[name] for name in ("num_images", "grid_h", "grid_w"))
        full = np.zeros((images, 4 * height, 4 * width), np.int64)
        rows, columns = np.mgrid[: 4 * height, : 4 * width]
        for b in range(images):
            sites = (0.5 + 0.28 * drawn[f"site_{b}"]) * [4 * height, 4 * width]
            distances = (rows - sites[:, 0, None, None]) ** 2 + (columns - sites[:, 1, None, None]) ** 2
            full[b] = np.array(recipe["sites"][b])[distances.argmin(0)]
        for b, top, bottom, left, right, label in recipe["rectangles"]:
            full[b, 4 * top : 4 * bottom, 4 * left : 4 * right] = label
        return full, full[:, ::4, ::4]

    def expected(self, prefix: str, name: str) -> Tensor:
        """Variants leave out what equals main."""
        return self.gold.get(f"{prefix}/{name}", self.gold[f"main/{name}"])


@pytest.fixture
def case() -> Case:
    return Case()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found.detach(), wanted, **TOLERANCE, check_dtype=False)


class Identity:
    """Stands for the reference, its model and its heads: what it says of queries is given."""

    def __init__(self, contents: Tensor) -> None:
        self.past = contents
        self.model = self.heads = self

    def contents(self, like: Queries) -> Tensor:
        return self.past

    def embed(self, content: Tensor) -> Tensor:
        return content


VARIANTS = {
    "main": {},
    "same_ref": {},
    "bank_first": {},
    "present_only": {"present_only": True},
    "batch_groups": {"group_scope": "batch"},
}


def objective_and_terms(case: Case, variant: str) -> tuple[GRQA, dict[str, Tensor], Step]:
    width, names = case.queries.shape[-1], tuple(map(str, range(case.num_classes)))
    objective = GRQA(Dims(names, width, 1, (width,), (4,), width, width), **VARIANTS[variant]).double()
    first = variant == "bank_first"
    objective.prototypes.copy_(case.gold["bank_after"] if first else case.bank)
    objective.initialised.copy_(case.gold["bank_after_initialised"].bool() if first else case.known)
    nothing = torch.zeros(len(case.queries), case.queries.shape[1], 0)
    logits = torch.zeros(*nothing.shape[:2], case.num_classes + 1)
    reading = Prediction(logits, logits[..., :-1], nothing, case.queries, case.pixels, nothing)
    output = Output(Features(Trunk(nothing, (0, 0)), (), nothing), Queries(nothing), [reading])
    past = case.queries.detach() if variant == "same_ref" else case.past
    step = Step(2, 3, nothing, Identity(past), lambda name: Identity(past))  # type: ignore[arg-type, return-value]
    targets = [Target.semantic(label_map) for label_map in case.label_maps]
    return objective, objective.losses(output, targets, step), step


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_and_gradients(variant: str, case: Case) -> None:
    objective, terms, _ = objective_and_terms(case, variant)
    close(terms["group"], case.expected(variant, "L_GR"))
    close(terms["kl"], case.expected(variant, "KL"))
    close(terms["image"], case.expected(variant, "L_img"))
    for term, name in (("group", "L_GR"), ("kl", "KL")):
        (gradient,) = torch.autograd.grad(terms[term], case.queries, retain_graph=True)
        close(gradient, case.expected(variant, f"grad_Q_{name}"))
    total = torch.stack([weight * terms[name] for name, weight in objective.weights.items()]).sum()
    close(total, case.expected(variant, "L_total"))
    by_queries, by_pixels = torch.autograd.grad(total, (case.queries, case.pixels))
    close(by_queries, case.expected(variant, "grad_Q_total"))
    close(by_pixels, case.expected(variant, "grad_X_total"))


def test_at_ratio_one_the_value_is_zero_and_the_gradient_is_not(case: Case) -> None:
    _, terms, _ = objective_and_terms(case, "same_ref")
    (gradient,) = torch.autograd.grad(terms["group"], case.queries)
    assert abs(terms["group"].item()) < 1e-12
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_equation(variant: str, case: Case) -> None:
    gold = case.gold
    bank = gold["bank_after"] if variant == "bank_first" else case.bank
    known = gold["bank_after_initialised"].bool() if variant == "bank_first" else case.known
    allowed = known.expand(len(case.queries), -1)
    if variant == "present_only":
        allowed = allowed & gold["present"].bool()
    assert torch.equal(allowed, case.expected(variant, "allowed").bool())
    past = case.queries if variant == "same_ref" else case.past
    now, then = similarities(case.queries, bank), similarities(past, bank)
    close(now.where(allowed[:, None], 0), case.expected(variant, "S"))
    policies = [log_policy(s, allowed, 1.0) for s in (now, then)]
    close(policies[0].exp(), case.expected(variant, "pi"))
    rewards, groups = now.detach().masked_fill(~allowed[:, None], -torch.inf).max(-1)
    assert torch.equal(groups, case.expected(variant, "c").long())
    close(rewards, case.expected(variant, "r"))
    rows = (1, -1) if variant == "batch_groups" else groups.shape
    advantages, sizes = group_advantages(rewards.reshape(rows), groups.reshape(rows), case.num_classes, 1e-4)
    assert torch.equal(sizes.long(), case.expected(variant, "group_size").long())
    advantages = advantages.view_as(rewards)
    close(advantages, case.expected(variant, "A"))
    log_ratios = at(policies[0], groups) - at(policies[1], groups)
    ratios = log_ratios.exp()
    close(ratios, case.expected(variant, "rho"))
    surrogate = clipped_surrogate(ratios, advantages, 0.1)
    close(surrogate, case.expected(variant, "surrogate"))
    close(-surrogate.mean(1), case.expected(variant, "L_GR_per_image"))
    close(k3(log_ratios), case.expected(variant, "kl_term"))
    if variant != "same_ref":  # there, 1 lies between the limits for every query
        free = (surrogate == ratios * advantages).long()
        assert torch.equal(free, case.expected(variant, "passes_gradient").long())


def test_class_means(case: Case) -> None:
    means, present = class_means(case.pixels, case.label_maps, case.num_classes, 16)
    assert torch.equal(present, case.gold["present"].bool())
    close(means.where(present[..., None], 0), case.gold["f_c"].where(present[..., None], 0))


def test_the_bank_is_updated_after_the_step(case: Case) -> None:
    objective, _, step = objective_and_terms(case, "main")
    objective.after_step(step)
    close(objective.prototypes, case.gold["bank_after"])
    assert torch.equal(objective.initialised, case.gold["bank_after_initialised"].bool())
    means, present = class_means(case.pixels, case.label_maps, case.num_classes, 16)
    twice, _ = updated_prototypes(objective.prototypes, objective.initialised, means, present, 0.99)
    close(twice, case.gold["bank_after_two"])
