from math import cos, isnan, log, nan, radians

import pytest
import torch

from queryseg.data.class_table import class_table
from queryseg.evaluation.diagnostics.domain_queries import FIGURES, Prototypes, domain_queries
from queryseg.evaluation.diagnostics.query_observer import ObservedQueries


def cosine(degrees: float) -> float:
    return cos(radians(degrees))


def test_prototypes_are_unit_means_over_images(circle) -> None:
    prototypes = Prototypes.of(circle())
    torch.testing.assert_close(prototypes.vectors[:2], torch.eye(2))
    assert prototypes.known.tolist() == [True, True, False]


def test_figures_by_hand(circle) -> None:
    seen = circle()
    found = domain_queries(seen, Prototypes.of(seen))
    figures = found.figures
    assert found.activity.tolist() == [1, 1, 0.5, 0]
    assert figures["active_queries"] == 2.5
    assert figures["active_share"] == 0.625
    assert figures["dead_queries"] == 1
    assert found.dead == [3]
    shares = [2 / 5, 2 / 5, 1 / 5]
    assert figures["usage_entropy"] == pytest.approx(-sum(p * log(p) for p in shares) / log(4))
    assert figures["mask_overlap"] == pytest.approx(0.15)
    assert figures["mask_overlap_same_class"] == 0.5
    # by class head: {0: 2, 1: 1} and {0: 1, 2: 1}; class 2 is absent from the second image
    assert figures["classes_by_head"] == 2
    assert figures["size_by_head"] == 5 / 4
    assert figures["absent_by_head"] == 0.5
    assert found.by_head.tolist() == [1.5, 0.5, 0.5]
    # by prototype: 0° and 30° to class 0, 80° and 100° to class 1; then 0° alone, class 1 is absent
    assert found.by_prototype.tolist() == [1.5, 2.5, 0]
    assert figures["classes_by_prototype"] == 2
    assert figures["size_by_prototype"] == 2
    assert found.sizes.tolist() == [0.5, 1, 0.5, 0]
    assert figures["absent_by_prototype"] == 1.5
    assert figures["entropy_by_prototype"] == pytest.approx(-(3 / 8 * log(3 / 8) + 5 / 8 * log(5 / 8)) / log(3))
    nearest = [0, 30, 10, 10, 0, 30, 10, 30]  # degrees to the nearest prototype; 90 less that to the other one
    assert figures["compactness"] == pytest.approx(sum(map(cosine, nearest)) / 8)
    margins = [abs(cosine(d) - cosine(90 - d)) for d in nearest]
    margins[3] = cosine(10) - cosine(100)  # 100° and 120° are beyond the second prototype
    margins[7] = cosine(30) - cosine(120)
    assert figures["margin"] == pytest.approx(sum(margins) / 8)
    deviation = (1 - cosine(30)) / 2
    three = torch.tensor([cosine(30), cosine(10), cosine(30)]).std(correction=0)
    assert figures["group_spread"] == pytest.approx((deviation + 0 + float(three)) / 3, abs=1e-6)
    assert figures["class_similarity"] == pytest.approx(0, abs=1e-6)
    assert figures["class_mean_drift"] == pytest.approx(2 * (2 - 2 * cosine(10)) / 3)
    assert found.presence.tolist() == [1, 0.5, 0]
    assert found.similarity[:, 2].isnan().all()
    assert float(found.similarity[1, 0]) == pytest.approx((cosine(30) + cosine(60)) / 2)


def test_the_source_does_not_drift_from_itself(circle) -> None:
    seen = circle()
    prototypes = Prototypes.of(seen)
    source = domain_queries(seen, prototypes)
    again = domain_queries(seen, prototypes, source)
    for figures in (source.figures, again.figures):
        assert figures["regrouped_queries"] == figures["query_drift"] == 0
    assert again.figures == pytest.approx(source.figures, nan_ok=True)


def test_drift_by_hand(circle) -> None:
    home, prototypes = circle(), Prototypes.of(circle())
    away = circle(embeddings=home.embeddings[:, [2, 1, 0, 3]])  # two queries exchange their places
    found = domain_queries(away, prototypes, domain_queries(home, prototypes))
    assert found.figures["regrouped_queries"] == 0.5
    assert found.distances.tolist() == pytest.approx([1 - cosine(80), 0, 1 - cosine(80), 0], abs=1e-6)
    assert found.figures["query_drift"] == pytest.approx((1 - cosine(80)) / 2)
    content = found.to_json(class_table(["a", "b", "c"]), domain_queries(home, prototypes))
    assert content["difference"]["regrouped_queries"] == 0.5
    assert content["difference"]["active_queries"] == 0
    assert content["queries"]["group"] == ["b", "a", "a", "b"]


def test_regions_that_any_query_outlines(circle) -> None:
    found = domain_queries(circle(), Prototypes.of(circle()))
    assert found.figures["objectness"] == pytest.approx((0.9 + 0.3 + 0.6) / 3)
    assert found.figures["outlined_regions"] == pytest.approx(2 / 3)
    classes = found.to_json(class_table(["a", "b", "c"]), found)["classes"]
    assert [one["outlined"] for one in classes.values()] == [1, 0, None]


def test_without_labels_nothing_is_said_of_prototypes(circle) -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    seen = circle(measured=nothing, present=nothing, outlined=torch.full((2, 3), nan))
    found = domain_queries(seen, Prototypes.of(seen))
    undefined = {key for key, value in found.figures.items() if isnan(value)}
    assert undefined == {
        "absent_by_head", "classes_by_prototype", "size_by_prototype", "entropy_by_prototype", "absent_by_prototype",
        "objectness", "outlined_regions",
        "compactness", "margin", "group_spread", "class_similarity", "class_mean_drift", "regrouped_queries",
    }  # fmt: skip
    assert found.figures["active_queries"] == 2.5
    assert found.groups.tolist() == [-1] * 4
    content = found.to_json(class_table(["a", "b", "c"]), found)
    assert content["figures"]["compactness"] is content["difference"]["compactness"] is None
    assert content["queries"]["group"] == [None] * 4
    assert content["group_sizes"] == {}


def test_one_image_whose_label_is_ignored_does_not_count_for_absent_classes(circle) -> None:
    seen = circle(present=torch.tensor([[True, True, False], [False, False, False]]))
    assert domain_queries(seen, Prototypes.of(seen)).figures["absent_by_head"] == 0


def test_no_active_query(circle) -> None:
    seen = circle(classes=torch.full((2, 4), -1), overlaps=torch.zeros(2, 2))
    figures = domain_queries(seen, Prototypes.of(seen)).figures
    assert figures["dead_queries"] == 4
    assert figures["active_queries"] == figures["classes_by_head"] == figures["absent_by_head"] == 0
    assert all(isnan(figures[key]) for key in ("usage_entropy", "mask_overlap", "size_by_head", "entropy_by_head"))


def test_one_image_one_query_one_class() -> None:
    yes, vector = torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1, 1)
    seen = ObservedQueries(torch.zeros(1, 1).long(), vector, vector, yes, yes, torch.zeros(2, 2), vector[0])
    figures = domain_queries(seen, Prototypes.of(seen)).figures
    assert figures["active_queries"] == figures["compactness"] == figures["size_by_prototype"] == 1
    assert isnan(figures["margin"])
    assert figures.keys() == FIGURES.keys()
