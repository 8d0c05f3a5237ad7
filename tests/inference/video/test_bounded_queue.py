"""The queue between two stages: its bound, its order, its ends."""

from __future__ import annotations

import threading

import pytest

from queryseg.inference.video.bounded_queue import Aborted, BoundedQueue, Ended


def test_newest_only_keeps_the_newest_and_counts_the_rest():
    queue = BoundedQueue[int](2, newest_only=True)
    for item in range(7):
        queue.put(item)
        assert len(queue) <= 2
    assert queue.dropped == 5
    assert [queue.get(), queue.get()] == [5, 6]


def test_a_full_queue_waits_for_room():
    queue = BoundedQueue[int](1)
    queue.put(0)
    done = threading.Event()
    giver = threading.Thread(target=lambda: (queue.put(1), done.set()), daemon=True)
    giver.start()
    assert not done.wait(0.05)
    assert queue.get() == 0
    assert done.wait(5)
    assert queue.get() == 1
    assert queue.dropped == 0


def test_what_waits_is_handed_out_before_the_error():
    queue, error = BoundedQueue[int](3), ValueError("broken")
    queue.put(0)
    queue.put(1)
    queue.close(error)
    assert [queue.get(), queue.get()] == [0, 1]
    with pytest.raises(Ended) as end:
        queue.get()
    assert end.value.error is error


def test_abort_wakes_both_sides():
    """A thread in `put` and a thread in `get` end; without the wake-up they would wait for ever."""
    full, empty = BoundedQueue[int](1), BoundedQueue[int](1)
    full.put(0)
    woken = []

    def expect(call):
        try:
            call()
        except Aborted:
            woken.append(True)

    threads = [threading.Thread(target=expect, args=(call,), daemon=True) for call in (lambda: full.put(1), empty.get)]
    for thread in threads:
        thread.start()
    full.abort()
    empty.abort()
    for thread in threads:
        thread.join(5)
    assert woken == [True, True]
