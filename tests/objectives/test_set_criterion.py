"""Shape legend: B images, Q queries, K classes, M segments of one image."""

from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from queryseg.objectives.mask_losses import mask_bce, mask_dice
from queryseg.objectives.matching import FixedAssignment, Hungarian, Matcher
from queryseg.objectives.set_criterion import SetCriterion
from queryseg.types import Dims, Features, Output, Prediction, Queries, Target, Trunk

B, Q, K, SIZE = 2, 6, 4, 24
DIMS = Dims(tuple("abcd"), embed=0, depth=0, channels=(), strides=(), mask_channels=0, width=0)


def target(labels: list[int], seed: int = 0) -> Target:
    masks = torch.rand(len(labels), SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) > 0.6
    return Target(torch.tensor(labels, dtype=torch.int64), masks, torch.zeros(SIZE, SIZE, dtype=torch.int64))


def reading(seed: int, dtype: torch.dtype = torch.float64) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    masks = (3 * torch.randn(B, Q, 10, 10, generator=generator)).to(dtype).requires_grad_()
    logits = torch.randn(B, Q, K + 1, generator=generator).to(dtype).requires_grad_()
    nothing = masks.new_zeros(B, Q, 0)
    return Prediction(logits, logits.softmax(-1)[..., :-1], masks, nothing, masks, nothing)


def losses(
    criterion: SetCriterion, targets: list[Target], *predictions: Prediction, seed: int = 0
) -> dict[str, Tensor]:
    empty = torch.zeros(B, 0, 0)
    output = Output(Features(Trunk(empty, (0, 0)), (), empty), Queries(empty), predictions)
    torch.manual_seed(seed)
    return criterion.losses(output, targets, step=None)  # type: ignore[arg-type]


def criterion(**options: object) -> SetCriterion:
    return SetCriterion(DIMS, **{"matcher": lambda: Hungarian(num_points=32), "num_points": 32, **options})


TARGETS = [target([2, 0], 1), target([3], 2)]


def test_terms_weights_and_requirements() -> None:
    objective = criterion(class_weight=1.0, dice_weight=3.0)
    assert objective.weights == {"class": 1.0, "mask": 5.0, "dice": 3.0}
    assert objective.requires == {"no_object"}
    assert criterion(matcher=FixedAssignment).requires == {"no_object", "class_rows"}
    assert losses(objective, TARGETS, reading(0)).keys() == objective.weights.keys()
    assert not objective.state_dict()


def test_fixed_assignment_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, prediction = criterion(matcher=FixedAssignment), reading(0)
    got = losses(objective, TARGETS, prediction)
    wanted = torch.tensor([[0, 4, 2, 4, 4, 4], [4, 4, 4, 3, 4, 4]])
    weight = torch.tensor([1, 1, 1, 1, 0.1], dtype=torch.float64)
    torch.testing.assert_close(got["class"], F.cross_entropy(prediction.class_logits.mT, wanted, weight))
    # constant masks, read at the centre: every point of the three masks adds the same
    monkeypatch.setattr(torch, "rand", lambda *shape, **options: torch.full(shape, 0.5, **options))
    constant = torch.full_like(prediction.mask_logits, 2.0)
    flat = Prediction(prediction.class_logits, prediction.class_scores, constant, constant, constant, constant)
    full = [Target(t.labels, torch.ones_like(t.masks), t.label_map) for t in TARGETS]
    got = losses(objective, full, flat)
    one, two = torch.ones(1, 32, dtype=torch.float64), torch.full((1, 32), 2.0, dtype=torch.float64)
    torch.testing.assert_close(got["mask"], mask_bce(two, one)[0])
    torch.testing.assert_close(got["dice"], mask_dice(two, one)[0])


def test_readings_add_up() -> None:
    fixed = criterion(matcher=FixedAssignment)
    one, two = reading(1), reading(2)
    both = losses(fixed, TARGETS, one, two)["class"]
    torch.testing.assert_close(both, losses(fixed, TARGETS, one)["class"] + losses(fixed, TARGETS, two)["class"])


def test_every_reading_and_term_has_a_gradient() -> None:
    readings = [reading(seed) for seed in range(3)]
    sum(losses(criterion(), TARGETS, *readings).values()).backward()
    for prediction in readings:
        assert prediction.class_logits.grad.abs().sum() > 0
        matched = prediction.mask_logits.grad.abs().sum((2, 3)) > 0
        assert matched.sum(1).tolist() == [2, 1]


@pytest.mark.parametrize("matcher", [lambda: Hungarian(num_points=32), FixedAssignment])
@pytest.mark.parametrize("labels", [([], []), ([], [1])])
def test_images_without_segments(labels: tuple[list[int], list[int]], matcher: Callable[[], Matcher]) -> None:
    prediction = reading(0)
    got = losses(criterion(matcher=matcher), [target(one) for one in labels], prediction)
    sum(got.values()).backward()
    assert all(value.isfinite() for value in got.values())
    assert prediction.mask_logits.grad[0].abs().sum() == 0
    assert prediction.class_logits.grad[0].abs().sum() > 0
    if not any(labels):
        assert got["mask"] == 0
        assert got["dice"] == 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_broken_masks_reach_the_loss(value: float) -> None:
    prediction = reading(0)
    with torch.no_grad():
        prediction.mask_logits[1, 5] = value
    assert not losses(criterion(), TARGETS, prediction)["mask"].isfinite()


def test_half_precision_is_computed_in_float32() -> None:
    rough = reading(0, torch.bfloat16)
    exact = Prediction(
        *(getattr(rough, name).float() for name in ("class_logits", "class_scores", "mask_logits")),
        *[rough.content] * 3,
    )
    with torch.autocast("cpu", torch.bfloat16):
        got = losses(criterion(), TARGETS, rough)
    for name, expected in losses(criterion(), TARGETS, exact).items():
        assert got[name].dtype == torch.float32
        torch.testing.assert_close(got[name], expected)


def test_seed_decides_everything() -> None:
    first, again, other = (losses(criterion(), TARGETS, reading(0), seed=seed)["mask"] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_normaliser_is_the_mean_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = losses(criterion(), TARGETS, reading(0))  # three segments here
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", lambda x: x.add_(9))  # nine on the other rank
    shared = losses(criterion(), TARGETS, reading(0))
    torch.testing.assert_close(shared["mask"], alone["mask"] * 3 / 6)
    torch.testing.assert_close(shared["dice"], alone["dice"] * 3 / 6)
    torch.testing.assert_close(shared["class"], alone["class"])


def test_training_sharpens_masks() -> None:
    masks = torch.zeros(B, Q, 12, 12, requires_grad=True)
    logits = torch.zeros(B, Q, K + 1, requires_grad=True)
    with torch.no_grad():
        masks += 0.1 * torch.randn(masks.shape, generator=torch.Generator().manual_seed(0))
    halves = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    halves[0, :, :12], halves[1, :, 12:] = True, True
    targets = [Target(torch.tensor([0, 1]), halves, torch.zeros(SIZE, SIZE, dtype=torch.int64))] * B
    optimizer = torch.optim.Adam([masks, logits], lr=0.3)
    history = []
    for step in range(40):
        prediction = Prediction(logits, logits.softmax(-1)[..., :-1], masks, masks, masks, masks)
        terms = losses(criterion(), targets, prediction, seed=step)
        optimizer.zero_grad()
        total = torch.stack([criterion().weights[name] * value for name, value in terms.items()]).sum()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert history[-1] < 0.25 * history[0]
    assert (logits.argmax(-1) != K).sum(1).tolist() == [2, 2]
