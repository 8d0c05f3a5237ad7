"""`queryseg benchmark` as a user types it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from queryseg.benchmarking import Options, Settings, Workload, arithmetic, bench, benchmark, find_candidates
from queryseg.cli.main import main
from queryseg.data.class_table import class_table
from queryseg.data.protocol import Protocol
from queryseg.export.export_record import ExportRecord
from queryseg.export.exported_graph import prepare, trace
from queryseg.export.torch_format import TorchFormat
from queryseg.recipe_file import build_untrained, read_recipe


@pytest.fixture(autouse=True)
def _small_matrix(monkeypatch):
    monkeypatch.setattr(arithmetic, "SIDE_ON_CPU", 64)


@pytest.fixture
def exported(recipe_path, tmp_path):
    """The recipe's model as a .pt2 for 32×64."""
    recipe = read_recipe(recipe_path)
    model = build_untrained(recipe)
    backbone = model.backbone
    table = class_table(recipe["classes"])
    record = ExportRecord(
        "torch", "fp32", table, Protocol(), (32, 64), False, False, False, backbone.mean, backbone.std, "digest"
    )
    path = tmp_path / "model.pt2"
    TorchFormat().convert(trace(prepare(model, record), record), record)(path, record)
    return path


def test_benchmark(recipe_path, exported, tmp_path, capsys):
    """A recipe, its exported file and the bare backbone: every figure is in the JSON and follows from the rounds that
    stand beside it; the page and the plots exist."""
    out, file = tmp_path / "out", tmp_path / "figures.json"
    words = ["benchmark", str(recipe_path), str(exported), "--size", "32", "64", "--rounds", "3", "--warmup", "1"]
    words += ["--device", "cpu", "--sizes", "64x64", "--batch", "1", "2", "--json", str(file), "--out", str(out)]
    assert main(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for expected in ("recipe.yaml", "model.pt2", "bare", "What infer includes", "WARNING: 3 rounds say little"):
        assert expected in printed

    content = json.loads(file.read_text())
    assert content == json.loads((out / "benchmark.json").read_text())
    assert content["protocol"]["size"] == [32, 64]
    product = content["flop_limit"]["64×64 matrix product in float32 on cpu"]
    assert product["flops"] == 2 * 64**3
    assert {"cpu", "threads", "cores"} <= content["hardware"].keys()
    assert {"python", "torch", "queryseg", "timm"} <= content["versions"].keys()
    recipe, pt2, bare = content["candidates"]
    assert [one["name"] for one in content["candidates"]] == ["recipe.yaml", "model.pt2", "bare"]

    rounds = {part: np.array(entry["rounds_ms"]) for part, entry in recipe["times"].items()}
    assert {len(values) for values in rounds.values()} == {3}
    assert recipe["times"]["infer"]["p95_ms"] == pytest.approx(np.percentile(rounds["infer"], 95), abs=1e-3)
    assert rounds["end_to_end"] == pytest.approx(rounds["decode"] + rounds["infer"] + rounds["draw"], abs=1e-3)
    stages = recipe["stages"]
    assert list(stages) == ["preprocess", "backbone", "head", "readout"]
    total = sum(np.array(entry["times"]["rounds_ms"]) for entry in stages.values()) + rounds["decode"] + rounds["draw"]
    assert rounds["stage_sum"] == pytest.approx(total, abs=1e-3)
    ratio = np.median(rounds["infer"] / np.array(bare["times"]["infer"]["rounds_ms"]))
    assert recipe["ratios"]["infer"]["median"] == pytest.approx(ratio, rel=1e-2)

    assert recipe["flops"] == sum(stage["flops"] for stage in stages.values())
    assert recipe["flops"] == pt2["flops"], "the exported graph computes the same"
    assert recipe["ratios"]["flops"] == pytest.approx(recipe["flops"] / bare["flops"])
    speed = product["flops"] / (np.array(product["times"]["rounds_ms"]) / 1000)
    share = rounds["infer"] / 1000 * speed / recipe["flops"]
    assert recipe["times_flop_limit"]["median"] == pytest.approx(np.median(share), rel=0.05)
    assert recipe["memory_bytes"] == recipe["weight_bytes"] + recipe["peak_bytes"]
    assert recipe["peak_bytes"] > bare["peak_bytes"] > 0
    assert recipe["parameters"] > bare["parameters"]
    assert list(pt2["stages"]) == ["network"]
    assert "times" not in pt2["stages"]["network"], "infer is the same"
    backbone = np.array(stages["backbone"]["times"]["rounds_ms"]) / np.array(bare["times"]["infer"]["rounds_ms"])
    assert stages["backbone"]["ratio_of_times"]["median"] == pytest.approx(np.median(backbone), rel=1e-2)
    assert stages["readout"]["times_flop_limit"] is not None, "classes and masks meet in a matrix product"
    assert stages["preprocess"]["times_flop_limit"] is None
    assert stages["backbone"]["parameters"] + stages["head"]["parameters"] == recipe["parameters"]
    assert "end_to_end" in pt2["times"]
    assert "end_to_end" not in bare["times"], "it gives no labels"

    pixels, images = content["sweeps"]
    assert [point["pixels"] for point in pixels["points"]] == [32 * 64, 64 * 64]
    assert pixels["candidates"]["recipe.yaml"]["exponent"]["median"] is not None
    assert pixels["candidates"]["model.pt2"]["exponent"] is None, "its size is fixed"
    assert any("model.pt2 was exported for 32×64" in note for note in content["notes"])
    assert [point["images"] for point in images["points"]] == [1, 2]

    page = (out / "report.html").read_text()
    assert "What infer includes" in page
    assert page.count("<img") == 4
    for name in ("parts", "ratios", "sweep_pixels", "sweep_images"):
        assert Image.open(out / f"{name}.png").width == 2120


def test_forms_of_one_recipe(recipe_path):
    """A recipe beside its own export and itself with fewer queries, nothing of which is left on the disk."""
    words = [str(recipe_path), f"{recipe_path}@torch:bf16", f"{recipe_path}@pruned", f"{recipe_path}@strips:2"]
    found = find_candidates(words, Options((32, 64), device="cpu", overrides=("model.queries.num_queries=8",)))
    forms = ["", "@torch:bf16", "@pruned", "@strips:2"]
    assert [one.name for one in found] == [*(f"recipe.yaml{form}" for form in forms), "bare"]
    result = benchmark(found, Workload((32, 64), 1), Settings(rounds=2, warmup=1, stages=False)).to_json()
    ratios = [one["ratios"]["infer_to_source"] for one in result["candidates"]]
    assert [ratio is None for ratio in ratios] == [True, False, False, False, True], (
        "forms are compared with what they are of"
    )
    assert [one.precision for one in found] == ["fp32", "bf16", "fp32", "fp32", "fp32"]
    assert found[0].model.decoder.strip_tokens != found[3].model.decoder.strip_tokens == 2
    assert "not compared" in found[1].description
    assert "of 8 queries are read" in found[2].description
    frames = [torch.randint(0, 256, (3, 32, 64), dtype=torch.uint8)]
    for one in found[:4]:
        with one.context():
            assert one.work(Workload((32, 64), 1)).infer(frames).shape == (1, 32, 64)


def test_one_candidate_without_a_bare_one(exported, capsys):
    """An exported file alone is its own reference, and nothing needs a table of stages."""
    assert main(["benchmark", str(exported), "--size", "32", "64", "--rounds", "1", "--warmup", "0"]) == 0
    printed = capsys.readouterr().out
    assert "× first" in printed
    assert "own ratios to model.pt2" in " ".join(printed.split())
    assert "parts, p50" not in printed


def test_python_twin_and_labels_at_the_frames_size(recipe_path):
    """`find_candidates` and `benchmark` without the command line: half precision, frames larger than what is shown, an
    override, no stages."""
    override = "--model.queries.num_queries=5"
    options = Options((32, 64), "cpu", "bf16", overrides=(override,))
    candidates = find_candidates([str(recipe_path), "ladder"], options)
    assert [one.name for one in candidates][1:] == [
        *(f"ladder: {arm}" for arm in ("Mask2Former", "− pixel decoder", "− multi-scale", "MLP head", "EoMT")),
        "ladder: QPrompt",
        "bare",
    ]
    tables = [one.model.queries.content.shape[0] for one in (candidates[0], candidates[1], candidates[-2])]
    assert tables == [5, 5, 5], "the ladder keeps the number of queries"
    settings = Settings(rounds=1, warmup=0, stages=False)
    result = benchmark([candidates[0], candidates[-1]], Workload((32, 64), frame=(48, 96)), settings)
    assert result.reference == "bare"
    assert result["bare"].limit_name == "64×64 matrix product in bfloat16 on cpu"
    first = result["recipe.yaml"]
    assert not first.stages
    assert first.costs["head"].flops > 0, "counted though not timed"


def test_busy_machines_and_wide_spreads_are_told(recipe_path, monkeypatch):
    """Warnings name the load, and candidates whose rounds differ."""
    monkeypatch.setattr(bench, "load_average", lambda: 3.2)
    times = iter([0.001, 0.004] * 100)
    monkeypatch.setattr(bench, "timed", lambda run, device: run() or next(times))
    candidates = find_candidates([str(recipe_path)], Options((32, 64), "cpu"))[:1]
    result = benchmark(candidates, Workload((32, 64)), Settings(rounds=3, warmup=0, stages=False))
    text = " ".join(result.warnings)
    assert "load average was 3.2" in text
    assert "recipe.yaml" in text


BAD = {
    "nothing.bin": "'nothing.bin' is no candidate",
    "missing.pt2": "There is no file missing.pt2",
    "missing.yaml": "There is no recipe missing.yaml",
    "bear": "Did you mean 'bare'",
    "bare": "'bare' is made of the backbone of a run or recipe",
    "hf:eomd": "Did you mean 'eomt'",
    "timm:nextvit_smal": "did you mean nextvit_small",
    "hf:eomt_small --size 40 64": "no multiple of 16",
    "RECIPE RECIPE": "is given twice",
    "RECIPE --rounds 0": "0 rounds measure nothing",
    "RECIPE --warmup -1": "cannot be",
    "RECIPE --batch 0": "batch of 0",
    "RECIPE --size 0 64": "has no pixels",
    "RECIPE --sizes 64": "no size; write HEIGHTxWIDTH",
    "RECIPE --json RECIPE/figures.json": "recipe.yaml/figures.json cannot be written; choose another file",
    "RECIPE --threads 0": "--threads is 0",
    "RECIPE --device abacus": "Device 'abacus' cannot be used",
    "RECIPE --model.querys.num_queries 3": "has no option 'querys'",
    "PT2 --modle.x=3": "no recipe is given",
    "RECIPE@onyx": "There is no form 'onyx' of recipe.yaml. Did you mean 'onnx'?",
    "RECIPE@onnx:fp8": "There is no precision 'fp8'",
    "RECIPE@onnx:int8": "Format onnx does not come in int8",
    "RECIPE@strips:few": "names no number of patches; write @strips:256",
    "PT2@pruned": "is an exported file already; '@pruned' changes runs and recipes",
    "PT2 --size 64 64": "exported for 32×64 and cannot take 64×64",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_sentence(words, request, tmp_path, monkeypatch, capsys):
    """Whatever is wrong is told in one line, with exit code 2, before anything is timed."""
    if words.startswith("hf:eomt_small"):
        pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    line = ["benchmark", "--rounds", "1", *words.split()]
    if "--size" not in words:
        line += ["--size", "32", "64"]
    paths = {"RECIPE": "recipe_path", "PT2": "exported"}
    for index, (source, rest) in enumerate([*re.split("(?=[@/])", word, maxsplit=1), ""][:2] for word in line):
        if source in paths:
            line[index] = f"{request.getfixturevalue(paths[source])}{rest}"
    assert main(line) == 2
    error = capsys.readouterr().err
    assert BAD[words] in error
    assert error.count("\n") == 1


def test_missing_extra(monkeypatch, capsys):
    """Without transformers the sentence names the extra."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["benchmark", "hf:eomt"]) == 2
    assert "pip install 'queryseg[benchmark]'" in capsys.readouterr().err


def test_readme_names_every_built_in_candidate():
    """The section of the README lists what the catalogue knows."""
    text = (Path(__file__).parents[2] / "README.md").read_text()
    for word in ("bare", "ladder", "hf:eomt", "hf:mask2former", "hf:segformer_b0", "timm:nextvit_small"):
        assert word in text


def test_failure_of_a_model_is_one_sentence(recipe_path, monkeypatch):
    """What torch raises at the first run, such as lack of memory, names the candidate and the size."""
    candidate = find_candidates([str(recipe_path)], Options((32, 64), "cpu"))[0]

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    monkeypatch.setattr(candidate.predictor.engine, "forward", fail)
    with pytest.raises(ValueError, match=r"recipe\.yaml fails at 32×64, batch 1 \(OutOfMemoryError"):
        benchmark([candidate], Workload((32, 64)), Settings(rounds=1))
