"""A checkpoint with the fixture's weights, under the authors' names, converts into a model that gives the golden
numbers: texts conditioned on the image, queries, masks and classes.

The fixture has no trunk and a text encoder of 64 words; these two are random here and are compared in
`tests/conversion/test_tqdm.py`.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from test_tqdm_fixture import NO_BACKBONE, STRIDES, TOLERANCE, Case
from torch import Tensor

from queryseg.conversion import PublishedCheckpoint, convert_checkpoint
from queryseg.conversion.layout import read_layout
from queryseg.inference.run_folder import load_weights
from queryseg.ops.layers import tokens_of
from queryseg.recipe_file import build_untrained
from queryseg.types import Features, Trunk

pytest.importorskip("open_clip", reason="the extra `text` is not installed")
SIZES = {
    "J": 40, "T": 32, "P": 5, "N": 10, "V": 49408, "B": 2, "M": 24, "R": 2, "D": 64, "E": 2, "S": 96, "G": 96, "K": 19,
    "L": 4, "F": 96, "W": 24, "A": 2, "C": 17, "k": 16,
}  # fmt: skip


def test_the_fixture_s_weights_give_its_numbers_after_conversion() -> None:
    head, text = Case("head"), Case("text")
    tensors: dict[str, Tensor] = {
        name: torch.rand(shape, dtype=torch.float64) for name, shape in read_layout("tqdm_clip").expected(SIZES).items()
    }
    given = {f"decode_head.{name}": weight.detach() for name, weight in head.weights.items()}
    given |= {n: w.detach() for n, w in text.weights.items() if not n.startswith("text_encoder.")}
    assert given.keys() <= tensors.keys()
    assert all(tensors[name].shape == weight.shape for name, weight in given.items())
    ours = ("backbone.", "reg_E0.", "text_encoder.")
    assert all(name.startswith(ours) for name in tensors.keys() - given.keys()), "the fixture leaves nothing else out"
    converted = convert_checkpoint(PublishedCheckpoint("x", tensors | given, {}))
    arguments: dict[str, Any] = converted.recipe["model"]["queries"]["init_args"]
    arguments["context_heads"] = text.settings["context_decoder_heads"]  # published ones are 64 wide
    model = build_untrained(converted.recipe).double()
    load_weights(model, converted.weights, "converted")
    model.train()  # every reading, as the fixture has them

    source = cast(Any, model.queries)
    with torch.no_grad():
        source.eval()
        prompted = torch.from_numpy(text.gold["prompted"]).expand(2, -1, -1)
        seen = torch.cat((text.leaves["g"], tokens_of(text.leaves["v"])), 1)
        text.check("t", prompted + source.gamma * source.conditioner(prompted, seen))

        levels = tuple(head.leaves[f"feat_{stride}"] for stride in STRIDES)
        features = Features(cast(Trunk, None), levels, levels[-1], context=head.leaves["texts"])
        features = model.pixel_decoder(features)
        queries = model.make_queries(features)
        head.check("q0", queries.content)
        predictions = list(model.decoder(NO_BACKBONE, features, queries, model.queries))
    head.check("cls_logits", torch.stack([p.class_logits for p in predictions]))
    masks = torch.stack([p.mask_logits for p in predictions])
    torch.testing.assert_close(masks[-1, 0], torch.from_numpy(head.gold["mask_logits_last"]), **TOLERANCE)
