"""Stages in threads: order, completeness, newest wins, errors, shutdown; events instead of sleeps."""

from __future__ import annotations

import itertools
import threading

import pytest

from queryseg.inference.video.pipeline import RECENT, Durations, Pipeline, Stage


def num_video_threads() -> int:
    return sum(thread.name.startswith("video ") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert num_video_threads() == 0


def test_every_item_arrives_in_order():
    pipeline = Pipeline(range(50), [Stage("add", lambda x: x + 1), Stage("double", lambda x: 2 * x)])
    assert list(pipeline) == [2 * (x + 1) for x in range(50)]
    assert pipeline.dropped == 0
    assert [(times.name, times.working.count) for times in pipeline.times] == [
        ("decode", 50),
        ("add", 50),
        ("double", 50),
    ]


def test_stages_work_at_the_same_time():
    """Both stages wait for each other with different items; one after the other they never would meet."""
    meeting = threading.Barrier(2, timeout=5)

    def meet(place):
        def work(item):
            if item + place == 2:  # item 2 is in stage 0 while item 1 is in stage 1
                meeting.wait()
            return item

        return work

    assert list(Pipeline(range(4), [Stage("a", meet(0)), Stage("b", meet(1))])) == [0, 1, 2, 3]


def test_newest_wins():
    """While the model holds frame 0 the source gives all 100: the next frame it sees is the last one that waits."""
    given, holds = threading.Event(), threading.Event()

    def source():
        yield 0
        assert holds.wait(5)
        yield from range(1, 100)
        given.set()

    def slow(item):
        if item == 0:
            holds.set()
            assert given.wait(5)
        return item

    pipeline = Pipeline(source(), [Stage("infer", slow, newest_only=True)], queue_size=4, drop_late=True)
    assert list(pipeline) == [0, 99]
    assert pipeline.dropped == 98


def test_bounded_without_dropping():
    """A stopped model stops the source after as many frames as queues and stages can hold."""
    given, go = [], threading.Event()
    full = threading.Event()

    def source():
        for item in range(20):
            given.append(item)
            if len(given) == 4:  # 1 in the model, 2 in the queue, 1 in the source's hands
                full.set()
            yield item

    def stuck(item):
        assert go.wait(5)
        return item

    pipeline = Pipeline(source(), [Stage("infer", stuck)], queue_size=2)
    frames = iter(pipeline)
    first = threading.Thread(target=next, args=(frames,), daemon=True)
    first.start()
    assert full.wait(5)
    assert not first.join(0.05)
    assert len(given) == 4
    assert pipeline.num_waiting <= 2
    go.set()
    first.join(5)
    assert len(list(frames)) == 19


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_comes_after_what_was_before_it(place):
    """Source, middle or last stage: items 0…4 arrive, then the error, and every thread ends."""

    def broken(here):
        def work(item):
            if here == place and item == 5:
                raise ValueError(f"stage {here} broke")
            return item

        return work

    source = (broken(0)(item) for item in itertools.count())
    arrived = []
    with pytest.raises(ValueError, match=f"stage {place} broke"):
        arrived.extend(Pipeline(source, [Stage("a", broken(1)), Stage("b", broken(2))]))
    assert arrived == [0, 1, 2, 3, 4]


def test_leaving_early_ends_an_endless_source():
    with Pipeline(itertools.count(), [Stage("a", lambda x: x)]) as pipeline:
        assert next(iter(pipeline)) == 0


def test_a_hanging_stage_is_named():
    go, hangs = threading.Event(), threading.Event()

    def hang(item):
        hangs.set()
        go.wait(10)
        return item

    pipeline = Pipeline(range(3), [Stage("draw", hang)])
    reader = threading.Thread(target=lambda: list(pipeline), daemon=True)
    reader.start()
    assert hangs.wait(5)
    with pytest.raises(RuntimeError, match="video draw"):
        pipeline.close(timeout=0.05)
    go.set()
    reader.join(5)


def test_waiting_for_a_camera_is_no_work():
    """The clock ticks once per look; a source that says it waited 0.75 s of a second worked for 0.25 s."""

    class Camera:
        waited = 0.0

        def __iter__(self):
            for item in range(3):
                self.waited += 0.75
                yield item

    ticks = itertools.count()
    pipeline = Pipeline(Camera(), [], clock=lambda: float(next(ticks)))
    assert list(pipeline) == [0, 1, 2]
    assert pipeline.times[0].working.mean == pytest.approx(0.25)
    assert pipeline.times[0].starved == pytest.approx(2.25)


def test_durations_stay_small():
    durations = Durations()
    for value in range(RECENT + 1000):
        durations.add(float(value))
    assert len(durations.recent) == RECENT
    assert durations.count == RECENT + 1000
    assert durations.mean == (RECENT + 999) / 2
    assert durations.largest == RECENT + 999
    assert durations.percentile(0) == 1000
