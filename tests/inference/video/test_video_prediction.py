"""A model watches a video: the same labels as for pictures, deadlines, drops, smoothing, clean ends."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from queryseg.data.protocol import Protocol
from queryseg.errors import InputError
from queryseg.inference.video import video_prediction
from queryseg.inference.video.frame_source import ArraySource
from queryseg.inference.video.pipeline import Stage
from queryseg.inference.video.video_prediction import VideoPrediction

NOISE = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8) for i in range(6)]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("video ")]


def test_labels_are_those_of_predict(predictor):
    frames = list(predictor.predict_video(NOISE))
    assert [frame.index for frame in frames] == list(range(6))
    for frame, pixels in zip(frames, NOISE, strict=True):
        assert np.array_equal(frame.segmentation.labels, predictor.predict(pixels).labels)
        assert np.array_equal(frame.segmentation.image, pixels)


@pytest.mark.parametrize("protocol", [Protocol(short_side=32), Protocol(short_side=40, window=32, stride=16)], ids=str)
def test_labels_are_those_of_predict_under_a_protocol(predictor, protocol):
    predictor.protocol = protocol
    frame = next(predictor.predict_video(NOISE[:1]))
    assert np.array_equal(frame.segmentation.labels, predictor.predict(NOISE[0]).labels)


def test_a_file_is_a_source(predictor, video):
    prediction = predictor.predict_video(video, max_frames=7)
    assert not prediction.drop_late
    assert [frame.index for frame in prediction] == list(range(7))
    statistics = prediction.statistics
    assert (statistics.frames, statistics.dropped, statistics.missed) == (7, 0, 0)
    assert [stage.name for stage in statistics.stages] == ["decode", "prepare", "infer", "enlarge", "result"]
    assert 0 < statistics.over_sum < statistics.over_slowest


def test_smoothing_is_the_average_of_scores(predictor):
    """w = 0.5 over two alike pictures; the first frame alone decides the first labels. An image that differs by less
    than a cut keeps part of the past: labels follow the mean of both scores."""
    first = NOISE[0]
    second = np.clip(first.astype(int) + 20, 0, 255).astype(np.uint8)
    scores = [predictor.predict(pixels, scores=True).scores for pixels in (first, second)]
    found = [frame.segmentation.labels for frame in predictor.predict_video([first, second], smooth=0.5)]
    assert np.array_equal(found[0], scores[0].argmax(0))
    assert np.array_equal(found[1], ((scores[0] + scores[1]) / 2).argmax(0))


def test_deadlines_are_counted(predictor, monkeypatch):
    """Latencies 0.25, 0.5, 0.75 s by a clock that only the model moves; a deadline of 0.5 s is missed once."""
    now, slow, turns = [0.0], iter((0.25, 0.5, 0.75)), threading.Semaphore(1)
    find = video_prediction.find

    def frames():
        for pixels in NOISE[:3]:
            assert turns.acquire(timeout=5)  # a frame arrives when the one before is out
            yield pixels

    def model(*arguments):
        now[0] += next(slow)
        return find(*arguments)

    monkeypatch.setattr(video_prediction, "find", model)
    latencies = []
    prediction = VideoPrediction(predictor, frames(), deadline=0.5, clock=lambda: now[0])
    for frame in prediction:
        latencies.append(frame.latency)
        turns.release()
    assert latencies == [0.25, 0.5, 0.75]
    assert prediction.statistics.missed == 1


def test_a_live_source_drops_what_comes_too_fast(predictor):
    """The caller's stage holds the first result until 60 further frames have come: of them the newest few are seen, in
    order, and every frame is either segmented or dropped."""
    held, come = threading.Event(), threading.Event()

    def frames():
        for index in itertools.count():
            if index == 1:
                assert held.wait(5)
            if index == 60:
                come.set()
                return
            yield NOISE[index % 6]

    def hold(frame):
        if frame.index == 0:
            held.set()
            assert come.wait(5)
        return frame

    prediction = VideoPrediction(predictor, ArraySource(frames(), live=True), then=[Stage("hold", hold)])
    indices = [frame.index for frame in prediction]
    assert prediction.drop_late
    assert indices == sorted(set(indices))
    assert indices[0] == 0
    assert indices[-1] == 59
    assert len(indices) <= 8
    assert prediction.statistics.dropped == 60 - len(indices)


def test_an_error_of_a_stage_surfaces_after_the_frames_before_it(predictor):
    def full(frame):
        if frame.index == 3:
            raise InputError("The disk is full.")
        return frame

    seen = []
    with pytest.raises(InputError, match="The disk is full"):
        seen.extend(VideoPrediction(predictor, itertools.cycle(NOISE), then=[Stage("encode", full)]))
    assert [frame.index for frame in seen] == [0, 1, 2]


def test_leaving_the_loop_ends_the_threads(predictor):
    with predictor.predict_video(itertools.cycle(NOISE)) as prediction:
        for frame in prediction:
            if frame.index == 2:
                break


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"deadline": 0.0}, "above 0"), ({"smooth": 1.0}, "below 1"), ({"max_frames": 0}, "at least")],
)
def test_wrong_options_are_one_sentence(predictor, options, sentence):
    with pytest.raises(InputError, match=sentence):
        predictor.predict_video(NOISE, **options)
