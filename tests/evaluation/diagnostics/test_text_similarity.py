"""How well pixels tell a class: measured without changing what the model says, and drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.evaluation.diagnostics import diagnose
from queryseg.evaluation.diagnostics.diagnosis_report import diagnoses_json, write_report
from queryseg.evaluation.diagnostics.text_similarity import LAYERS, TEXT, WITHOUT, similar_image
from queryseg.evaluation.diagnostics.text_similarity_picture import TEXT_SIMILARITY
from queryseg.recipe_file import build_untrained, resolve
from queryseg.segmenter import Segmenter
from queryseg.types import Sample

NAMES = ("road", "building", "sky", "car")


@pytest.fixture
def textual(textual_model: Callable[..., dict[str, Any]]) -> Callable[..., Segmenter]:
    def build(**options: Any) -> Segmenter:
        content = {"classes": list(NAMES), "model": textual_model(**options), "objectives": {}, "data": {"train": "x"}}
        torch.manual_seed(0)
        return build_untrained(resolve(content)).eval()

    return build


def halves(height: int = 64, width: int = 96) -> Sample:
    """Dark road on the left, bright sky on the right, a strip that nobody labelled."""
    image = torch.randint(0, 60, (3, height, width), dtype=torch.uint8)
    label_map = torch.zeros(height, width, dtype=torch.uint8)
    image[:, :, width // 2 :] += 190
    label_map[:, width // 2 :] = 2
    label_map[:3] = 255
    return Sample(image, label_map, "halves")


def test_maps_of_every_kind_and_layer(textual: Callable[..., Segmenter]) -> None:
    model, sample = textual(), halves()
    before = model(model.normalise(sample.image[None])).final.mask_logits
    seen = similar_image(model, sample, Protocol())
    assert [one.label for one in seen.classes] == [0, 2]
    for one in seen.classes:
        assert {kind: len(maps) for kind, maps in one.maps.items()} == {TEXT: 1, LAYERS: 3, WITHOUT: 3}
        assert [tuple(m.shape) for m in one.maps[TEXT]] == [(8, 12)], "patches"
        assert {tuple(m.shape) for m in one.maps[LAYERS]} == {(16, 24)}, "the finest level that takes part"
        assert all(-1.001 <= float(m.min()) <= float(m.max()) <= 1.001 for maps in one.maps.values() for m in maps)
        assert torch.equal(one.maps[LAYERS][0], one.maps[WITHOUT][0]), "before the first layer nothing differs"
        assert not torch.allclose(one.maps[LAYERS][2], one.maps[WITHOUT][2], atol=1e-3)
        assert one.clarity[LAYERS][0] > 0.1, "two colours are told apart even by random weights"
    assert torch.equal(model(model.normalise(sample.image[None])).final.mask_logits, before)


def test_the_text_map_is_the_cosine_that_the_regularizer_reads(textual: Callable[..., Segmenter]) -> None:
    model, sample = textual(), halves(70, 90)
    features = model.encode(model.normalise(sample.image[None]))
    assert features.joint is not None
    assert features.context is not None
    expected = torch.cosine_similarity(features.joint.dense[0], features.context[0, 2][:, None, None], dim=0)
    (one,) = similar_image(model, sample, Protocol(), ["sky", "car"]).classes
    assert one.label == 2, "classes that are not in the image are left out"
    torch.testing.assert_close(one.maps[TEXT][0], expected[:9, :12].detach())


def test_last_layer_is_what_queries_read(textual: Callable[..., Segmenter]) -> None:
    model, sample = textual(), halves()
    features = model.encode(model.normalise(sample.image[None]))
    decoder: Any = model.pixel_decoder
    memory = (features.levels[2] - decoder.decoder_level_embed[2][:, None, None])[0].detach()
    unit = torch.nn.functional.normalize(memory, dim=0)
    label_map = sample.label_map[2::4, 2::4]
    centre = unit[:, label_map == 2].mean(1)
    one = next(one for one in similar_image(model, sample, Protocol()).classes if one.label == 2)
    expected = torch.cosine_similarity(unit, centre[:, None, None], dim=0)
    torch.testing.assert_close(one.maps[LAYERS][-1], expected, rtol=0, atol=1e-5)
    own, others = expected[label_map == 2].mean(), expected[label_map == 0].mean()
    assert one.clarity[LAYERS][-1] == pytest.approx(float(own - others), abs=1e-5)


def test_diagnose_draws_them_for_textual_queries(
    textual: Callable[..., Segmenter], model: Segmenter, pictures: Any, tmp_path: Path
) -> None:
    data = {"home": pictures(2)}
    injected = textual(injected=True)
    found = {"tqdm": diagnose(textual(), data, Protocol(), similar_classes=["road", "sky"])}
    found |= {"injected": diagnose(injected, data, Protocol()), "qprompt": diagnose(model, data, Protocol())}
    panels = TEXT_SIMILARITY.draw(found)
    assert ("tqdm", "home") in panels
    assert ("qprompt", "home") not in panels
    content = diagnoses_json(found)["runs"]
    assert content["qprompt"]["text_similarity"] == {}
    assert len(content["tqdm"]["text_similarity"]["home"]) == 2
    assert all(one["clarity"] == {} for one in content["injected"]["text_similarity"]["home"]), (
        "texts and no image for them"
    )
    write_report({"tqdm": found["tqdm"]}, tmp_path)
    assert (tmp_path / "text_similarity.png").exists()
    assert "What pixels tell of a class" in (tmp_path / "report.html").read_text()


def test_wrong_classes_are_told_in_one_sentence(
    textual: Callable[..., Segmenter], model: Segmenter, pictures: Any
) -> None:
    with pytest.raises(InputError, match="Similarity to 'tree' is asked for, but the classes of this model are: road"):
        diagnose(textual(), {"home": pictures(1)}, Protocol(), similar_classes=["tree"])
    with pytest.raises(InputError, match="LearnableQueries reads none"):
        diagnose(model, {"home": pictures(1)}, Protocol(), similar_classes=["road"])
