"""A checkpoint with the fixture's weights, under the authors' names, converts into a model that gives the golden
numbers: chosen pixels, classes, boxes and masks after every layer.

The fixture has no trunk and no pixel decoder; these are random here and are compared in
`tests/conversion/test_simcis.py`.
"""

from __future__ import annotations

from typing import cast

import pytest
import torch
from test_simcis_fixture import LEVELS, NO_BACKBONE, load
from torch import Tensor

from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.layout import read_layout
from queryseg.inference.run_folder import load_weights
from queryseg.ops.sine_positions import sine_positions
from queryseg.recipe_file import build_untrained
from queryseg.types import Features, Trunk

SIZES = {
    "D": 256, "K": 150, "L": 4, "F": 528, "E": 1, "G": 8, "S": 96, "C5": 2048, "C4": 1024, "C3": 512, "C2": 256,
}  # fmt: skip
PREDICTOR = "sem_seg_head.predictor."


@pytest.mark.parametrize(("name", "run"), [("teacher", "teacher"), ("student", "novq")])
def test_the_fixture_s_weights_give_its_numbers_after_conversion(name: str, run: str) -> None:
    fixture = load()
    tensors: dict[str, Tensor] = {
        key: torch.rand(shape, dtype=torch.float64) for key, shape in read_layout("simcis").expected(SIZES).items()
    }
    own = fixture.weights[name]
    group = next(group for group in fixture.manifest["weights"] if group["model"] == name)
    aliases = {alias: own[key] for alias, key in group["aliases"].items()}
    given = {f"{PREDICTOR}{key}": weight for key, weight in (own | aliases).items()}
    assert {key for key in tensors if key.startswith(PREDICTOR)} == {f"{PREDICTOR}{key}" for key in own}
    assert all(tensors[key].shape == given[key].shape for key in tensors.keys() & given.keys())
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors | given, {}))
    assert set(converted.left_over) == {f"{PREDICTOR}{alias}" for alias in aliases}
    assert converted.unexpected == ()
    model = build_untrained(converted.recipe).double()
    load_weights(model, converted.weights, "converted")
    model.train()  # every reading, as the fixture has them

    embedding = model.pixel_decoder.decoder_level_embed
    with torch.no_grad():
        levels = tuple(
            fixture.inputs[f"feat.{level}"] + row[:, None, None] for level, row in zip(LEVELS, embedding, strict=True)
        )
        positions = tuple(sine_positions(level) for level in levels)
        features = Features(cast(Trunk, None), levels, fixture.inputs["feat.mask"], positions)
        queries = model.make_queries(features)
        stage, *layers = model.decoder(NO_BACKBONE, features, queries, model.queries)
    assert stage.boxes is not None
    fixture.check(f"a.{name}.topk", queries.extras["selected_indices"])
    fixture.check(f"a.{name}.query_content", queries.content)
    fixture.check(f"a.{name}.ref_boxes", stage.boxes)
    fixture.check(f"a.{name}.stage_logits", stage.class_logits)
    fixture.check(f"a.{name}.stage_masks", stage.mask_logits)
    assert len(layers) == 4
    for index, reading in enumerate(layers):
        assert reading.boxes is not None
        fixture.check(f"b.{run}.layer{index}.logits", reading.class_logits)
        fixture.check(f"b.{run}.layer{index}.boxes", reading.boxes)
        fixture.check(f"b.{run}.layer{index}.masks", reading.mask_logits)
