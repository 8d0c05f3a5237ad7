"""Classes of a trained model are changed by their names alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import queryseg
from queryseg.cli.main import main
from queryseg.data.class_table import CAMVID
from queryseg.errors import CheckpointError, InputError, QuerysegError, RecipeError
from queryseg.inference.engine import Engine
from queryseg.inference.open_vocabulary import VOCABULARY, with_classes
from queryseg.inference.query_pruning import prune_queries
from queryseg.inference.run_folder import LoadedRun, read_model, write_model
from queryseg.inference.text_prompt import TEXT_PROMPT, read_text_prompt
from queryseg.text import load_tower
from queryseg.types import Prediction

WANTED = ("sky", "Traffic  Light", "road", "tree")
"""Trained classes are road, building, sky, car."""
IMAGE = torch.randint(0, 256, (1, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Run = Callable[..., Path]


def final(run: LoadedRun) -> Prediction:
    with torch.no_grad():
        return run.model(run.model.normalise(IMAGE)).final


def tables(run: LoadedRun) -> dict[str, Tensor]:
    found = {"query": run.model.queries.position, "text": getattr(run.model.pixel_decoder, "text_position", None)}
    return {name: table.detach() for name, table in found.items() if table is not None}


@pytest.mark.parametrize("vectors", ["per_class", "shared"])
def test_known_names_keep_their_rows_and_new_ones_take_the_mean(textual_run: Run, vectors: str) -> None:
    folder = textual_run(vectors=vectors)
    trained, changed = read_model(folder), with_classes(read_model(folder), WANTED)
    assert changed.model.dims.class_names == changed.classes.names == WANTED
    assert changed.vocabulary is not None
    assert (changed.vocabulary.trained, changed.vocabulary.named) == (("sky", "road"), ("Traffic  Light", "tree"))
    before, after = tables(trained), tables(changed)
    assert before.keys() == {"query", "text"}
    for name, table in before.items():
        if vectors == "shared":
            assert torch.equal(after[name], table)
        else:
            assert torch.equal(after[name][[0, 2]], table[[2, 0]])
            torch.testing.assert_close(after[name][1], table.mean(0))
            torch.testing.assert_close(after[name][3], table.mean(0))
    old, new = trained.model.queries.embeddings, changed.model.queries.embeddings
    assert isinstance(old, Tensor)
    assert isinstance(new, Tensor)
    assert torch.equal(new[[0, 2]], old[[2, 0]])


def test_a_new_name_is_read_behind_the_learned_prompt(textual_run: Run) -> None:
    """As training would have read it."""
    folder = textual_run()
    run = with_classes(read_model(folder), WANTED)
    source: Any = run.model.queries
    tower = load_tower(source.settings)
    prompt = read_text_prompt(folder).vectors
    expected = tower.encode(tower.tokenize(["traffic light"]), prompt)[0]
    torch.testing.assert_close(source.embeddings[1], expected, rtol=0, atol=1e-5)
    bare = tower.encode(tower.tokenize(["traffic light"]))[0]
    assert (source.embeddings[1] - bare).abs().max() > 0.01, "the prompt makes a difference"


@pytest.mark.parametrize("injected", [False, True])
def test_every_query_speaks_for_its_own_class_alone(textual_run: Run, injected: bool) -> None:
    run = with_classes(read_model(textual_run(injected)), WANTED)
    reading = final(run)
    heads: Any = run.model.heads
    said = heads.class_embed(heads.norm(reading.content)).softmax(-1)
    assert said.shape[-1] == 5, "the class layer stays as it was trained"
    own = 1 - said[..., -1]
    torch.testing.assert_close(reading.class_scores, torch.diag_embed(own))
    with torch.no_grad():
        scores = Engine(run.model).find(IMAGE).scores()
    masks = reading.mask_logits.sigmoid()
    best = (own[..., None, None] * masks).argmax(1)
    size = (best.shape[-2], best.shape[-1])
    assert scores.shape == (1, 4, 40, 48)
    small = torch.nn.functional.interpolate(own[..., None, None] * masks, (40, 48), mode="bilinear")
    torch.testing.assert_close(scores, small, rtol=0, atol=1e-5)
    assert size == (reading.mask_logits.shape[-2], reading.mask_logits.shape[-1])


def test_the_order_of_classes_makes_no_difference(textual_run: Run) -> None:
    folder = textual_run()
    one, two = (final(with_classes(read_model(folder), names)) for names in (WANTED, WANTED[::-1]))
    torch.testing.assert_close(two.mask_logits, one.mask_logits.flip(1), rtol=1e-4, atol=1e-4)


def test_shared_vectors_say_of_a_class_what_its_text_says(textual_run: Run) -> None:
    """Trained classes, asked for alone, keep their scores' formula: with shared vectors it is the same before."""
    run = read_model(textual_run(vectors="shared"))
    reading = final(run)
    diagonal = reading.class_scores.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(reading.class_scores, torch.diag_embed(diagonal))
    torch.testing.assert_close(diagonal, 1 - reading.class_logits.softmax(-1)[..., -1])
    assert reading.class_logits.shape == (1, 4, 5)


def test_names_are_remembered_so_that_the_encoder_is_needed_once(
    textual_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = textual_run()
    first = with_classes(read_model(folder), WANTED)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    again = with_classes(read_model(folder), WANTED)
    assert torch.equal(final(again).mask_logits, final(first).mask_logits)
    assert again.vocabulary is not None
    assert VOCABULARY in again.vocabulary.origin
    only_known = with_classes(read_model(folder), ["car", "road"])
    assert only_known.classes.names == ("car", "road")
    with pytest.raises(InputError, match=r"open_clip, which is not installed; run `pip install 'queryseg\[text\]'`"):
        with_classes(read_model(folder), ["bridge"])
    # a prompt that learned further makes them worthless
    prompt = read_text_prompt(folder)
    hashed = torch.frombuffer(bytearray.fromhex(prompt.tower_sha256), dtype=torch.uint8)
    write_model(folder, {"queries.prompt": prompt.vectors + 1, "queries.tower_sha256": hashed}, TEXT_PROMPT)
    with pytest.raises(InputError, match="open_clip"):
        with_classes(read_model(folder), WANTED)


def test_a_folder_that_cannot_be_written_and_a_damaged_file(textual_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = textual_run()

    def full(path: Path, content: bytes) -> None:
        raise CheckpointError(f"{path} could not be saved (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr("queryseg.inference.open_vocabulary.replace_file", full)
        run = with_classes(read_model(folder), WANTED)
    assert run.vocabulary is not None
    assert "not remembered" in str(run.vocabulary)
    assert not (folder / VOCABULARY).exists()
    (folder / VOCABULARY).write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"is damaged .* delete it"):
        with_classes(read_model(folder), WANTED)


def test_another_encoder_is_refused(textual_run: Run, tmp_path: Path) -> None:
    folder = textual_run()
    run = read_model(folder)
    source: Any = run.model.queries
    tower = load_tower(source.settings)
    file = tmp_path / "tower.pt"
    weights = {f"text.{name}": value for name, value in tower.transformer.state_dict().items()}
    torch.save({"state_dict": weights}, file)
    assert with_classes(run, WANTED, file).vocabulary is not None
    (folder / VOCABULARY).unlink()
    torch.save({name: value + 0.01 for name, value in weights.items()}, file)
    with pytest.raises(CheckpointError, match="other weights than those of the text encoder") as caught:
        with_classes(read_model(folder), WANTED, file)
    assert "\n" not in str(caught.value)
    (folder / TEXT_PROMPT).unlink()
    with pytest.raises(CheckpointError, match=f"holds no {TEXT_PROMPT}"):
        with_classes(read_model(folder), WANTED)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ([], "has 0 classes; it needs 1 to 254"),
        (["road", "road"], "names 'road' twice"),
        (["road", "Road "], "are read as one name"),
        (["road", ""], "Class 1 has an empty name"),
        ([f"thing {i}" for i in range(500)], "has 500 classes; it needs 1 to 254"),
        (["road", "strasse " * 30], "tokens long, but the text encoder"),
        ("citiscapes", "There is no class table 'citiscapes'. Did you mean"),
    ],
)
def test_classes_that_cannot_be_are_one_sentence(textual_run: Run, classes: Any, sentence: str) -> None:
    with pytest.raises(QuerysegError) as caught:
        with_classes(read_model(textual_run()), classes)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_classes_and_a_table(textual_run: Run) -> None:
    folder = textual_run()
    many = with_classes(read_model(folder), [f"thing {i}" for i in range(254)])
    assert final(many).mask_logits.shape[1] == 254
    table = with_classes(read_model(folder), "camvid")
    assert table.classes == CAMVID
    assert table.vocabulary is not None
    assert set(table.vocabulary.trained) == {"sky", "building", "road", "car"}


def test_its_own_classes_change_nothing(textual_run: Run) -> None:
    folder = textual_run()
    run = with_classes(read_model(folder), ["road", "building", "sky", "car"])
    assert run.vocabulary is None
    assert torch.equal(final(run).class_scores, final(read_model(folder)).class_scores)


def test_queries_without_texts_refuse(tiny_qprompt: Callable[..., Any], textual_run: Run) -> None:
    run = read_model(textual_run())
    other = LoadedRun(tiny_qprompt().eval(), run.classes, {}, run.folder)
    with pytest.raises(RecipeError, match="LearnableQueries makes its queries without texts"):
        with_classes(other, ["road"])


def test_pruned_queries_keep_their_classes(textual_run: Run) -> None:
    run = with_classes(read_model(textual_run(injected=True)), WANTED)
    whole = final(run).class_scores
    pruned, report = prune_queries(run.model, [IMAGE[0]], tolerance=0.6)
    assert 1 <= len(report.kept) < 4
    with torch.no_grad():
        kept = pruned(pruned.normalise(IMAGE)).final.class_scores
    torch.testing.assert_close(kept, whole[:, list(report.kept)])


def test_the_command_line(textual_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = textual_run()
    picture, out = tmp_path / "image.png", tmp_path / "out"
    Image.fromarray(IMAGE[0].permute(1, 2, 0).numpy()).save(picture)
    command = ["predict", str(folder), str(picture), "--out", str(out), "--device", "cpu"]
    assert main([*command, "--classes", "sky, tree", "--json", str(tmp_path / "found.json")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Classes: trained on sky; by name alone, read by the text encoder" in said
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["classes"] == ["sky", "tree"]
    assert found["vocabulary"] == {"trained": ["sky"], "named": ["tree"]}
    assert set(np.unique(Image.open(out / "image_labels.png"))) <= {0, 1}
    assert main([*command, "--classes", ""]) == 2
    assert "empty name" in capsys.readouterr().err
    assert main([*command, "--text-tower", "x.pt"]) == 2
    predictor = queryseg.load(folder, device="cpu", classes=["sky", "tree"])
    assert (predictor.predict(picture).labels == np.asarray(Image.open(out / "image_labels.png"))).all()


def test_evaluate_and_export_take_other_classes(
    textual_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores belong to the data set's classes; an exported file keeps the classes it was asked for."""
    folder = textual_run()
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    picture = IMAGE[0].permute(1, 2, 0).numpy()
    Image.fromarray(picture).save(tmp_path / "images" / "0.png")
    Image.fromarray((picture[..., 0] // 100).clip(0, 1)).save(tmp_path / "labels" / "0.png")
    source = tmp_path / "data.yaml"
    source.write_text(json.dumps({"layout": "folders", "root": str(tmp_path), "classes": ["tree", "sky"]}))
    command = ["evaluate", str(folder), "--data", f"here={source}", "--device", "cpu", "--workers", "0"]
    assert main(command) == 2
    capsys.readouterr()
    assert main([*command, "--classes", "tree,sky", "--json", str(tmp_path / "scores.json")]) == 0
    assert "Classes: trained on sky; by name alone" in " ".join(capsys.readouterr().out.split())
    told = (tmp_path / "scores.json").read_text()
    assert "trained on sky; by name alone" in told
    out = tmp_path / "model.pt2"
    export = ["export", str(folder), "--format", "torch", "--out", str(out), "--size", "32", "48", "--device", "cpu"]
    assert main([*export, "--classes", "tree,sky"]) == 0
    assert queryseg.load(out, device="cpu").classes.names == ("tree", "sky")
    with pytest.raises(InputError, match="was exported with its classes"):
        queryseg.load(out, classes=["road"])
    with pytest.raises(InputError, match="was exported with its classes"):
        queryseg.load(out, text_tower="tower.pt")


@pytest.mark.parametrize("injected", [False, True])
def test_half_precision(textual_run: Run, injected: bool) -> None:
    folder = textual_run(injected)
    image = IMAGE[0].permute(1, 2, 0).numpy()
    expected = queryseg.load(folder, device="cpu", classes=WANTED).predict(image, scores=True).scores
    assert expected is not None
    half = queryseg.load(folder, device="cpu", classes=WANTED, precision="bf16").predict(image, scores=True).scores
    assert half is not None
    assert (np.abs(half - expected) < 0.1).mean() > 0.95
