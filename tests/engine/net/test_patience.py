"""What takes too long is told so in its time, by one task for all."""

from __future__ import annotations

import time

import pytest
import trio
from trio.testing import MockClock

from tport.engine.net.patience import patience


class Timed:
    def __init__(self, *, fails: bool = False) -> None:
        self.late_at: list[float] = []
        self._fails = fails

    def late(self) -> None:
        self.late_at.append(trio.current_time())
        if self._fails:
            raise RuntimeError("a bug, put there by a test")


async def test_each_is_late_when_its_time_is_over_and_once(autojump_clock: MockClock) -> None:
    long, short = patience(60), patience(5)
    first, second, third, ended = Timed(), Timed(), Timed(), Timed()
    long.begin(first)
    await trio.sleep(1)
    short.begin(second)  # sooner than what is slept for
    short.begin(ended)
    await trio.sleep(2)
    short.begin(third)
    short.end(ended)
    await trio.sleep(100)

    assert [this.late_at for this in (first, second, third, ended)] == [[60], [6], [8], []]
    assert len(long) == len(short) == 0


async def test_who_begins_anew_has_all_of_its_time_again(autojump_clock: MockClock) -> None:
    line, moved, other = patience(10), Timed(), Timed()
    line.begin(moved)
    line.begin(other)
    await trio.sleep(9)
    line.begin(moved)
    await trio.sleep(30)

    assert (other.late_at, moved.late_at) == ([10], [19])


async def test_who_is_late_may_begin_again(autojump_clock: MockClock) -> None:
    line = patience(10)

    class Again(Timed):
        def late(self) -> None:
            super().late()
            if len(self.late_at) < 3:
                line.begin(self)

    again = Again()
    line.begin(again)
    await trio.sleep(100)

    assert again.late_at == [10, 20, 30]


async def test_a_bug_of_one_keeps_no_other_from_being_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    line = patience(10)
    all_of_them = [Timed(fails=number % 2 == 0) for number in range(10)]
    for this in all_of_them:
        line.begin(this)
    await trio.sleep(11)

    assert [this.late_at for this in all_of_them] == [[10]] * 10
    assert "a bug, put there by a test" in caplog.text


async def test_of_those_late_at_once_one_may_end_or_begin_another(
    autojump_clock: MockClock,
) -> None:
    line = patience(10)
    ended, again = Timed(), Timed()

    class Busy(Timed):
        def late(self) -> None:
            super().late()
            line.end(ended)
            line.begin(again)

    busy = Busy()
    for this in (busy, ended, again):
        line.begin(this)
    await trio.sleep(100)

    assert (busy.late_at, ended.late_at, again.late_at) == ([10], [], [20])
    assert len(line) == 0


async def test_a_hundred_thousand_that_are_late_at_once_are_told_without_a_stall(
    autojump_clock: MockClock,
) -> None:
    """To find the first of them anew each time took 3 s and more for so many."""
    line = patience(10)
    crowd = [Timed() for _ in range(100_000)]
    for each in crowd:
        line.begin(each)
    began = time.process_time()
    await trio.sleep(11)

    assert all(each.late_at for each in crowd)
    assert time.process_time() - began < 1
