"""A loop that stands still is told of, with the place, and counted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from tport.engine.diag.stalls import Stalls

LOOK = 0.01
STALL = 0.2  # a machine that is busy lets nobody run for some of that


def block(is_told: Callable[[], bool]) -> None:
    """Stand for the bug: what keeps the loop from turning, in real time, until that is told."""
    give_up = time.monotonic() + 60
    while not is_told() and time.monotonic() < give_up:
        time.sleep(0.01)


async def test_who_blocks_the_loop_is_named_while_it_does_and_the_end_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """R-32."""
    stalls = Stalls(look=LOOK, stall=STALL)
    async with stalls.watched():
        block(lambda: bool(caplog.records))
        with trio.move_on_after(60):
            while len(caplog.records) < 2:  # noqa: ASYNC110 - a thread logs it
                await trio.sleep(0.01)

    where, end = (record.getMessage() for record in caplog.records)
    assert stalls.count == 1
    assert "stood still for " in where
    assert where.index(" block < ") < where.index(" test_who_blocks")
    assert "turns again, after " in end
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_a_loop_that_turns_or_waits_is_not_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """For twice as long as one that stands would be told of after."""
    stalls = Stalls(look=LOOK, stall=STALL)
    longest = 0.0
    async with stalls.watched():
        await trio.sleep(2 * STALL)
        began = last = time.monotonic()
        while (now := time.monotonic()) < began + 2 * STALL:
            longest, last = max(longest, now - last), now
            await trio.lowlevel.checkpoint()

    told = [record.getMessage() for record in caplog.records]
    assert (stalls.count, told) == (0, []) or longest > STALL / 2


async def test_a_clock_that_stands_is_no_loop_that_does(mock_clock: MockClock) -> None:
    """Tests move clocks; suspended machines do, too."""
    stalls = Stalls(look=LOOK, stall=10)
    async with stalls.watched():
        await trio.to_thread.run_sync(time.sleep, 5 * LOOK)
        mock_clock.jump(3600)
        await trio.lowlevel.checkpoint()

    assert stalls.count == 0
