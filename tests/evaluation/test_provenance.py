import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from queryseg.data.data_file import open_data
from queryseg.data.data_identity import DataIdentity
from queryseg.evaluation.domain_table import DomainTable, RunFacts
from queryseg.evaluation.markdown_report import markdown
from queryseg.evaluation.provenance import (
    LAST_STEP,
    UNRECORDED,
    checkpoint_choice,
    provenance_warnings,
)
from queryseg.evaluation.report import write_html


def write_split(root: Path, split: str, names: list[str]) -> Path:
    """A data file of one split in a tree of several."""
    for name in names:
        for kind in ("images", "labels"):
            path = root / split / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((4, 4, 3) if kind == "images" else (4, 4), np.uint8)).save(path)
    path = root / f"{split}.yaml"
    path.write_text(
        f"layout: folders\nroot: .\nimages: '{{split}}/images'\nlabels: '{{split}}/labels'\n"
        f"split: {split}\nclasses: [road, car]\n"
    )
    return path


@pytest.fixture
def city(tmp_path: Path) -> Path:
    write_split(tmp_path / "city", "train", ["a", "b", "c"])
    write_split(tmp_path / "city", "val", ["c", "d"])
    write_split(tmp_path / "city", "test", ["e"])
    return tmp_path / "city"


def warnings_of(
    train: object, evaluated: dict[str, Path], validate: object = None, root: str | None = None
) -> list[str]:
    recipe = {"data": {"train": train, "validate": validate or {}, "root": root}}
    return provenance_warnings(recipe, evaluated, {name: open_data(path) for name, path in evaluated.items()})


def test_training_data_is_known_by_what_it_is_not_by_its_name(city):
    """Also where the recipe says it in another way: inline, relative to a root, with another class table."""
    said = "'anything' is the training data of this run (data.train)"
    assert warnings_of(str(city / "train.yaml"), {"anything": city / "train.yaml"})[0].startswith(said)
    inline = {"layout": "folders", "images": "train/images", "labels": "train/labels", "classes": ["x", "y"]}
    other = city / "same.yaml"
    other.write_text(f"layout: folders\nroot: {city}\nimages: train/images\nlabels: train/images/../labels\nname: x\n")
    assert warnings_of(inline, {"anything": other}, root=str(city))[0].startswith(said)


def test_images_shared_by_two_splits_are_counted(city):
    assert warnings_of(str(city / "train.yaml"), {"test": city / "test.yaml"}) == []
    found = warnings_of(str(city / "train.yaml"), {"val": city / "val.yaml"})
    assert len(found) == 1
    assert "'val' shares 1 of its 2 images with the training data" in found[0]


def test_validation_data_is_told_too_but_training_first(city):
    validate = {"watched": str(city / "test.yaml"), "train": str(city / "train.yaml")}
    found = warnings_of(str(city / "train.yaml"), {"t": city / "train.yaml", "v": city / "test.yaml"}, validate)
    assert len(found) == 2
    assert "'t' is the training data" in found[0]
    assert "'v' is the validation data that was watched" in found[1]
    assert "data.validate.watched" in found[1]


def test_a_copy_is_suspected_by_its_names(city, tmp_path):
    """Another root with the same list of names; other names are no copy."""
    copied = write_split(tmp_path / "copy", "train", ["a", "b", "c"])
    alien = write_split(tmp_path / "alien", "train", ["x", "y", "z"])
    assert "may be a copy of" in warnings_of(str(city / "train.yaml"), {"copied": copied})[0]
    assert warnings_of(str(city / "train.yaml"), {"alien": alien}) == []


def test_data_that_are_gone(city, tmp_path):
    """A run from another machine: a data file that cannot be read is told; a layout that any data can have is not
    suspected under another root."""
    assert "'/gone/data.yaml') cannot be read here" in warnings_of("/gone/data.yaml", {"x": city / "val.yaml"})[0]
    inline = {"layout": "folders", "images": "{split}/images", "labels": "{split}/labels", "split": "val"}
    assert warnings_of(inline, {"x": city / "val.yaml"}, root="/gone") == []
    assert DataIdentity.of(inline, "/gone").names is None
    assert provenance_warnings({"classes": [], "model": {}}, {}, {}) == []


def test_generated_streets_are_what_they_are_made_of(tmp_path):
    for name, (seed, number) in {"a": (1, 4), "more": (1, 9), "b": (2, 4)}.items():
        text = f"layout: streets\nsize: [32, 64]\nseed: {seed}\nnum_images: {number}\n"
        (tmp_path / f"{name}.yaml").write_text(text)
    train = {"layout": "streets", "size": [32, 64], "num_images": 4, "seed": 1}
    found = warnings_of(train, {name: tmp_path / f"{name}.yaml" for name in ("a", "more", "b")})
    assert [text.split(" training")[0] for text in found] == ["'a' is the", "'more' shares 4 of its 9 images with the"]


def test_how_a_checkpoint_was_chosen(tmp_path):
    """The last step, unless the run was stopped, or the weights come from outside."""
    recipe = {"training": {"steps": 100}}
    assert checkpoint_choice(tmp_path, recipe) == LAST_STEP
    (tmp_path / "metrics.csv").write_text("step,loss\n50,1.0\n100,0.5\n")
    assert checkpoint_choice(tmp_path, recipe) == LAST_STEP
    (tmp_path / "metrics.csv").write_text("step,loss\n50,1.0\n")
    assert checkpoint_choice(tmp_path, recipe) == f"{LAST_STEP}; the run was stopped about step 50 of 100"
    assert checkpoint_choice(tmp_path, {"classes": ["a"]}) == UNRECORDED


def test_warnings_stay_with_the_table(make_evaluation, tmp_path):
    """In JSON, HTML and Markdown, as text that cannot be mistaken for markup."""
    evaluation = make_evaluation("city|val", [[[8, 1, 0], [1, 8, 0], [0, 0, 9]]] * 3)
    table = DomainTable([evaluation], frozenset(), RunFacts("run", 1), {}, ["'<city>' is the training data."])
    assert json.loads(json.dumps(table.to_json()))["warnings"] == ["'<city>' is the training data."]
    write_html(table, tmp_path / "report.html", "report")
    page = (tmp_path / "report.html").read_text()
    assert '<p class="warning"><strong>Warning.</strong> &#x27;&lt;city&gt;&#x27; is the training data.</p>' in page
    text = markdown(table)
    assert text.startswith("> **Warning:** '<city>' is the training data.\n")
    assert "| city\\|val | – | unseen | 3 | 86.7 |" in text
    assert "Protocol: native size, whole image; checkpoint: last step, never chosen on a target." in text
