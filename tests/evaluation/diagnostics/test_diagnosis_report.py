import json
import re

import pytest
from PIL import Image
from rich.console import Console

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.evaluation.diagnostics import FIGURES, diagnose
from queryseg.evaluation.diagnostics.diagnosis_report import diagnoses_json, terminal_table, write_report
from queryseg.evaluation.diagnostics.query_pictures import PICTURES


@pytest.fixture
def diagnoses(model, pictures):
    found = diagnose(model, {"home": pictures(2), "far/<away>": pictures(3)}, Protocol())
    return {"before": found, "a&b": found}


def test_the_page_needs_nothing_else_and_holds_everything(diagnoses, tmp_path) -> None:
    write_report(diagnoses, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|https?://|url\(|@import", page)
    assert page.count("data:image/png;base64,") == len(PICTURES)
    for figure in FIGURES.values():
        assert f">{figure.title}</th>" in page
    for words in (
        "2 of home, 3 of far/&lt;away&gt;",
        "best class is not &quot;no object&quot;",
        "a&amp;b",
    ):
        assert words in page
    assert "<away>" not in page
    assert "nan" not in re.sub(r"base64,[^\"]+|Domin\w+", "", page)


def test_pictures_are_files_too(diagnoses, tmp_path) -> None:
    write_report(diagnoses, tmp_path)
    assert {path.stem for path in tmp_path.glob("*.png")} == set(PICTURES)
    panels = sorted(path.name for path in (tmp_path / "panels").iterdir())
    assert len(panels) == 4 * len(PICTURES)
    assert "query_prototypes_a_b_far_away_.png" in panels
    assert Image.open(tmp_path / "panels" / "activity_before_home.png").width == 1060


def test_one_panel_is_no_file_of_its_own(model, pictures, tmp_path) -> None:
    write_report({"run": diagnose(model, {"home": pictures(1)}, Protocol())}, tmp_path)
    assert not (tmp_path / "panels").exists()
    assert "<h2>Run</h2>" in (tmp_path / "report.html").read_text()


def test_names_that_differ_in_a_sign_keep_their_files_apart(diagnoses, tmp_path) -> None:
    write_report({"a&b": diagnoses["before"], "a/b": diagnoses["before"]}, tmp_path)
    assert len(list((tmp_path / "panels").iterdir())) == 4 * len(PICTURES)


def test_json_explains_itself(diagnoses) -> None:
    content = json.loads(json.dumps(diagnoses_json(diagnoses), allow_nan=False))
    assert list(content["runs"]) == ["before", "a&b"]
    assert content["keys"]["domains.*.figures.margin"] == FIGURES["margin"].meaning


def test_the_terminal_shows_every_figure(diagnoses) -> None:
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(terminal_table("before", diagnoses["before"]))
    printed = console.export_text()
    assert all(figure.title in printed for figure in FIGURES.values())
    assert "far/<away>" in printed


def test_a_folder_that_cannot_be_written(diagnoses, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(diagnoses, tmp_path / "file")
