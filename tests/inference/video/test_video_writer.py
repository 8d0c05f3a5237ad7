"""What is written is read back: pictures, labels, times, odd sizes, broken off files."""

from __future__ import annotations

import resource
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra 'video'")

from queryseg.errors import InputError  # noqa: E402
from queryseg.inference.video.video_source import VideoSource  # noqa: E402
from queryseg.inference.video.video_writer import PICTURE_CODECS, VideoWriter  # noqa: E402

LABELS = np.random.default_rng(0).integers(0, 19, (5, 33, 47), dtype=np.uint8)


@pytest.mark.parametrize("codec", PICTURE_CODECS)
def test_pictures_come_back(codec, tmp_path):
    """Colours within 12 of 255 (lossy), odd sizes with the last row and column doubled, times of 29.97 Hz to 20 µs."""
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this FFmpeg has no {codec}")
    colors = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128)]
    path, rate = tmp_path / "out.mp4", Fraction(30000, 1001)
    with VideoWriter(path, rate, codec=codec) as writer:
        for index, color in enumerate(colors):
            writer.write(np.full((33, 47, 3), color, np.uint8), float(index / rate))
    source = VideoSource(path)
    frames = list(source)
    assert source.rate == rate
    assert source.num_frames == 4
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.time for frame in frames] == pytest.approx([float(i / rate) for i in range(4)], abs=2e-5)
    for frame, color in zip(frames, colors, strict=True):
        assert frame.pixels.shape == (34, 48, 3)
        assert np.abs(frame.pixels.astype(int) - color).max() <= 12


def test_labels_come_back_exactly(tmp_path):
    """Times are those of the source, not of a regular rate; Matroska rounds to 1 ms."""
    path, times = tmp_path / "labels.mkv", [0.0, 0.04, 0.08, 0.52, 0.56]
    with VideoWriter(path, 25, "labels") as writer:
        for labels, time in zip(LABELS, times, strict=True):
            writer.write(labels, time)
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]
    assert np.array_equal(np.stack([labels for _, labels in frames]), LABELS)
    assert [time for time, _ in frames] == pytest.approx(times, abs=1e-3)


def test_another_size_is_scaled_to_the_first(tmp_path):
    """Labels keep their values: no class appears that was not there."""
    path = tmp_path / "labels.mkv"
    with VideoWriter(path, 25, "labels") as writer:
        writer.write(np.zeros((16, 16), np.uint8), 0)
        writer.write(np.kron(np.array([[0, 18], [18, 0]], np.uint8), np.ones((16, 16), np.uint8)), 0.04)
    with av.open(str(path)) as container:
        last = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)][-1]
    assert last.shape == (16, 16)
    assert np.array_equal(last, np.kron(np.array([[0, 18], [18, 0]], np.uint8), np.ones((8, 8), np.uint8)))


def test_a_full_disk_is_one_sentence_and_what_was_written_plays(tmp_path):
    """A limit on the file's size stands for the disk; noise, so that the file grows."""
    draw, path = np.random.default_rng(0), tmp_path / "out.mp4"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = VideoWriter(path, 5, codec="mpeg4")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"out.mp4' cannot be written \(File too large\)"):  # noqa: SIM117, PT012
            with writer:
                for index in range(200):
                    writer.write(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8), index / 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert index < 199
    with av.open(str(path)) as container:
        played = []
        try:
            for frame in container.decode(video=0):
                played.append(frame.pts)
        except av.FFmpegError:  # the last fragment is cut
            pass
    assert len(played) >= 20


def test_wrong_use_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="no video encoder 'h265x'"):
        VideoWriter(tmp_path / "a.mp4", codec="h265x")
    with pytest.raises(InputError, match=r"\.mkv"):
        VideoWriter(tmp_path / "a.mp4", content="labels")
    with pytest.raises(InputError, match="cannot be written"), VideoWriter(tmp_path / "none" / "a.mp4") as writer:
        writer.write(np.zeros((16, 16, 3), np.uint8), 0)
