"""Networks that run as one block."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from queryseg.backbones import PyramidBackbone
from queryseg.contracts import Adapter
from queryseg.errors import CheckpointError, RecipeError

from .conftest import shake

NETWORKS: dict[str, dict[str, Any]] = {
    "resnet18": {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32), "stem_width": 8},
    "swin_tiny_patch4_window7_224": {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_four_maps_of_any_image(name: str) -> None:
    backbone = PyramidBackbone(name, options=NETWORKS[name]).eval()
    height, width = backbone.canvas(70, 100)
    assert (height, width) == (96, 128)
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        features = backbone(images, 1)
        maps = backbone.net(images)
    if name.startswith("swin"):
        maps = [m.permute(0, 3, 1, 2) for m in maps]
    dims = backbone.dims
    assert (dims.depth, dims.joinable, dims.strides) == (1, 0, (32, 16, 8, 4))
    for level, expected, stride, channels in zip(features.levels, maps[::-1], dims.strides, dims.channels, strict=True):
        assert level.shape == (2, channels, height // stride, width // stride)
        assert torch.equal(level, expected)
    assert torch.equal(features.trunk.patches.permute(0, 3, 1, 2), features.levels[0])
    assert torch.equal(features.mask_features, features.levels[-1])
    begun = backbone.begin(images)
    assert torch.equal(backbone(images, 1, begun).levels[0], features.levels[0])


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_copies_trains_exports_and_compiles(name: str) -> None:
    backbone = PyramidBackbone(name, options=NETWORKS[name], drop_path_rate=0.1)
    images = torch.randn(2, 3, 64, 96)
    sum(level.square().mean() for level in backbone(images, 1).levels).backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []
    backbone.eval()

    class Levels(torch.nn.Module):
        def __init__(self, backbone: PyramidBackbone) -> None:
            super().__init__()
            self.backbone = backbone

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            levels: tuple[torch.Tensor, ...] = self.backbone(images, 1).levels
            return levels

    module = Levels(backbone).eval()
    expected = deepcopy(module)(images)
    torch.testing.assert_close(torch.export.export(module, (images,)).module()(images), expected, rtol=0, atol=1e-5)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="eager")(images)
    torch.testing.assert_close(compiled, expected, rtol=0, atol=1e-5)
    half = deepcopy(module).bfloat16()(images.bfloat16())
    assert all(level.isfinite().all() for level in half)


def test_nothing_is_dropped_unless_asked() -> None:
    name = "swin_tiny_patch4_window7_224"
    images = torch.randn(2, 3, 64, 64)
    backbone = PyramidBackbone(name, options=NETWORKS[name]).train()
    assert torch.equal(backbone(images, 1).levels[0], backbone(images, 1).levels[0])
    backbone = PyramidBackbone(name, options={**NETWORKS[name], "depths": (2, 2, 2, 2)}, drop_path_rate=0.9).train()
    assert not torch.equal(backbone(images, 1).levels[0], backbone(images, 1).levels[0])


def test_norms_on_every_map() -> None:
    name = "swin_tiny_patch4_window7_224"
    backbone = PyramidBackbone(name, frozen=True, norms=True, options=NETWORKS[name])
    learned = [n for n, p in backbone.named_parameters() if p.requires_grad]
    assert learned == [f"norms.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")]
    for level in backbone(torch.randn(2, 3, 64, 64), 1).levels:
        torch.testing.assert_close(level.mean(1), torch.zeros_like(level[:, 0]), rtol=0, atol=1e-5)
        torch.testing.assert_close(level.var(1, correction=0), torch.ones_like(level[:, 0]), rtol=0, atol=1e-2)


def test_upper_rows_never_see_lower_ones_where_windows_do_not_fit() -> None:
    """In a block of shifted windows; 9 rows in windows of 4 are padded to 12."""
    options = {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 1, 1), "window_size": 4}
    backbone = PyramidBackbone("swin_tiny_patch4_window7_224", options=options)
    block = backbone.net.layers_0.blocks[1].double()
    x = torch.randn(1, 9, 8, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[:, 0].square().sum(), x)
    assert torch.equal(gradient.abs().amax((0, 2, 3)) > 0, torch.arange(9) < 2)  # the shifted window's two rows


def test_frozen_keeps_batch_statistics() -> None:
    backbone = PyramidBackbone("resnet18", frozen=True, options=NETWORKS["resnet18"]).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64), 1)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_local_file(tmp_path: Path) -> None:
    name, options = "swin_tiny_patch4_window7_224", NETWORKS["swin_tiny_patch4_window7_224"]
    model = timm.create_model(name, **options)
    shake(model)
    file = str(tmp_path / "weights.pth")
    torch.save(model.state_dict(), file)
    backbone = PyramidBackbone(name, pretrained=file, options=options).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = model.eval().forward_intermediates(images, intermediates_only=True)
        levels = backbone(images, 1).levels
    torch.testing.assert_close(levels, tuple(reversed(expected)), rtol=1e-5, atol=1e-5)
    assert any("head" in key for key in backbone.weight_report.left_over)
    torch.save({key: value for key, value in model.state_dict().items() if "layers.2" not in key}, file)
    with pytest.raises(CheckpointError, match=r"it fills \d+ of \d+ tensors"):
        PyramidBackbone(name, pretrained=file, options=options)


class NoAdapter(Adapter):
    pass


def test_wrong_use_is_one_sentence() -> None:
    with pytest.raises(RecipeError, match=r"use queryseg\.backbones\.SamViT"):
        PyramidBackbone("samvit_base_patch16")
    with pytest.raises(RecipeError, match="images of one size only"):
        PyramidBackbone("mixer_s16_224")
    with pytest.raises(RecipeError, match="did you mean resnet18"):
        PyramidBackbone("resnt18")
    backbone = PyramidBackbone("resnet18", options=NETWORKS["resnet18"])
    with pytest.raises(RecipeError, match="leave the adapter out"):
        backbone.attach(NoAdapter())
    with pytest.raises(RecipeError, match="no linear layers to adapt"):
        backbone.projections(0)


def test_frozen_norms_keep_their_statistics_while_the_network_learns() -> None:
    backbone = PyramidBackbone("resnet18", options=NETWORKS["resnet18"], frozen_norms=True).train()
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [(m.running_mean.clone(), m.weight.clone()) for m in norms]
    sum(level.square().mean() for level in backbone(torch.randn(2, 3, 64, 96), 1).levels).backward()
    for norm, (mean, weight) in zip(norms, before, strict=True):
        assert torch.equal(norm.running_mean, mean)
        assert torch.equal(norm.weight, weight)
    assert [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []
    assert not any(p.requires_grad for m in norms for p in m.parameters())
    copy = deepcopy(backbone)
    assert not any(m.training for m in copy.train().modules() if isinstance(m, torch.nn.BatchNorm2d))
    swin = "swin_tiny_patch4_window7_224"
    with pytest.raises(RecipeError, match="has no batch norms to freeze"):
        PyramidBackbone(swin, options=NETWORKS[swin], frozen_norms=True)


def test_swins_position_tables_are_spared_by_weight_decay() -> None:
    name = "swin_tiny_patch4_window7_224"
    spared = PyramidBackbone(name, options=NETWORKS[name]).undecayed()
    assert len(spared) == 4  # one per block
    assert all(table.endswith("relative_position_bias_table") for table in spared)
    assert not PyramidBackbone("resnet18", options=NETWORKS["resnet18"]).undecayed()
