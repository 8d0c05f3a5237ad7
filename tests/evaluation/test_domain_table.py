import json
import math

import pytest
from rich.console import Console

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.evaluation.domain_table import DomainTable, RunFacts, evaluate_many

GOOD = [[[8, 1, 0], [1, 8, 0], [0, 0, 9]]] * 3
POOR = [[[4, 5, 0], [5, 4, 0], [0, 0, 9]]] * 3


@pytest.fixture
def table(make_evaluation):
    evaluations = [make_evaluation("clear", GOOD), make_evaluation("fog", POOR), make_evaluation("[red]night", POOR)]
    facts = RunFacts("runs/streets", 1234, {"seed": 7, "training": {"steps": 600}})
    return DomainTable(evaluations, frozenset({"clear"}), facts, {"fog": "streets.yaml, split val"})


def text(table, width=80):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_the_mean_is_over_unseen_domains_only(table, make_evaluation):
    assert table.mean_unseen == pytest.approx((4 / 14 + 4 / 14 + 1) / 3)
    assert [e.name for e in table.unseen] == ["fog", "[red]night"]
    alone = DomainTable([make_evaluation("clear", GOOD)], frozenset({"clear"}), table.facts)
    assert math.isnan(alone.mean_unseen)
    assert alone.to_json()["mean_iou_unseen"] is None


def test_a_terminal_shows_scores_with_their_protocol(table):
    shown = text(table)
    assert all(len(line) <= 80 for line in shown.splitlines())
    for words in (
        "clear",
        "training",
        "unseen",
        "86.7",
        "52.4",
        "native size, whole image",
        "never",
        "sky <far>",
        "[red]night",
        "28.6",
    ):
        assert words in shown


def test_classes_of_many_data_sets_still_fit_a_terminal(table, make_evaluation):
    many = [make_evaluation(f"city/fog-{i}", POOR) for i in range(60)]
    shown = text(DomainTable(many, frozenset(), table.facts), width=120)
    assert all(f"city/fog-{i}" in shown for i in range(60))
    assert "IoU per class in %, first 8 of 60 data sets" in shown
    assert shown.count("city/fog-7 ") == 2
    assert shown.count("city/fog-8 ") == 1


def test_json_is_plain_and_complete(table):
    content = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert content["protocol"] == "native size, whole image"
    assert content["model"]["checkpoint"] == "last step, never chosen on a target"
    assert (content["model"]["steps"], content["model"]["seed"], content["model"]["run"]) == (600, 7, "runs/streets")
    assert "torch" in content["model"]["versions"]
    assert list(content["data"]) == ["clear", "fog", "[red]night"]
    assert content["data"]["clear"]["seen_domain"] is True
    assert content["data"]["fog"]["source"] == "streets.yaml, split val"
    assert content["data"]["fog"]["num_images"] == 3
    assert content["data"]["fog"]["classes"]["road"]["iou"] == pytest.approx(4 / 14)
    low, high = content["data"]["fog"]["mean_iou_interval"]
    assert low <= content["data"]["fog"]["mean_iou"] <= high


def test_many_data_sets_in_one_call(model, pictures):
    seen = []
    table = evaluate_many(
        model,
        {"day": pictures(2), "dusk": pictures(3)},
        Protocol(),
        num_examples=1,
        progress=lambda *numbers: seen.append(numbers),
    )
    assert [(e.name, e.num_images, len(e.examples)) for e in table.evaluations] == [("day", 2, 1), ("dusk", 3, 1)]
    assert table.seen == {"day"}
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert table.facts.parameters == sum(p.numel() for p in model.parameters())
    assert table.facts.steps is table.facts.seed is None


def test_which_domains_were_seen_can_be_said(model, pictures):
    data = {"day": pictures(1), "dusk": pictures(1)}
    assert evaluate_many(model, data, Protocol(), seen=["dusk"]).unseen[0].name == "day"
    assert len(evaluate_many(model, data, Protocol(), seen=[]).unseen) == 2
    with pytest.raises(InputError, match="'dawn' is said to be the training domain, but given are: day, dusk"):
        evaluate_many(model, data, Protocol(), seen=["dawn"])
    with pytest.raises(InputError, match="no data set to evaluate on"):
        evaluate_many(model, {}, Protocol())
