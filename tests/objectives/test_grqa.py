"""What the fixture of `tests/parity` does not cover: stages, options, edges, and DINO-R1's variants."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.contracts import Step
from queryseg.decoders import MaskHeads
from queryseg.errors import RecipeError
from queryseg.objectives import GRQA, GRQO, Hungarian, SetCriterion
from queryseg.objectives.group_alignment import class_means, group_advantages, image_alignment, k3, log_policy
from queryseg.objectives.grqo import log_objectness, standardised
from queryseg.types import Dims, Features, Output, Prediction, Queries, Target, Trunk

B, Q, K, E = 2, 6, 4, 8
DIMS = Dims(("a", "b", "c", "d"), E, 2, (E,), (4,), E, E)


class Same:
    """A reference that repeats what the model says, and counts how often it is asked."""

    def __init__(self, contents: Tensor) -> None:
        self.past, self.heads, self.asked = contents, MaskHeads(DIMS), 0
        self.model = self

    def contents(self, like: Queries) -> Tensor:
        self.asked += 1
        return self.past


class Scene:
    def __init__(self, label_maps: Tensor | None = None) -> None:
        heads = MaskHeads(DIMS)
        self.content = torch.randn(B, Q, E, requires_grad=True)
        self.pixels = torch.randn(B, E, 8, 8, requires_grad=True)
        self.label_maps = torch.randint(0, 3, (B, 32, 32)) if label_maps is None else label_maps
        reading = replace(heads(Queries(self.content), self.pixels), tokens=self.pixels)
        empty = torch.zeros(B, 0, 0)
        self.output = Output(Features(Trunk(empty, (0, 0)), (), empty), Queries(self.content), [reading])
        self.reference = Same(torch.randn(B, Q, E))
        self.targets = [Target.semantic(label_map) for label_map in self.label_maps]

    def step(self, index: int, total: int = 30) -> Step:
        images = torch.zeros(B, 3, 32, 32)
        return Step(index, total, images, self.reference, lambda name: self.reference)  # type: ignore[arg-type, return-value]

    def losses(self, objective: GRQA | GRQO, index: int = 29) -> dict[str, Tensor]:
        return objective.losses(self.output, self.targets, self.step(index))


def warm(scene: Scene, **options: Any) -> GRQA:
    """An objective whose bank has seen one step."""
    objective = GRQA(DIMS, **options)
    scene.losses(objective, 0)
    objective.after_step(scene.step(0))
    return objective


def test_stage_one_fills_the_bank_and_asks_no_reference() -> None:
    scene, objective = Scene(), GRQA(DIMS)
    terms = scene.losses(objective, 19)
    assert terms.keys() == GRQA.statistics - {"ratio_spread", "clip_fraction"}
    assert scene.reference.asked == 0
    objective.after_step(scene.step(19))
    assert objective.initialised.tolist() == [True, True, True, False]
    norms = objective.prototypes.norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 1.0, 1.0, 0.0]))
    assert scene.losses(objective, 20).keys() == objective.weights.keys() | GRQA.statistics


def test_the_control_arm_never_begins() -> None:
    scene = Scene()
    assert not scene.losses(warm(scene, start=1.0), 29).keys() & GRQA(DIMS).weights.keys()


def test_an_empty_bank_teaches_nothing() -> None:
    scene = Scene()
    terms = scene.losses(GRQA(DIMS, start=0.0))
    assert terms["image"] == terms["group"] == terms["kl"] == 0


def test_micro_batches_update_the_bank_as_one_batch() -> None:
    scenes = [Scene(), Scene()]
    apart, together = GRQA(DIMS), GRQA(DIMS)
    for scene in scenes:
        scene.losses(apart, 0)
    apart.after_step(scenes[0].step(0))
    joined = Scene(torch.cat([scene.label_maps for scene in scenes]))
    pixels = torch.cat([scene.pixels for scene in scenes])
    reading = joined.output.final
    content = reading.content.repeat(2, 1, 1)
    reading = replace(reading, mask_features=pixels, mask_embeddings=content, content=content)
    reading = replace(reading, class_logits=reading.class_logits.repeat(2, 1, 1))
    joined.output = replace(joined.output, predictions=[reading])
    joined.losses(together, 0)
    together.after_step(joined.step(0))
    torch.testing.assert_close(apart.prototypes, together.prototypes)


def test_the_bank_needs_enough_pixels() -> None:
    label_map = torch.full((1, 16, 16), 255)
    label_map[0, :4, :4] = 1  # one pixel of a quarter grid
    label_map[0, 8:, :] = 2
    _, present = class_means(torch.randn(1, E, 4, 4), label_map, K, 2)
    assert present.tolist() == [[False, False, True, False]]


@pytest.mark.parametrize("reward", ["alignment", "matching_cost", "none"])
@pytest.mark.parametrize("space", ["mask", "token"])
def test_rewards_and_spaces(reward: str, space: str) -> None:
    scene = Scene()
    objective = warm(scene, reward=reward, space=space, num_points=64)
    assert objective.requires == ({"token_space"} if space == "token" else set())
    terms = scene.losses(objective)
    assert ("group" in terms) == (reward != "none")
    assert scene.reference.asked == (reward != "none")
    total = torch.stack([objective.weights[name] * terms[name] for name in objective.weights]).sum()
    total.backward()
    assert scene.pixels.grad is not None
    assert bool(scene.pixels.grad.any())
    moved = scene.content.grad is not None and bool(scene.content.grad.any())
    assert moved == (reward != "none")


def test_matching_cost_rewards_the_query_that_fits_and_names_its_class() -> None:
    halves = torch.zeros(B, 32, 32, dtype=torch.int64)
    halves[:, :, 16:] = 2
    scene = Scene(halves)
    objective = warm(scene, reward="matching_cost", num_points=256)
    fitting = scene.label_maps[0] == 2
    masks = scene.output.final.mask_logits.detach().clone()
    masks[0, 3] = torch.where(fitting, 20.0, -20.0)[::4, ::4]
    logits = scene.output.final.class_logits.detach().clone()
    logits[0, 3] = torch.tensor([-9.0, -9.0, 9.0, -9.0, -9.0])
    reading = replace(
        scene.output.final, mask_logits=masks, class_logits=logits, class_scores=logits.softmax(-1)[..., :-1]
    )
    allowed = objective.initialised.expand(B, -1)
    rewards, groups, counted = objective._rewards(torch.zeros(B, Q, K), allowed, reading, scene.targets)
    assert rewards[0].argmax() == 3
    assert groups[0, 3] == 2
    assert bool(counted.all())


def test_images_without_labels_do_not_count() -> None:
    label_maps = torch.randint(0, 3, (B, 32, 32))
    label_maps[1] = 255
    scene = Scene(label_maps)
    for options in ({"present_only": True}, {"reward": "matching_cost", "num_points": 16}):
        objective = warm(scene, **options)
        scene.losses(objective)["group"].backward(retain_graph=True)
        assert scene.content.grad is not None
        assert bool(scene.content.grad.isfinite().all())
        assert not bool(scene.content.grad[1].any())
        assert bool(scene.content.grad[0].any())
        scene.content.grad = None


def test_an_all_ignored_batch_is_finite() -> None:
    scene = Scene(torch.full((B, 32, 32), 255))
    for objective in (warm(scene, reward="matching_cost"), warm(scene), GRQO(DIMS)):
        assert all(bool(value.isfinite()) for value in scene.losses(objective).values())


def test_statistics() -> None:
    scene = Scene()
    objective = warm(scene)
    terms = scene.losses(objective)
    similarity = torch.nn.functional.normalize(scene.output.final.mask_embeddings, dim=-1) @ objective.prototypes.T
    nearest = similarity[..., :3].max(-1)
    torch.testing.assert_close(terms["reward"], nearest.values.mean().detach())
    classes = [set(row.tolist()) for row in nearest.indices]
    assert terms["classes_occupied"].item() == sum(map(len, classes)) / B
    assert terms["group_size"].item() == pytest.approx(B * Q / sum(map(len, classes)))
    assert terms["active_queries"].item() == (scene.output.final.class_logits.argmax(-1) < K).sum().item() / B


def test_a_sharper_policy_moves_ratios_further() -> None:
    scene = Scene()
    spreads = [scene.losses(warm(scene, temperature=t))["ratio_spread"].item() for t in (1.0, 0.1)]
    assert spreads[1] > 2 * spreads[0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"start": 1.5}, "starts at 1.5"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"reward": "matching_cost", "group_scope": "batch"}, "one group per image"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        GRQA(DIMS, **options)
    with pytest.raises(RecipeError, match="muted_share is 0"):
        GRQO(DIMS, muted_share=0)


def test_advantages_of_equal_queries_and_of_one_alone() -> None:
    rewards = torch.tensor([[0.5, 0.5, 0.5, 0.1, 0.3]])
    groups = torch.tensor([[0, 0, 0, 1, 2]])
    advantages, sizes = group_advantages(rewards, groups, K, 1e-4)
    assert not bool(advantages.any())
    assert sizes.tolist() == [[3, 1, 1, 0]]
    two, _ = group_advantages(torch.tensor([[1.0, 3.0]]), torch.tensor([[0, 0]]), K, 0.0)
    assert two.tolist() == [[-1.0, 1.0]]  # population deviation


def test_log_policy_leaves_out_what_is_not_allowed() -> None:
    allowed = torch.tensor([[True, False, True], [False, False, False]])
    policy = log_policy(torch.zeros(2, 1, 3), allowed, 1.0)
    torch.testing.assert_close(policy[0, 0], torch.tensor([0.5, 0.0, 0.5]).log())
    assert bool(policy[1].isfinite().all())


def test_image_alignment_without_pairs_is_zero() -> None:
    assert image_alignment(torch.randn(B, K, E), torch.randn(K, E), torch.zeros(B, K, dtype=torch.bool)) == 0


def test_k3_is_positive_and_exact_near_one() -> None:
    assert k3(torch.tensor(1e-4)).item() == pytest.approx(5e-9, rel=1e-2)
    assert bool((k3(torch.linspace(-3, 3, 50)) >= 0).all())


def test_grqo_equals_its_formula() -> None:
    scene = Scene()
    torch.manual_seed(5)
    objective = GRQO(DIMS, num_points=64)
    assert objective.losses(scene.output, scene.targets, scene.step(0)) == {}
    torch.manual_seed(5)
    terms = scene.losses(objective)
    torch.manual_seed(5)
    costs, _ = objective.matching.costs_of_targets(scene.output.final, scene.targets)
    wanted_advantage, wanted_kl = 0.0, 0.0
    past = scene.reference.heads.classify(scene.reference.past).softmax(-1)
    now = scene.output.final.class_logits.softmax(-1)
    for b in range(B):
        rewards = [-costs[b, q].min().item() for q in range(Q)]
        mean = sum(rewards) / Q
        deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / Q)
        objectness = [1 - now[b, q, -1].item() for q in range(Q)]
        muted = sorted(range(Q), key=objectness.__getitem__)[: Q // 3]
        for q in range(Q):
            wanted_advantage -= 0 if q in muted else (rewards[q] - mean) / (deviation + 2e-9) / (B * Q)
            u = (1 - past[b, q, -1].item()) / objectness[q]
            wanted_kl += (u - math.log(u) - 1) / (B * Q)
    assert terms["advantage"].item() == pytest.approx(wanted_advantage, abs=1e-5)
    assert terms["kl"].item() == pytest.approx(wanted_kl, abs=1e-5)
    terms["advantage"].backward()
    assert scene.content.grad is not None
    assert bool(scene.content.grad.any())


def test_unmuted_advantages_have_no_gradient() -> None:
    rewards = torch.randn(2, 9, dtype=torch.float64, requires_grad=True)
    standardised(rewards).sum().backward()
    assert rewards.grad is not None
    assert rewards.grad.abs().max() < 1e-7


def test_log_objectness_is_exact_where_queries_are_almost_empty() -> None:
    logits = torch.tensor([[[0.0, 0.0, 60.0]]])
    assert log_objectness(logits).item() == pytest.approx(math.log(2) - 60, rel=1e-6)


def test_half_precision_readings_are_compared_in_float32() -> None:
    scene = Scene()
    objective = warm(scene)
    final = scene.output.final
    half: dict[str, Any] = {n: getattr(final, n).bfloat16() for n in ("mask_embeddings", "mask_features", "content")}
    reading: Prediction = replace(final, **half)
    scene.output = replace(scene.output, predictions=[reading])
    with torch.autocast("cpu", torch.bfloat16):
        terms = scene.losses(objective)
    assert {value.dtype for value in terms.values()} == {torch.float32}


@pytest.mark.parametrize("make", [partial(GRQA, DIMS), partial(GRQO, DIMS), partial(SetCriterion, DIMS), Hungarian])
def test_there_must_be_points(make: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match="num_points is 0"):
        make(num_points=0)
