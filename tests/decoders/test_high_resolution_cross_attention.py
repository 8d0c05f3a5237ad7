"""What layers of high-resolution cross-attention read, under every option.

Shape legend: B images, Q queries, D width, S cells of a level.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from queryseg.backbones import PyramidBackbone
from queryseg.contracts import Backbone
from queryseg.decoders import HighResolutionCrossAttention
from queryseg.errors import RecipeError
from queryseg.inference.engine import Engine
from queryseg.pixel_decoders import Deformable
from queryseg.queries import FocusAwareQueries, LearnableQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, build_segmenter
from queryseg.types import Dims, Features, Prediction, Queries, Trunk

B, Q, D = 2, 5, 8
DIMS = Dims(("a", "b", "c"), D, 1, (D,) * 4, (32, 16, 8, 4), D, D)
NO_BACKBONE = cast(Backbone, None)


def features(height: int = 8, width: int = 8) -> Features:
    """Four levels of an image of height × width coarse cells; each has random positions."""
    sizes = [(height << k, width << k) for k in range(4)]
    levels = tuple(torch.randn(B, D, *size, dtype=torch.float64) for size in sizes)
    positions = tuple(torch.randn(B, D, *size, dtype=torch.float64) for size in sizes)
    return Features(cast(Trunk, None), levels, torch.randn(B, D, *sizes[-1], dtype=torch.float64), positions)


class Watched:
    """A run, with what every layer looked at."""

    def __init__(self, seen: Features | None = None, focus: bool = True, isolated: int = 0, **options: Any) -> None:
        torch.manual_seed(0)
        options = {"num_layers": 5, "hidden": 16, "num_heads": 2, **options}
        dims = options.pop("dims", DIMS)
        training = options.pop("training", True)
        self.decoder = HighResolutionCrossAttention(dims, **options).double().train(training)
        made: Any = FocusAwareQueries(dims, Q) if focus else LearnableQueries(dims, Q, position=True)
        self.source = made.double()
        self.given: list[tuple[Any, ...]] = []
        self.weights: list[Tensor | None] = []
        for layer in self.decoder.layers:
            cast(Any, layer).cross_attention.register_forward_hook(self._keep)
        self.features = features() if seen is None else seen
        queries: Queries = self.source(self.features, self.decoder.heads)
        if isolated:
            queries = queries.with_isolated(torch.randn(B, isolated, D, dtype=torch.float64))
        self.predictions: list[Prediction] = list(self.decoder(NO_BACKBONE, self.features, queries, self.source))

    def _keep(self, module: nn.Module, given: tuple[Any, ...], out: tuple[Tensor, Tensor | None]) -> None:
        self.given.append(given)
        self.weights.append(out[1])

    def pixels(self, layer: int, level: int = 3) -> list[set[int]]:
        """Per image, which pixels of the level a layer read."""
        values, whole = self.given[layer][2], self.features.levels[level].flatten(2).mT
        found = (values[:, :, None] - whole[:, None]).abs().amax(-1) == 0
        assert bool((found.sum(-1) == 1).all())
        return [set(image.nonzero()[:, 1].tolist()) for image in found]


def blocks(scores: Tensor, k: int, cells: tuple[int, int], side: int) -> list[set[int]]:
    """Pixels of the k best cells by hand. scores (B, S)"""
    width = cells[1] * side
    return [
        {
            (cell // cells[1] * side + y) * width + cell % cells[1] * side + x
            for cell in image.topk(k).indices.tolist()
            for y in range(side)
            for x in range(side)
        }
        for image in scores
    ]


def test_the_best_cells_of_the_rounds_first_layer_are_read() -> None:
    run = Watched()
    assert len(run.predictions) == 6
    expected = blocks(cast(Tensor, run.weights[0]).sum(1), 2, (8, 8), 8)
    assert run.pixels(3) == expected
    assert expected[0] != expected[1], "images choose for themselves"
    keys, values = run.given[3][1:3]
    positions = run.features.positions[3].flatten(2).mT
    whole = run.features.levels[3].flatten(2).mT
    index = (values[0, 0] - whole[0]).abs().amax(-1).argmin()
    torch.testing.assert_close(keys[0, 0], whole[0, index] + positions[0, index])
    assert run.given[3][3] is None, "no mask in HRCA"
    assert run.given[3][4] is False, "no weights, so it runs fused"


def test_scores_of_the_preceding_block() -> None:
    run = Watched(scores="preceding")
    assert run.pixels(3) == blocks(cast(Tensor, run.weights[2]).sum(1), 32, (32, 32), 2)


def test_pixels_are_the_best_after_enlarging() -> None:
    run = Watched(context="pixels")
    scores = cast(Tensor, run.weights[0]).sum(1).view(B, 1, 8, 8)
    best = F.interpolate(scores, (64, 64), mode="bilinear").flatten(1).topk(128).indices
    assert run.pixels(3) == [set(image.tolist()) for image in best]


def test_random_pixels_vary_in_training_and_not_in_eval_mode() -> None:
    first, again = (Watched(context="random") for _ in range(2))
    assert all(len(image) == 64 * 64 // 32 for image in first.pixels(3))
    assert first.pixels(3)[0] != first.pixels(3)[1]
    assert first.pixels(3) == again.pixels(3), "equal seeds"
    calm = Watched(context="random", training=False)
    assert calm.pixels(3)[0] == calm.pixels(3)[1]
    halves = sum(pixel < 2048 for pixel in calm.pixels(3)[0])
    assert 40 < halves < 90, "spread over the image"


@pytest.mark.parametrize(("omega", "number"), [(16, 4), (32, 2), (64, 1)])
def test_omega(omega: int, number: int) -> None:
    assert all(len(image) == 64 * number for image in Watched(omega=omega).pixels(3))


def test_everything() -> None:
    run = Watched(context="all")
    assert run.pixels(3) == [set(range(64 * 64))] * B
    assert all(run.weights[i] is not None for i in (0, 1, 2)), "DFPQ still asks"
    plain = Watched(context="all", focus=False)
    assert plain.weights == [None] * 5, "nobody asks for weights"


def test_row_column_reads_maps() -> None:
    run = Watched(context="row_column")
    assert run.given[3][1].shape == (B, 64, 64, D)
    names = [{n for n, _ in Watched(context=c).decoder.named_parameters()} for c in ("row_column", "cells")]
    assert names[0] == names[1]


def test_other_levels() -> None:
    run = Watched(fine_levels=[2, 3], scores="preceding")
    weights = cast(Tensor, run.weights[1]).sum(1)  # stride 16: layers 2 and 3 have none over a whole level
    assert run.pixels(2, 2) == blocks(weights, 8, (16, 16), 2)
    assert run.pixels(3, 3) == blocks(weights, 8, (16, 16), 4)
    three = replace(DIMS, channels=(D,) * 3, strides=DIMS.strides[:3])
    seen = features()
    seen = replace(seen, levels=seen.levels[:3], positions=seen.positions[:3])
    run = Watched(seen, dims=three, fine_levels=[2], num_layers=4)
    assert run.pixels(2, 2) == blocks(cast(Tensor, run.weights[0]).sum(1), 2, (8, 8), 4)


def test_static_positions_look_and_old_ones_stay() -> None:
    """After HRCA, the position of two layers before is in force again; with "dynamic" there is a fresh one."""
    for fine, fresh in (("static", False), ("dynamic", True)):
        torch.manual_seed(0)
        positions: list[Tensor] = []
        model = HighResolutionCrossAttention(DIMS, 5, 16, 2, fine_positions=cast(Any, fine)).double()
        source = FocusAwareQueries(DIMS, Q).double()
        source.register_module("told", None)
        refine = source.refine

        def keep(queries: Queries, round: Any, refine: Any = refine, kept: list[Tensor] = positions) -> Queries:
            moved: Queries = refine(queries, round)
            kept.append(cast(Tensor, moved.position))
            return moved

        source.refine = keep  # type: ignore[method-assign]
        looked: list[Tensor] = []
        cast(Any, model.layers[3]).cross_attention.register_forward_hook(lambda m, g, o, kept=looked: kept.append(g[0]))
        content: list[Tensor] = []
        cast(Any, model.layers[2]).feed_forward_norm.register_forward_hook(lambda m, g, o, c=content: c.append(o))
        seen = features()
        model(NO_BACKBONE, seen, source(seen, model.heads), source)
        assert len(positions) == 5
        assert torch.equal(positions[4], positions[3]) != fresh
        used = positions[3] if fresh else cast(Tensor, source.position)[None].expand(B, -1, -1)
        torch.testing.assert_close(looked[0] - content[0], used)


def test_fewer_than_32_cells_still_read_one() -> None:
    """Theirs reads nothing there and adds only a bias."""
    run = Watched(features(5, 5))
    assert run.pixels(3) == blocks(cast(Tensor, run.weights[0]).sum(1), 1, (5, 5), 8)
    assert bool(run.predictions[-1].mask_logits.isfinite().all())


def test_sizes_that_do_not_divide_leave_out_what_lies_outside() -> None:
    seen = features(8, 8)
    sizes = [(3, 5), (6, 9), (12, 18), (23, 37)]
    seen = replace(
        seen,
        levels=tuple(torch.randn(B, D, *size, dtype=torch.float64) for size in sizes),
        positions=tuple(torch.randn(B, D, *size, dtype=torch.float64) for size in sizes),
        mask_features=torch.randn(B, D, 23, 37, dtype=torch.float64),
    )
    run = Watched(seen)
    blocked = run.given[3][3]
    assert blocked is not None
    assert blocked.shape == (B, 1, 8 * 8)
    best = cast(Tensor, run.weights[0]).sum(1).argmax(1)
    rows, columns = torch.arange(23) * 3 // 23, torch.arange(37) * 5 // 37
    for image in range(B):
        owned = int(((rows[:, None] * 5 + columns) == best[image]).sum())
        assert int((~blocked[image]).sum()) == owned
    (final,) = run.decoder.eval()(NO_BACKBONE, seen, run.source(seen, run.decoder.heads), run.source)
    torch.testing.assert_close(final.class_logits, run.predictions[-1].class_logits, rtol=0, atol=1e-10)


def test_rows_that_are_fully_masked_see_everything() -> None:
    """Masks far below the threshold everywhere: each row is opened, so that nothing is nan and attention sums to 1."""
    seen = features()
    run = Watched(replace(seen, mask_features=seen.mask_features * 0))
    assert all(not cast(Tensor, run.given[i][3]).any() for i in (0, 1, 2))
    torch.manual_seed(0)
    model = HighResolutionCrossAttention(DIMS, 5, 16, 2).double()
    with torch.no_grad():
        model.heads.mask_embed.layers[-1].weight.zero_()  # type: ignore[union-attr, operator]
        model.heads.mask_embed.layers[-1].bias.fill_(-1e3)  # type: ignore[union-attr, operator]
    seen = replace(seen, mask_features=torch.ones_like(seen.mask_features))
    source = FocusAwareQueries(DIMS, Q).double()
    final = list(model(NO_BACKBONE, seen, source(seen, model.heads), source))[-1]
    assert bool((final.mask_logits < -1e3).all())
    assert bool(final.class_logits.isfinite().all())


def test_no_threshold_no_masks() -> None:
    assert [given[3] for given in Watched(threshold=None).given] == [None] * 5


def test_isolated_rows_never_attend() -> None:
    alone, beside = Watched(), Watched(isolated=3)
    for a, b in zip(alone.predictions, beside.predictions, strict=True):
        assert b.content.shape == (B, Q + 3, D)
        torch.testing.assert_close(b.content[:, :Q], a.content, rtol=0, atol=1e-10)


def test_eval_mode_answers_as_training_does() -> None:
    for focus in ("attention", "foreground", "anchor", "grid"):
        torch.manual_seed(0)
        model = HighResolutionCrossAttention(DIMS, 6, 16, 2).double()
        source = FocusAwareQueries(DIMS, Q, focus=cast(Any, focus)).double()
        seen = features()
        trained = list(model.train()(NO_BACKBONE, seen, source(seen, model.heads), source))
        (final,) = model.eval()(NO_BACKBONE, seen, source(seen, model.heads), source)
        assert len(trained) == 7
        torch.testing.assert_close(final.mask_logits, trained[-1].mask_logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"dims": replace(DIMS, channels=(D,) * 3)},
            "reads level 3, but the pixel decoder gives 3 levels .* num_levels: 4",
        ),
        ({"fine_levels": [0]}, r"fine_levels is \[0\], but must name at least one level finer"),
        ({"fine_levels": []}, r"fine_levels is \[\]"),
        ({"omega": 0}, "omega is 0, but must be at least 1"),
        ({"threshold": 0.0}, "null: no masks"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RecipeError, match=sentence):
        HighResolutionCrossAttention(options.pop("dims", DIMS), **options)


@pytest.mark.parametrize("size", [(70, 100), (33, 200), (224, 160)])
def test_images_of_any_size_on_a_pyramid(size: tuple[int, int]) -> None:
    """Sides that 32 does not divide are padded; most of these images have fewer than 32 coarse cells."""
    options = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32), "stem_width": 8}
    four: Any = partial(Deformable, width=16, num_layers=1, hidden=16, num_heads=2, groups=4, num_levels=4)
    parts = Parts(
        PyramidBackbone("resnet18", options=options),
        partial(four, positions="conditional"),
        partial(FocusAwareQueries, num_queries=Q),
        partial(HighResolutionCrossAttention, num_layers=5, hidden=16, num_heads=2),
        Mixture,
    )
    model = build_segmenter(("a", "b", "c"), parts).eval()
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    engine = Engine(model)
    with torch.no_grad():
        assert engine(images).shape == (2, *size)
        assert bool(engine.find(images).scores().isfinite().all())
        masks = model(model.normalise(images)).final.mask_logits
    assert masks.shape[-2:] == tuple(-(-side // 32) * 8 for side in size)
