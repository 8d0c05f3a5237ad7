"""Tasks in turns."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import pairwise

import pytest

from queryseg.benchmarking.rounds import has_settled, take_turns


def _tasks(log, durations):
    def task(name):
        def run():
            log.append((name, gc.isenabled()))
            return {"part": durations[name].pop(0) if durations[name] else 1.0}

        return run

    return [task(name) for name in durations]


def test_every_round_has_every_task_once_in_an_order_of_its_own():
    """40 rounds of 4 tasks: each round is a permutation, followers change, no garbage is collected inside a round, and
    the times come back in the rounds' order."""
    log: list[tuple[str, bool]] = []
    durations = {name: [float(i) for i in range(40)] for name in "abcd"}
    found = take_turns(_tasks(log, durations), 40, 0)
    names = [name for name, _ in log]
    rounds = ["".join(names[i : i + 4]) for i in range(0, 160, 4)]
    assert all(sorted(one) == list("abcd") for one in rounds)
    followers = Counter(pair for one in rounds for pair in pairwise(one))
    assert len(followers) == 12, "every ordered pair occurs"
    assert max(followers.values()) <= 25
    assert not any(enabled for _, enabled in log)
    assert gc.isenabled()
    assert found.warmup == 0
    assert found.settled
    for seconds in found.seconds:
        assert seconds["part"] == [float(i) for i in range(40)]


def test_warm_up_lasts_until_times_have_settled():
    """One task needs 7 rounds until it stops getting faster: 2 rounds were asked for, more are taken, none counts."""
    falling = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]
    durations = {"slow": [*falling, *[3.0] * 20], "steady": [1.0] * 30}
    found = take_turns(_tasks([], durations), 5, 2)
    assert found.warmup == 8, "four times as many at most"
    assert found.seconds[0]["part"] == [3.0] * 5
    durations = {"steady": [1.0] * 30}
    early = take_turns(_tasks([], durations), 5, 3)
    assert (early.warmup, early.settled) == (3, True)
    never = take_turns(_tasks([], {"falling": [2.0**-i for i in range(40)]}), 1, 2)
    assert (never.warmup, never.settled) == (8, False)


def test_has_settled():
    """5 % faster than ever before is still settling."""
    assert has_settled([2.0, 1.0, 1.0, 0.96], 2)
    assert not has_settled([2.0, 1.0, 1.0, 0.94], 2)
    assert not has_settled([1.0, 1.0], 2), "nothing to compare with"


@pytest.mark.parametrize("warmup", [0, 3])
def test_progress_reaches_its_end(warmup):
    """(done, total) rises by one and ends with done = total, whether warm-up ends early or not."""
    seen: list[tuple[int, int]] = []
    take_turns(_tasks([], {"a": [], "b": []}), 4, warmup, lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, 2 * (4 + warmup) + 1))
    assert seen[-1] == (2 * (4 + warmup),) * 2


def test_interruption_restores_the_collector():
    """A task that fails leaves Python's garbage collector as it was."""

    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        take_turns([fail], 1, 0)
    assert gc.isenabled()
