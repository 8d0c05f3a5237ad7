"""Files, cameras and streams: what is read, and what is said when it cannot be."""

from __future__ import annotations

import sys

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra 'video'")

from queryseg.errors import InputError  # noqa: E402
from queryseg.inference.video import video_source  # noqa: E402
from queryseg.inference.video.frame_source import ArraySource, is_video  # noqa: E402
from queryseg.inference.video.video_source import VideoSource  # noqa: E402
from queryseg.inference.video.video_writer import VideoWriter  # noqa: E402


def test_every_frame_in_order(video):
    source = VideoSource(video)
    frames = list(source)
    assert (source.num_frames, source.rate, source.live) == (12, 25, False)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(12)], abs=1e-4)
    for index, frame in enumerate(frames):
        assert frame.pixels.shape == (48, 64, 3)
        assert abs(int(frame.pixels[20, 30, 1]) - (20 + 10 * index)) <= 3


def test_max_frames(video):
    source = VideoSource(video, max_frames=5)
    assert source.num_frames == 5
    assert len(list(source)) == 5
    with pytest.raises(InputError, match="at least 1"):
        VideoSource(video, max_frames=0)


def test_a_paced_file_is_live_and_takes_its_time(video):
    """12 frames of 25 per second: the last one comes 11/25 s after the first, however fast the machine."""
    source = VideoSource(video, paced=True)
    frames = list(source)
    assert source.live
    assert frames[-1].captured - frames[0].captured >= 11 / 25 - 0.05
    assert source.waited > 0


def test_damage_in_the_middle(tmp_path):
    """A hole of zeros. What the decoder conceals is counted; what it cannot is an error that tells the place."""
    draw = np.random.default_rng(0)
    path = tmp_path / "hole.mp4"
    with VideoWriter(path, 5, codec="mpeg4") as writer:
        for index in range(30):
            cells = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            writer.write(cells.repeat(8, 0).repeat(8, 1), index / 5)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(300) + whole[middle + 300 :])
    source = VideoSource(path)
    assert len(list(source)) == 30
    assert source.num_damaged >= 1


def test_damage_that_cannot_be_concealed_is_told_with_its_place(video, monkeypatch):
    """The third packet is refused by the decoder: the two frames before it are seen, a live source goes on."""
    source = VideoSource(video)
    packets, decode = [], source._decode

    def refuse(packet):
        packets.append(packet)
        if len(packets) == 3:
            raise av.error.InvalidDataError(1094995529, "Invalid data")
        return decode(packet)

    monkeypatch.setattr(source, "_decode", refuse)
    seen = []
    with pytest.raises(InputError, match=r"street.mp4' is damaged after frame \d+ \(Invalid data\)"):
        seen.extend(source)
    assert len(seen) <= 2

    packets.clear()
    stream = VideoSource(video)
    stream._reopens = True
    monkeypatch.setattr(stream, "_decode", refuse)
    monkeypatch.setattr(stream, "_reopen", lambda *_: stream.stop())
    assert len(list(stream)) >= 10
    assert stream.num_damaged >= 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.mp4", "No such file"),
        ("text.mp4", "Invalid data"),
        ("camera:77", "camera is connected"),
        ("camera:", "camera:0"),
        ("rtsp://me:secret@127.0.0.1:9/live", "rtsp://127.0.0.1:9/live' cannot be opened"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence(name, sentence, tmp_path, monkeypatch):
    """A password in an address is not repeated."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video" * 100)
    with pytest.raises(InputError, match=sentence) as error:
        VideoSource(name)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_stream_that_breaks_off_is_opened_again(video, monkeypatch):
    """The "stream" is the file, twice; then it is gone. Indices and times go on, the end is one sentence."""
    opened, waits = [], []
    really_open = av.open

    def open_stream(address, **options):
        opened.append(address)
        if len(opened) > 2:
            raise av.error.ConnectionRefusedError(111, "Connection refused")
        return really_open(str(video))

    monkeypatch.setattr(av, "open", open_stream)
    source = VideoSource("rtsp://host/live")
    monkeypatch.setattr(source, "_wait", waits.append)
    seen = []
    with pytest.raises(InputError, match="broke off after frame 24 and did not come back in 5 attempts"):
        seen.extend(source)
    assert source.live
    assert [frame.index for frame in seen] == list(range(24))
    assert np.all(np.diff([frame.time for frame in seen]) > 0.039)
    assert waits == [1, 1, 2, 4, 8, 16]
    assert len(opened) == 2 + video_source.ATTEMPTS


def test_missing_av_names_the_extra(monkeypatch, video):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"pip install 'queryseg\[video\]'"):
        VideoSource(video)


def test_arrays():
    source = ArraySource([np.zeros((4, 6, 3), np.uint8)] * 3, rate=10, max_frames=2)
    assert source.num_frames == 2
    assert [(frame.index, frame.time) for frame in source] == [(0, 0.0), (1, 0.1)]
    with pytest.raises(InputError, match=r"Frame 1 is given as \(4, 6\) of uint8"):
        list(ArraySource([np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)]))
    with pytest.raises(InputError, match="above 0"):
        ArraySource([], rate=0)


def test_names_of_videos():
    assert all(map(is_video, ("a.MP4", "camera:0", "rtsp://host/x", "b/c.mkv")))
    assert not any(map(is_video, ("frames", "a.png", "frames/*.jpg")))
