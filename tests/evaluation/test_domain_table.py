import json
import math

import pytest
from rich.console import Console

from queryseg.data.corruptions import Corrupted
from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.evaluation.corruption_scores import CorruptedTarget
from queryseg.evaluation.domain_table import DomainTable, RunFacts, evaluate_many
from queryseg.evaluation.markdown_report import markdown
from queryseg.evaluation.report import write_html

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


@pytest.fixture
def under_corruption(make_evaluation):
    """A source, one other domain, and three corruptions of the source."""
    scores = {"clear": GOOD, "night": POOR, "clear/fog-1": GOOD, "clear/fog-5": POOR, "clear/jpeg-5": POOR}
    evaluations = [make_evaluation(name, score) for name, score in scores.items()]
    kinds = {"clear/fog-1": ("fog", 1), "clear/fog-5": ("fog", 5), "clear/jpeg-5": ("jpeg", 5)}
    corrupted = {name: CorruptedTarget("clear", *kind) for name, kind in kinds.items()}
    return DomainTable(evaluations, frozenset({"clear"}), RunFacts("runs/x", 5), corrupted=corrupted)


def test_corruptions_are_no_unseen_domains(under_corruption):
    """They are told apart, as mPC; what remains of the score is told for each of them, too."""
    table, good, poor = under_corruption, (8 / 10 * 2 + 1) / 3, (4 / 14 * 2 + 1) / 3
    assert [e.name for e in table.unseen] == ["night"]
    assert table.mean_unseen == pytest.approx(poor)
    performance = ((good + poor) / 2 + poor) / 2
    assert table.corruptions["clear"].performance.value == pytest.approx(performance)
    assert list(table.corruptions) == ["clear"]
    assert [(title, domain) for title, domain, _ in table.means] == [("mPC, clear", "corrupted")]
    content = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert content["mean_iou_unseen"] == pytest.approx(poor)
    assert content["mean_performance_under_corruption"]["clear"]["value"] == pytest.approx(performance)
    assert content["data"]["clear/fog-5"]["corruption_of"] == "clear"
    assert content["data"]["night"]["corruption_of"] is None
    assert content["data"]["clear/fog-5"]["mean_iou_retention"]["value"] == pytest.approx(poor / good)
    assert content["data"]["clear"]["mean_iou_retention"] is None


def test_reports_tell_corruptions_apart(under_corruption, tmp_path):
    mean = f"{100 * under_corruption.corruptions['clear'].performance.value:.1f}"
    lines = [line for line in text(under_corruption).splitlines() if "│" in line]
    rows = {line.split("│")[1].strip(): line for line in lines}
    assert "corrupted" in rows["clear/fog-1"]
    assert "unseen" in rows["night"]
    assert mean in rows["mPC, clear"]
    assert "mean" not in rows, "a single unseen domain is its own mean"
    lines = markdown(under_corruption).splitlines()
    assert any(line.startswith(f"| mPC, clear |  | corrupted |  | {mean} | ") for line in lines)
    write_html(under_corruption, tmp_path / "report.html", "x")
    page = (tmp_path / "report.html").read_text()
    assert "mPC, mean mIoU on clear under corruption" in page
    assert page.count('<span class="tag">corrupted</span>') == 4
    assert "mean of 1 unseen domain" in page


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
    assert table.corrupted == {}
    assert table.facts.parameters == sum(p.numel() for p in model.parameters())
    assert table.facts.steps is table.facts.seed is None


def test_corrupted_data_sets_are_recognised(model, pictures):
    """By the data set that they corrupt; one whose clean images are not there is a target of its own."""
    day, dusk = pictures(1), pictures(1)
    data = {"day": day, "day/fog-2": Corrupted(day, "fog", 2), "dusk/fog-2": Corrupted(dusk, "fog", 2)}
    table = evaluate_many(model, data, Protocol())
    assert table.corrupted == {"day/fog-2": CorruptedTarget("day", "fog", 2)}
    assert [e.name for e in table.unseen] == ["dusk/fog-2"]


def test_which_domains_were_seen_can_be_said(model, pictures):
    data = {"day": pictures(1), "dusk": pictures(1)}
    assert evaluate_many(model, data, Protocol(), seen=["dusk"]).unseen[0].name == "day"
    assert len(evaluate_many(model, data, Protocol(), seen=[]).unseen) == 2
    with pytest.raises(InputError, match="'dawn' is said to be the training domain, but given are: day, dusk"):
        evaluate_many(model, data, Protocol(), seen=["dawn"])
    with pytest.raises(InputError, match="no data set to evaluate on"):
        evaluate_many(model, {}, Protocol())
