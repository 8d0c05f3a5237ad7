"""Runs of adapters store what they trained, find their base again and check it, and resume bit for bit."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import tiny_run
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from test_resume import assert_same_runs

import queryseg
from queryseg.adapters.low_rank_linear import LowRankLinear
from queryseg.benchmarking import Options, find_candidates
from queryseg.benchmarking.segmenter_candidate import SegmenterCandidate
from queryseg.cli.main import main
from queryseg.errors import CheckpointError, QuerysegError
from queryseg.inference.run_folder import Base, bases_for, read_base, read_model
from queryseg.recipe_file import build, resolve
from queryseg.training import train
from queryseg.training.checkpoint import read_checkpoint

OPTIONS = {"embed_dim": 16, "depth": 3, "num_heads": 2}
ADAPTERS = ["Frozen", "Rein", "SoMA", "FADA", "LoRA"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A "foundation model" in timm's own layout."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    model = timm.create_model("vit_tiny_patch16_224", patch_size=8, img_size=32, num_classes=0, **OPTIONS)
    save_file(model.state_dict(), path)
    return path


def recipe(data: Path, adapter: str, pretrained: Path | bool, **training: Any) -> dict[str, Any]:
    """Six steps of QPrompt with an adapter, as a recipe file says them."""
    values = tiny_run.settings(data, **training)
    backbone = {"name": "vit_tiny_patch16_224", "patch_size": 8, "image_size": 32, "options": OPTIONS}
    backbone["pretrained"] = pretrained if isinstance(pretrained, bool) else str(pretrained)
    options = {"rank": 2, "num_tokens": 5, "start": 0.4}
    options = {"Frozen": {}, "Rein": options, "FADA": options}.get(adapter, {"rank": 2, "start": 0.4})
    queries = {"class_path": "queryseg.queries.LearnableQueries", "init_args": {"num_queries": 5}}
    return resolve(
        {
            "classes": tiny_run.CLASSES,
            "model": {
                "backbone": {"class_path": "queryseg.backbones.PlainViT", "init_args": backbone},
                "adapter": {"class_path": f"queryseg.adapters.{adapter}", "init_args": options},
                "pixel_decoder": "queryseg.pixel_decoders.Identity",
                "queries": "queryseg.queries.LinkedQueries" if adapter == "Rein" else queries,
                "decoder": "queryseg.decoders.QueryInjection",
                "readout": "queryseg.readouts.Mixture",
            },
            "objectives": {
                "set": {"class_path": "queryseg.objectives.SetCriterion", "init_args": {"num_points": 32}},
                "grqa": {"class_path": "queryseg.objectives.GRQA", "init_args": {"start": 0.5, "min_pixels": 2}},
            },
            "data": values["data"],
            "training": values["training"],
        }
    )


def run(resolved: dict[str, Any], out: Path, **options: Any) -> None:
    train(build(resolved), resolved, out, accelerator="cpu", console=Console(quiet=True), **options)


@pytest.fixture(scope="module")
def soma(data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("soma")
    run(recipe(data, "SoMA", weights), out)
    return out


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(adapter: str, data: Path, weights: Path, tmp_path: Path) -> None:
    """GRQA with its reference included. What is stored is what learned, and buffers."""
    settings = recipe(data, adapter, weights)
    run(settings, tmp_path / "whole")
    run(settings, tmp_path / "parts", until=2)
    run(settings, tmp_path / "parts", resume=True, until=4)
    run(settings, tmp_path / "parts", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "parts")
    loaded = read_model(tmp_path / "whole")
    stored = load_file(tmp_path / "whole" / "model.safetensors")
    state = loaded.model.state_dict()
    base = {f"backbone.{name}" for name in loaded.model.backbone.base()}
    assert stored.keys() == state.keys() - base
    assert all(torch.equal(value, state[name]) for name, value in stored.items())
    assert read_checkpoint(tmp_path / "whole" / "last.ckpt")["model"].keys() == stored.keys()
    original = load_file(weights)
    assert len(base) >= 0.4 * len(original)
    for name in base:
        at = name.removeprefix("backbone.").removeprefix("stem.")
        if at in original and original[at].shape == state[name].shape:
            assert torch.equal(state[name], original[at]), "the base is what it was"
    assert loaded.base == read_base(tmp_path / "whole")


def test_a_base_is_found_checked_and_told(
    soma: Path, weights: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_base(soma)
    assert record is not None
    assert (record.source, record.file) == (str(weights), None)
    image = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8).numpy()
    expected = queryseg.load(soma, device="cpu").labels(image)
    hidden = weights.with_name("moved.safetensors")
    weights.rename(hidden)
    try:
        with pytest.raises(CheckpointError, match=r"does not store \(give its place with --base\): There is no weight"):
            read_model(soma)
        assert (queryseg.load(soma, device="cpu", base=hidden).labels(image) == expected).all()
        other = {name: value + 0.01 for name, value in load_file(hidden).items()}
        save_file(other, weights)
        with pytest.raises(CheckpointError, match="trained on other weights than those that were found") as caught:
            read_model(soma)
        assert "\n" not in str(caught.value)
        with pytest.raises(CheckpointError, match="trained on other weights"):
            run(recipe(data, "SoMA", weights), soma, resume=True)
        # command line: the same sentence with exit code 2, and the base where it is now
        picture = data / "images" / "0.png"
        command = ["predict", str(soma), str(picture), "--out", str(tmp_path / "predicted"), "--device", "cpu"]
        assert main(command) == 2
        assert "--base" in capsys.readouterr().err
        assert main([*command, "--base", str(hidden)]) == 0
        assert "Base of the adapter" in capsys.readouterr().out
        source = tmp_path / "data.yaml"
        source.write_text(json.dumps(tiny_run.settings(data)["data"]["train"]))
        shown = ["--data", f"same={source}", "--device", "cpu", "--workers", "0"]
        timed = ["--size", "32", "32", "--rounds", "1", "--warmup", "1", "--no-stages", "--device", "cpu"]
        for command in (
            ["evaluate", str(soma), *shown],
            ["diagnose", str(soma), *shown, "--out", str(tmp_path / "queries")],
            ["benchmark", str(soma), *timed],
        ):
            assert main(command) == 2, command[0]
            assert "give the right ones with --base" in capsys.readouterr().err
            assert main([*command, "--base", str(hidden)]) == 0, command[0]
            told = "".join(capsys.readouterr().out.splitlines())
            assert f"Base of the adapter: {weights} (" in told, command[0]
    finally:
        hidden.rename(weights)
    read_model(soma)


def test_a_run_that_holds_everything_needs_no_base(data: Path, weights: Path, tmp_path: Path) -> None:
    """An adapter on random weights: there is no file to find them in again."""
    run(recipe(data, "LoRA", False, steps=2), tmp_path)
    assert read_base(tmp_path) is None
    loaded = read_model(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == loaded.model.state_dict().keys()
    with pytest.raises(CheckpointError, match="needs no base"):
        read_model(tmp_path, base=weights)


def test_a_base_goes_to_the_runs_that_ask_for_one(soma: Path, weights: Path, tmp_path: Path) -> None:
    whole, nowhere = tmp_path / "whole", tmp_path / "nowhere"
    whole.mkdir()
    assert bases_for([whole, soma], weights) == {whole: None, soma: weights}
    assert bases_for([soma], None) == {soma: None}
    with pytest.raises(CheckpointError, match=rf"^{whole} holds all of its weights and needs no base; leave {weights}"):
        bases_for([whole], weights)
    with pytest.raises(CheckpointError, match=rf"^{whole} and {weights} hold all of their weights and need no base"):
        bases_for([whole, weights], weights)
    assert bases_for([nowhere], weights) == {nowhere: None}, "that there is no such run is told when it is read"


def test_a_benchmark_measures_what_is_deployed(soma: Path) -> None:
    """The adapter merged, as `load` gives it."""
    run, _ = find_candidates([str(soma)], Options((32, 32), device="cpu"))
    assert isinstance(run, SegmenterCandidate)
    assert run.model.backbone.adapter is None
    assert not any(isinstance(module, LowRankLinear) for module in run.model.modules())


def test_a_damaged_record_is_one_sentence(soma: Path, tmp_path: Path) -> None:
    for name in ("recipe.yaml", "model.safetensors"):
        (tmp_path / name).write_bytes((soma / name).read_bytes())
    for content in ("{", '{"file": 3}', "[]"):
        (tmp_path / "base.json").write_text(content)
        with pytest.raises(CheckpointError, match="is damaged"):
            read_model(tmp_path)


@pytest.fixture(scope="module")
def pretrained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trunk that another run trained, in a file of its own, as names of a model."""
    settings = recipe(data, "Frozen", False, steps=2)
    del settings["model"]["adapter"]
    out = tmp_path_factory.mktemp("pretrained")
    run(settings, out / "run")
    trunk = {n: v for n, v in load_file(out / "run" / "model.safetensors").items() if n.startswith("backbone.")}
    save_file(trunk, out / "trunk.safetensors")
    return out / "trunk.safetensors"


@pytest.mark.parametrize("adapter", ["SoMA", "Rein"])
def test_started_from_a_file_of_weights(adapter: str, data: Path, pretrained: Path, tmp_path: Path) -> None:
    """They are the base, and what SoMA decomposes; runs find them when they resume, fork and load."""
    settings = recipe(data, adapter, False)
    run(settings, tmp_path / "whole", start_from=pretrained)
    record = read_base(tmp_path / "whole")
    assert record is not None
    assert record.file == str(pretrained)
    given = load_file(pretrained)
    model = read_model(tmp_path / "whole").model
    assert all(torch.equal(value, given[f"backbone.{name}"]) for name, value in model.backbone.base().items())
    if adapter == "SoMA":
        layer = model.backbone.blocks[2].mlp.fc1
        assert isinstance(layer, LowRankLinear)
        smallest = torch.linalg.svdvals(layer.weight)[-2:]
        sizes = torch.linalg.svdvals((layer.first_up @ layer.first_down)[0])[:2]
        torch.testing.assert_close(sizes, smallest, rtol=1e-4, atol=1e-6)
    run(settings, tmp_path / "first", start_from=pretrained, until=3)
    fork = copy.deepcopy(settings)
    del fork["objectives"]["grqa"]
    run(fork, tmp_path / "fork", fork=tmp_path / "first")
    assert read_base(tmp_path / "fork") == record
    run(settings, tmp_path / "first", resume=True)
    assert_same_runs(tmp_path / "whole", tmp_path / "first")
    save_file({name: value + 1 for name, value in given.items()}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="trained on other weights"):
        read_model(tmp_path / "fork", base=tmp_path / "other.safetensors")
    save_file({"queries.content": given["backbone.norm.weight"]}, tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="does not hold these weights"):
        read_model(tmp_path / "fork", base=tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"put it back or give its place with --base"):
        read_model(tmp_path / "fork", base=tmp_path / "nowhere.safetensors")


def test_a_run_goes_on_from_an_adapted_one(soma: Path, data: Path, weights: Path, tmp_path: Path) -> None:
    """--start-from a run of the same adapter takes its components over instead of decomposing anew."""
    run(recipe(data, "SoMA", weights, steps=2, learning_rate=1e-12, ema_decay=None), tmp_path, start_from=soma)
    own, before = (load_file(folder / "model.safetensors") for folder in (tmp_path, soma))
    for name, value in before.items():
        if ".down" in name or ".first_" in name:
            torch.testing.assert_close(own[name], value, rtol=0, atol=1e-6)
    record = read_base(tmp_path)
    assert isinstance(record, Base)
    assert record.file is None


def test_predictions_are_merged_and_the_same(soma: Path, data: Path) -> None:
    image = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    adapted, merged = read_model(soma).model, queryseg.load(soma, device="cpu").engine.model
    assert merged.backbone.adapter is None
    assert not any(isinstance(module, LowRankLinear) for module in merged.modules())
    with torch.no_grad():
        one, two = (model(model.normalise(image)).final.mask_logits for model in (adapted, merged))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_rein_needs_queries_that_take_its_positions(data: Path) -> None:
    settings = recipe(data, "Rein", False)
    settings["model"]["queries"] = "queryseg.queries.LearnableQueries"
    recipe_of = build(resolve(settings))
    with pytest.raises(QuerysegError, match=r"adapter Rein requires 'linked_positions' \(queries take their positions"):
        queryseg.segmenter.build_segmenter(["a"], recipe_of.model)
    settings = recipe(data, "LoRA", False)
    settings["model"]["queries"] = "queryseg.queries.LinkedQueries"
    recipe_of = build(resolve(settings))
    with pytest.raises(QuerysegError, match="queries LinkedQueries requires 'query_position'"):
        queryseg.segmenter.build_segmenter(["a"], recipe_of.model)
