import json

import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError, RecipeError
from queryseg.evaluation.diagnostics import Diagnosis, diagnose
from queryseg.evaluation.diagnostics.diagnosis import KEYS, QueryMap, query_notes
from queryseg.evaluation.diagnostics.domain_queries import Prototypes
from queryseg.evaluation.evaluator import evaluate

CLASSES = class_table(["a", "b", "c"])


def test_a_diagnosis_of_a_model(model, pictures) -> None:
    seen = []
    found = diagnose(
        model,
        {"home": pictures(), "away": pictures(3)},
        Protocol(),
        num_images=3,
        sources={"away": "away.yaml"},
        progress=lambda *numbers: seen.append(numbers),
    )
    assert list(found.domains) == ["home", "away"]
    assert seen[-1] == (6, 6)
    assert found.source == "home"
    assert found.num_queries == 6
    assert [domain.num_images for domain in found.domains.values()] == [3, 3]
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["domains"]["away"]["data"] == "away.yaml"
    assert content["domains"]["away"]["mean_iou"] == evaluate(model, pictures(3), Protocol()).mean_iou
    assert content["domains"]["home"]["figures"]["query_drift"] == 0
    assert content["domains"]["away"]["figures"]["query_drift"] > 0
    assert content["protocol"] == "native size, whole image"


def test_images_are_chosen_evenly_and_chance_plays_no_part(model, pictures) -> None:
    class Noted:
        def __init__(self, inner) -> None:
            self.inner, self.name, self.classes, self.asked = inner, inner.name, inner.classes, []

        def __len__(self) -> int:
            return len(self.inner)

        def __getitem__(self, index):
            self.asked.append(index)
            return self.inner[index]

    noted = Noted(pictures(9))
    state = torch.get_rng_state()
    first = diagnose(model, {"x": noted}, Protocol(), num_images=3).to_json()
    assert noted.asked == [1, 4, 7]
    assert torch.equal(torch.get_rng_state(), state)
    second = diagnose(model, {"x": noted}, Protocol(), num_images=3).to_json()
    assert first["domains"] == second["domains"]
    assert diagnose(model, {"x": noted}, Protocol(), num_images=None).domains["x"].num_images == 9


def test_every_key_is_explained(model, pictures) -> None:
    domain = diagnose(model, {"home": pictures(2)}, Protocol()).to_json()["domains"]["home"]
    explained = {key.removeprefix("domains.*.") for key in KEYS if key.startswith("domains.")}
    given = {key for key in domain if not isinstance(domain[key], dict)} | {"difference", "group_sizes"}
    given |= {f"figures.{key}" for key in domain["figures"]} | {f"queries.{key}" for key in domain["queries"]}
    given |= {f"classes.*.{key}" for key in next(iter(domain["classes"].values()))}
    assert given == explained


@pytest.mark.parametrize("number", [0, -1])
def test_at_least_one_image(model, pictures, number) -> None:
    with pytest.raises(InputError, match="look at 1 at least"):
        diagnose(model, {"x": pictures()}, Protocol(), num_images=number)


def test_a_source_without_labels_has_no_map(model, pictures) -> None:
    found = diagnose(model, {"x": pictures(1, ignored=(0,)), "y": pictures(1)}, Protocol())
    assert found.map is None
    assert json.dumps(found.to_json(), allow_nan=False)


def test_the_map_shows_prototypes_and_queries_on_the_sources_axes(circle) -> None:
    home, away = circle(), circle(embeddings=-circle().embeddings)
    found = QueryMap.of({"home": home, "away": away}, Prototypes.of(home))
    assert found is not None
    assert found.prototypes[2].isnan().all()
    assert (found.prototypes[0] > 0).all()
    assert float(found.explained.sum()) == pytest.approx(1), "the circle has two dimensions"
    # a rotation and a shift: distances stay
    points = torch.cat([home.embeddings.flatten(0, 1), Prototypes.of(home).vectors[:2]]).double()
    drawn = torch.cat([found.points["home"].positions, found.prototypes[:2]])
    torch.testing.assert_close(torch.cdist(drawn, drawn), torch.cdist(points, points), atol=1e-6, rtol=1e-6)
    assert found.points["home"].active.tolist() == [True, True, True, False, True, True, False, False]
    assert found.points["home"].groups.tolist() == [0, 0, 1, 1, 0, 1, 1, 1]
    assert not torch.equal(found.points["home"].positions, found.points["away"].positions)


def test_data_sets_with_different_numbers_of_queries_are_refused(circle) -> None:
    seen = circle()
    fewer = circle(classes=seen.classes[:, :3], embeddings=seen.embeddings[:, :3])
    with pytest.raises(RecipeError, match="3 to 4 queries, depending on the data set"):
        Diagnosis.of({"x": seen, "y": fewer}, CLASSES)


def test_notes_say_what_counts_as_active(model, monkeypatch) -> None:
    assert 'is not "no object"' in query_notes(model)[0]
    monkeypatch.setattr(model.heads, "provides", frozenset({"sigmoid_classes"}))
    monkeypatch.setattr(model.queries, "provides", frozenset({"selected_indices"}))
    notes = query_notes(model, "token")
    assert "at least 0.5" in notes[0]
    assert "image tokens" in notes[1]
    assert "its rank" in notes[2]
