"""Names and shapes of foreign checkpoints, as data."""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

import pytest
import torch
from torch import Tensor

from queryseg.conversion import FORMATS, Format
from queryseg.conversion.layout import Layout, read_layout
from queryseg.errors import CheckpointError

HEAD: dict[str, Any] = {
    "Q": 100, "D": 256, "L": 9, "K": 133, "F": 2048, "E": 6, "G": 1024, "S": 96, "C5": 2048, "C4": 1024, "C3": 512,
    "C2": 256,
}  # fmt: skip
SWIN = {"C5": 768, "C4": 384, "C3": 192, "C2": 96, "C": 96, "H": 3, "T": 169, "B": {0: 2, 1: 2, 2: 6, 3: 2}}
TQDM = {"J": 512, "T": 512, "P": 5, "N": 13, "V": 49408, "B": 12, "M": 256, "R": 3, "D": 256, "E": 6, "S": 96}
TQDM |= {"G": 2048, "K": 19, "L": 9, "F": 2048}
PUBLISHED: dict[str, tuple[dict[str, Any], float, int | None]] = {
    "mask2former_detectron2_resnet": ({**HEAD, "B2": 3, "B3": 4, "B4": 6, "B5": 3}, 44, None),
    "mask2former_detectron2_swin": ({**HEAD, **SWIN}, 47, None),
    "mask2former_mmdetection_resnet": ({**HEAD, "B1": 3, "B2": 4, "B3": 23, "B4": 3}, 63, None),
    "mask2former_mmdetection_swin": ({**HEAD, **SWIN}, 47, None),
    "tqdm_clip": ({**TQDM, "W": 768, "A": 12, "C": 1025, "k": 16}, 93.9, 887),
    "tqdm_eva02": ({**TQDM, "J": 768, "T": 768, "W": 1024, "A": 24, "C": 1297, "k": 14, "H": 2730}, 317.8, 1707 - 100),
}
"""Sizes; millions of parameters as published (of the trunk for tqdm); number of names."""


def filled(layout: Layout, sizes: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in layout.expected(sizes).items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name):
    """The lists add up to the parameters that the papers report, and a checkpoint tells its own sizes."""
    layout = read_layout(name)
    sizes, millions, names = PUBLISHED[name]
    tensors = filled(layout, sizes)
    counted = [t.numel() for key, t in tensors.items() if "running" not in key]
    if name.startswith("tqdm"):
        counted = [t.numel() for key, t in tensors.items() if key.startswith("backbone.")]
    assert sum(counted) / 1e6 == pytest.approx(millions, abs=0.5)
    assert names is None or len(tensors) == names
    assert layout.sizes_of(tensors) == sizes
    assert layout.compare(tensors).lines() == []
    assert layout.recognises(tensors)


def test_differences_are_told_by_name():
    layout = read_layout("mask2former_detectron2_resnet")
    tensors = filled(layout, PUBLISHED["mask2former_detectron2_resnet"][0])
    tensors["other.weight"] = torch.empty(1)
    tensors["criterion.empty_weight"] = torch.empty(134)  # known to be of no use
    del tensors["backbone.res4.3.conv2.norm.bias"]
    bias = "sem_seg_head.predictor.transformer_ffn_layers.8.linear1.bias"
    tensors[bias] = torch.empty(7)
    found = layout.compare(tensors)
    assert found.missing == ("backbone.res4.3.conv2.norm.bias",)
    assert found.unexpected == ("other.weight",)
    assert found.misshaped == {bias: ((7,), (2048,))}
    assert found.lines() == [
        "1 missing: backbone.res4.3.conv2.norm.bias",
        f"1 of another shape: {bias} (7,) instead of (2048,)",
        "1 unexpected: other.weight",
    ]


@pytest.mark.parametrize(
    "name",
    [
        entry.name
        for entry in (resources.files("queryseg.conversion") / "layouts").iterdir()
        if entry.name.endswith(".yaml")
    ],
)
def test_every_list_says_where_it_was_read(name):
    layout = read_layout(name.removesuffix(".yaml"))
    assert len(layout.source) > 20
    assert set(layout.recognised_by) <= layout.expected({}).keys()


def test_every_format_knows_only_its_own_files():
    """A checkpoint of each layout, with the smallest sizes, is recognised by that layout before any other."""
    forms = [form for form in FORMATS if form.layout is not None]
    assert len(forms) >= 9
    for form in forms:
        tensors = filled(form.layout, {})
        assert next(other.title for other in FORMATS if other.recognises(tensors, {})) == form.title
        assert form.verified == (not form.title.startswith(("Rein", "FASeg", "SimCIS")))


def test_every_layout_converts():
    assert [form.title for form in FORMATS if form.to_run is None or form.obstacle] == []


def test_a_layout_that_does_not_convert_yet_says_why():
    form = Format.of_layout("rein", None, obstacle="its adapter is not part of queryseg yet")
    with pytest.raises(
        CheckpointError, match=r"^x is Rein.*; it cannot be converted: its adapter is not part .* yet\.$"
    ):
        form.convert({}, {}, "x")


def test_axes_are_solved_for_one_blank():
    layout = Layout("t", "s", True, (), {"a.{L}.w": ("3*D+1", "D"), "b.{i:0-1}.{B@i}": ("D*2^i",), "c.{L>0}": ()})
    tensors = {
        "a.0.w": torch.empty(13, 4), "a.1.w": torch.empty(13, 4), "b.0.0": torch.empty(4), "b.1.0": torch.empty(8),
        "b.1.1": torch.empty(8), "c.1": torch.empty(()),
    }  # fmt: skip
    assert layout.sizes_of(tensors) == {"L": 2, "B": {0: 1, 1: 2}, "D": 4}
    assert layout.compare(tensors).lines() == []
    assert {k: math.prod(v) for k, v in layout.expected(layout.sizes_of(tensors)).items()} == {
        k: v.numel() for k, v in tensors.items()
    }
