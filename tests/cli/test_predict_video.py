"""`queryseg predict` on a video, as a user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

av = pytest.importorskip("av", reason="needs the extra 'video'")

import queryseg  # noqa: E402
from queryseg.cli.main import main  # noqa: E402
from queryseg.cli.predict_video import seconds  # noqa: E402
from queryseg.inference.run_folder import write_model, write_recipe  # noqa: E402
from queryseg.inference.video.video_writer import VideoWriter  # noqa: E402
from queryseg.recipe_file import build_untrained, read_recipe, resolve  # noqa: E402


@pytest.fixture
def run(tmp_path: Path, recipe_path: Path) -> Path:
    """A run as training leaves it, with random weights."""
    resolved, folder = resolve(read_recipe(recipe_path)), tmp_path / "run"
    folder.mkdir()
    write_recipe(folder, resolved)
    write_model(folder, build_untrained(resolved).state_dict())
    return folder


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """10 frames of 33×47, 25 per second."""
    path, draw = tmp_path / "drive.mp4", np.random.default_rng(0)
    with VideoWriter(path, 25, codec="mpeg4") as writer:
        for index in range(10):
            cells = draw.integers(0, 256, (4, 6, 3), dtype=np.uint8)
            writer.write(cells.repeat(10, 0).repeat(10, 1), index / 25)
    return path


def test_overlay_labels_and_figures(run, video, tmp_path, capsys):
    """Ten frames in, ten out, at the same times; the labels are those of the Python twin."""
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    options = ["--save", "both", "--deadline", "60s", "--device", "cpu", "--codec", "mpeg4", "--json", str(figures)]
    assert main(["predict", str(run), str(video), "--out", str(out), *options]) == 0
    told = capsys.readouterr().out
    assert "10 frames segmented, 0 dropped, 0 later than 60000 ms" in told
    assert "× the slowest stage" in told

    with av.open(str(out / "drive_labels.mkv")) as container:
        labels = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    with av.open(str(out / "drive_overlay.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([index / 25 for index in range(10)], abs=1e-4)
    expected = queryseg.load(run, device="cpu").predict_video(video)
    assert np.array_equal(np.stack(labels), np.stack([frame.segmentation.labels for frame in expected]))

    content = json.loads(figures.read_text())
    assert (content["frames"], content["dropped"], content["missed_deadlines"], content["read"]) == (10, 0, 0, 10)
    assert list(content["stages_ms"]) == [
        "decode",
        "prepare",
        "infer",
        "enlarge",
        "result",
        "encode labels",
        "draw",
        "encode",
    ]
    assert set(content["files"]) == {"overlay", "labels"}
    assert content["latency_ms"]["p50"] <= content["latency_ms"]["p99"] <= content["latency_ms"]["max"]


def test_the_overlay_mixes_image_and_colors(run, video, tmp_path):
    """Frame 0: half its pixels plus half the colours of its labels, but for the codec's loss (mean below 6 of 255)."""
    from queryseg.data.drawing import overlay

    predictor = queryseg.load(run, device="cpu")
    with predictor.predict_video(video) as frames:
        first = next(frames).segmentation
    assert main(["predict", str(run), str(video), "--out", str(tmp_path), "--device", "cpu", "--codec", "mpeg4"]) == 0
    with av.open(str(tmp_path / "drive_overlay.mp4")) as container:
        drawn = next(container.decode(video=0)).to_ndarray(format="rgb24")
    expected = overlay(first.image, first.labels, predictor.classes).astype(int)
    assert np.abs(drawn - expected).mean() < 6


def test_max_frames_smooth_and_threads(run, video, tmp_path, capsys):
    before = torch.get_num_threads()
    options = ["--max-frames", "4", "--smooth", "0.5", "--threads", "1", "--device", "cpu", "--save", "labels"]
    try:
        assert main(["predict", str(run), str(video), "--out", str(tmp_path / "out"), *options]) == 0
    finally:
        torch.set_num_threads(before)
    assert "4 frames segmented" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drive_labels.mkv"]


def test_a_cut_file_says_so(run, video, tmp_path, capsys):
    """What can be read is written, and the summary tells how many frames are missing."""
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    assert main(["predict", str(run), str(video), "--out", str(tmp_path / "out"), "--device", "cpu"]) in (0, 2)
    streams = capsys.readouterr()
    assert "it may be cut off" in streams.out or "is damaged after frame" in streams.err


def test_ctrl_c_leaves_a_playable_file(run, video, tmp_path, monkeypatch, capsys):
    """The interrupt comes while the fourth result is awaited; exit code 130, and at least three frames play."""
    from queryseg.inference.video.video_prediction import VideoPrediction

    original, calls = VideoPrediction.__next__, []

    def interrupted(self):
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(VideoPrediction, "__next__", interrupted)
    options = ["--device", "cpu", "--codec", "mpeg4"]
    assert main(["predict", str(run), str(video), "--out", str(tmp_path / "out"), *options]) == 130
    assert "stopped after 3 frames" in capsys.readouterr().err
    with av.open(str(tmp_path / "out" / "drive_overlay.mp4")) as container:
        assert len(list(container.decode(video=0))) >= 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["drive.mp4", "--deadline", "33"], "write 33ms or 0.5s"),
        (["drive.mp4", "--deadline", "0ms"], "write 33ms or 0.5s"),
        (["drive.mp4", "--smooth", "1"], "below 1"),
        (["drive.mp4", "--threads", "0"], "at least 1"),
        (["drive.mp4", "--max-frames", "0"], "at least 1"),
        (["drive.mp4", "--codec", "none"], "no video encoder 'none'"),
        (["none.mp4"], "No such file"),
        (["a.png", "--deadline", "33ms"], "--deadline is for video"),
    ],
)
def test_wrong_command_lines_are_one_sentence(arguments, sentence, run, video, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("a.png")
    assert main(["predict", str(run), *arguments, "--out", "out", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_missing_av_names_the_extra(run, video, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    assert main(["predict", str(run), str(video), "--out", str(tmp_path)]) == 2
    assert "pip install 'queryseg[video]'" in capsys.readouterr().err


def test_times():
    assert (seconds("33ms"), seconds("0.5s")) == (0.033, 0.5)
