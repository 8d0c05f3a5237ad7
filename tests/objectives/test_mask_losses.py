"""Shape legend: B images, Q queries, M targets, P points."""

import pytest
import torch

from queryseg.objectives.mask_losses import (
    at_least_float32,
    mask_bce,
    mask_dice,
    pairwise_mask_bce,
    pairwise_mask_dice,
)

B, Q, M, P = 2, 4, 3, 50


def test_bce_by_hand() -> None:
    logits, targets = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    expected = (torch.tensor(2.0).log() + (1 + torch.tensor(2.0).exp()).log()) / 2
    torch.testing.assert_close(mask_bce(logits, targets), expected[None])


def test_dice_by_hand() -> None:
    logits, targets = torch.tensor([[0.0, 100.0]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(mask_dice(logits, targets), torch.tensor([1 - (2 * 0.5 + 1) / (1.5 + 1 + 1)]))


@pytest.mark.parametrize(("pairwise", "single"), [(pairwise_mask_bce, mask_bce), (pairwise_mask_dice, mask_dice)])
def test_pairwise_equals_pair_by_pair(pairwise, single) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 30 * torch.randn(B, Q, P, generator=generator, dtype=torch.float64)
    targets = torch.rand(B, M, P, generator=generator, dtype=torch.float64)
    table = pairwise(logits, targets)
    assert table.shape == (B, Q, M)
    every = [[[single(logits[b, q], targets[b, m]) for m in range(M)] for q in range(Q)] for b in range(B)]
    torch.testing.assert_close(table, torch.tensor(every, dtype=torch.float64), rtol=0, atol=1e-12)


def test_large_logits_stay_finite() -> None:
    logits, targets = torch.tensor([[[1e4, -1e4]]]), torch.tensor([[[0.0, 1.0]]])
    assert pairwise_mask_bce(logits, targets).item() == pytest.approx(1e4)
    assert pairwise_mask_dice(logits, targets).isfinite().all()


def test_half_precision_is_raised_and_double_kept() -> None:
    dtypes = [at_least_float32(torch.zeros(1, dtype=d)).dtype for d in (torch.float16, torch.bfloat16, torch.float64)]
    assert dtypes == [torch.float32, torch.float32, torch.float64]
