"""FLOPs against counts by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from queryseg.benchmarking.arithmetic import MatrixProduct
from queryseg.benchmarking.candidate import Stage, Work
from queryseg.benchmarking.stage_cost import StageCost, stage_costs

CPU = torch.device("cpu")


def test_flops_by_hand():
    """Convolution 3→8, 3×3, on 10×12 pixels; linear 8→5 on 120 rows; attention of 2 heads of width 4 over 6 tokens. The
    parts are counted apart, and attention is counted on the CPU, too."""
    convolution, linear = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
    tokens = torch.randn(1, 2, 6, 4)
    work = Work(
        lambda frames: None,
        (
            Stage("backbone", lambda frames: convolution(frames[0][None]), 224),
            Stage("head", lambda maps: linear(maps.flatten(2).mT)),
            Stage("readout", lambda _: F.scaled_dot_product_attention(tokens, tokens, tokens)),
        ),
    )
    with torch.no_grad():
        found = stage_costs(work, [torch.randn(3, 10, 12)], CPU)
    assert {name: cost.flops for name, cost in found.items()} == {
        "backbone": 2 * 8 * 3 * 9 * 120,
        "head": 2 * 120 * 8 * 5,
        "readout": 2 * (2 * 2 * 6 * 6 * 4),
    }
    assert found["backbone"] == StageCost(2 * 8 * 3 * 9 * 120, 8 * 120 * 4, 224), "its result is all that it allocates"


def test_attention_with_a_mask_and_in_half_precision_is_counted():
    """Neither masks nor autocast lead to a kernel that the counter does not know."""
    tokens, mask = torch.randn(1, 2, 6, 4), torch.rand(1, 1, 6, 6) > 0.5

    def run(frames):
        with torch.autocast("cpu", torch.bfloat16):
            return F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask)

    with torch.no_grad():
        assert stage_costs(Work(run, (Stage("network", run),)), [], CPU)["network"].flops == 2 * (2 * 2 * 6 * 6 * 4)


def test_matrix_product():
    """2·n³, in the type asked for."""
    product = MatrixProduct(torch.device("cpu"), torch.bfloat16, 16)
    assert product.flops == 8192
    assert product()["matrix"] > 0
    assert str(product) == "16×16 matrix product in bfloat16 on cpu"
    assert MatrixProduct(torch.device("cpu"), torch.float32).n == 2048
