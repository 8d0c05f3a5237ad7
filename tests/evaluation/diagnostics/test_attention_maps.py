"""Where chosen queries look, recorded without changing what the model says, and drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from queryseg.backbones import PlainViT
from queryseg.data.protocol import Protocol
from queryseg.decoders import CrossAttention, HighResolutionCrossAttention
from queryseg.errors import InputError
from queryseg.evaluation.diagnostics import diagnose
from queryseg.evaluation.diagnostics.attention_maps import attended_image
from queryseg.evaluation.diagnostics.attention_picture import ATTENTION, heated
from queryseg.evaluation.diagnostics.diagnosis_report import diagnoses_json, write_report
from queryseg.pixel_decoders import Deformable
from queryseg.queries import FocusAwareQueries, LearnableQueries
from queryseg.readouts import Mixture
from queryseg.segmenter import Parts, Segmenter, build_segmenter

NAMES = ("road", "building", "sky", "car")


def build(method: str, num_layers: int = 6) -> Segmenter:
    torch.manual_seed(0)
    vit = PlainViT(
        "vit_tiny_patch16_224", image_size=64, options={"embed_dim": 32, "depth": 2, "num_heads": 2}, pyramid="bilinear"
    )

    def pixel_decoder(dims):
        four = {"positions": "conditional", "num_levels": 4} if method == "faseg" else {}
        return Deformable(dims, 32, 1, 48, 4, groups=8, **four)

    def queries(dims):
        return FocusAwareQueries(dims, 6) if method == "faseg" else LearnableQueries(dims, 6, position=True)

    def decoder(dims):
        kind = HighResolutionCrossAttention if method == "faseg" else CrossAttention
        return kind(dims, num_layers, 48, 4)

    return build_segmenter(NAMES, Parts(vit, pixel_decoder, queries, decoder, Mixture)).eval()


@pytest.mark.parametrize(("method", "last"), [("faseg", [2, 3, 4, 5]), ("mask2former", [2, 3, 4, 5])])
def test_maps_are_attention_and_the_model_says_the_same(method, last, pictures):
    model, sample = build(method), pictures(1)[0]
    images = model.normalise(sample.image[None])
    before = model(images).final
    seen = attended_image(model, sample, Protocol(short_side=64), [4, 1])
    assert seen.queries == (4, 1)
    assert [one.layer for one in seen.layers] == last
    strides = {"faseg": [8, 4, 32, 16], "mask2former": [8, 32, 16, 8]}[method]
    assert [one.stride for one in seen.layers] == strides
    for one in seen.layers:
        assert one.maps.shape[0] == 2
        assert float(one.maps.sum((1, 2)).max()) <= 1 + 1e-4  # less what looked at the padding
        assert float(one.maps.min()) >= 0
    if method == "faseg":
        share = float((seen.layers[1].maps > 0).float().mean())
        assert 0 < share < 0.5, "HRCA looked at some blocks only"
    assert seen.image.shape[0] == 64
    after = model(images).final
    assert torch.equal(after.mask_logits, before.mask_logits)


def test_a_whole_map_sums_to_one_without_padding(pictures):
    model = build("mask2former")
    sample = pictures(1)[0]
    square = F.interpolate(sample.image[None].float(), (64, 96))[0].byte()
    sample = type(sample)(square, torch.zeros(64, 96, dtype=torch.uint8), "square")
    for one in attended_image(model, sample, Protocol(), [0]).layers:
        assert float(one.maps.sum()) == pytest.approx(1, abs=1e-4)


def test_chosen_queries_are_the_surest_of_different_classes(pictures):
    model, sample = build("mask2former"), pictures(1)[0]
    seen = attended_image(model, sample, Protocol())
    scores = model(model.normalise(sample.image[None])).final.class_scores[0]
    classes = [int(scores[query].argmax()) for query in seen.queries]
    assert len(set(classes)) == len(classes) <= 3


def test_diagnose_draws_them_for_decoders_with_cross_attention(pictures, tmp_path, model):
    faseg, qprompt = build("faseg"), model
    data = {"home": pictures(3), "away": pictures(2)}
    found = {
        "faseg": diagnose(faseg, data, Protocol(), attention_queries=[2]),
        "qprompt": diagnose(qprompt, data, Protocol()),
    }
    assert qprompt.training is False
    panels = ATTENTION.draw(found)
    assert list(panels) == [("faseg", "home"), ("faseg", "away")]
    content = diagnoses_json(found)["runs"]
    assert [one["queries"] for one in content["faseg"]["attention"]["home"]] == [[2], [2]]
    assert content["qprompt"]["attention"] == {}
    write_report(found, tmp_path)
    assert (tmp_path / "attention.png").exists()
    assert "Where queries look" in (tmp_path / "report.html").read_text()
    assert diagnose(faseg, data, Protocol(), num_attention_images=0).attention == {}


def test_the_mode_of_a_model_in_training_stays(pictures):
    model = build("faseg").train()
    diagnose(model, {"home": pictures(1)}, Protocol())
    assert model.training


def test_wrong_queries_are_told_in_one_sentence(pictures, model):
    with pytest.raises(InputError, match=r"Query 6 is asked for, but this model has 6 \(0 … 5\)"):
        diagnose(build("faseg"), {"home": pictures(1)}, Protocol(), attention_queries=[1, 6])
    with pytest.raises(InputError, match="QueryInjection has no cross-attention to show"):
        diagnose(model, {"home": pictures(1)}, Protocol(), attention_queries=[1])


def test_heat_is_brightest_where_attention_is():
    image = np.full((2, 3, 3), 100, np.uint8)
    drawn = heated(image, torch.tensor([[0.0, 0.25, 1.0], [0.0, 0.0, 0.0]]))
    brightness = drawn.astype(int).sum(-1)
    assert brightness[0, 0] < brightness[0, 1] < brightness[0, 2]
    assert drawn[0, 2].tolist() == [252, 255, 164]
