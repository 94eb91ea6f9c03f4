"""What takes longer than a moment is told so, once, and never what was over before."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tport.engine.net.moments import LOOK, MOMENT, Moments


class Momentary:
    def __init__(self, *, fails: bool = False) -> None:
        self.late_at: list[float] = []
        self._fails = fails

    def late(self) -> None:
        self.late_at.append(trio.current_time())
        if self._fails:
            raise RuntimeError("a bug, put there by a test")


@pytest.fixture
def moments(nursery: trio.Nursery) -> Moments:
    made = Moments()
    nursery.start_soon(made.keep)
    return made


async def test_what_is_not_over_within_a_moment_is_late_once(
    autojump_clock: MockClock, moments: Moments
) -> None:
    await trio.sleep(LOOK / 2)
    slow, quick = Momentary(), Momentary()
    moments.add(slow)
    moments.add(quick)
    added = trio.current_time()
    await trio.sleep(LOOK)
    moments.discard(quick)
    await trio.sleep(5 * MOMENT)

    assert quick.late_at == []
    [late] = slow.late_at
    assert LOOK <= late - added <= MOMENT
    assert len(moments) == 0


async def test_a_bug_of_one_keeps_no_other_from_being_told(
    autojump_clock: MockClock, moments: Moments, caplog: pytest.LogCaptureFixture
) -> None:
    all_of_them = [Momentary(fails=number % 2 == 0) for number in range(10)]
    for this in all_of_them:
        moments.add(this)
    await trio.sleep(MOMENT + 1)
    further = Momentary()
    moments.add(further)
    await trio.sleep(MOMENT + 1)

    assert [len(this.late_at) for this in (*all_of_them, further)] == [1] * 11
    assert "a bug, put there by a test" in caplog.text
