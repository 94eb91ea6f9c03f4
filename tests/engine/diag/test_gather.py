"""What parts and processes tell is one answer, and comes though one of them can't answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import trio
from trio.testing import MockClock

from tport.engine.diag.figures import LOOKS, LoopLag, ProcessFigures
from tport.engine.diag.gather import Gathering
from tport.engine.diag.stalls import Stalls
from tport.engine.errors import Unavailable
from tport.engine.metrics.board import Board
from tport.engine.metrics.sample import Report, Sample, Trouble, one


async def three() -> Iterable[Sample]:
    return [one("tport_tunnels", 3)]


def gathering(board: Board) -> Gathering:
    made = Gathering(board)
    made.serves = True
    return made


async def test_a_process_that_starts_or_stops_is_not_ready_and_says_so() -> None:
    stops = False
    made = Gathering(Board())
    made.stops = lambda: stops

    assert [each.why.partition(":")[0] for each in await made.troubles()] == ["starting"]
    assert "process_state 3" in await made.metrics()
    made.serves = True
    assert await made.troubles() == ()
    assert "process_state 0" in await made.metrics()
    stops = True
    assert [each.why.partition(":")[0] for each in await made.troubles()] == ["stopping"]
    assert "process_state 2" in await made.metrics()


async def test_a_part_that_cannot_tell_costs_its_own_figures_and_is_named() -> None:
    async def broken() -> Iterable[Sample]:
        raise Unavailable("storage is full")

    board = Board()
    board.add("storage", broken)
    board.add("proxy", three)

    report = await board.report()

    assert report.samples == (one("tport_tunnels", 3),)
    assert report.troubles == (Trouble("storage", "storage is full"),)


async def test_a_part_that_never_answers_holds_nobody_up(autojump_clock: MockClock) -> None:
    board = Board()

    async def hangs() -> Iterable[Sample]:
        await trio.sleep_forever()

    board.add("storage", hangs)

    assert "process_state 2" in await gathering(board).metrics()
    assert trio.current_time() <= 2


async def test_what_other_processes_tell_is_added_up_and_their_troubles_count() -> None:
    async def others() -> Mapping[str, Report]:
        return {"worker-1": Report((one("tport_tunnels", 4),), (Trouble("proxy", "hm"),))}

    board = Board()
    board.add("proxy", three)
    made = gathering(board)
    made.others = others

    assert "tport_tunnels 7" in await made.metrics()
    assert await made.troubles() == (Trouble("proxy", "hm"),)


async def test_a_blocked_loop_shows_for_a_minute(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    lag = LoopLag()
    nursery.start_soon(lag.keep)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(3.5)  # it was to be looked at after 1
    await trio.testing.wait_all_tasks_blocked()
    assert lag.longest == 2.5
    for _ in range(LOOKS):
        mock_clock.jump(1)
        await trio.testing.wait_all_tasks_blocked()
    assert lag.longest == 0


async def test_a_process_tells_its_memory_and_descriptors() -> None:
    figures = {s.name: s.values[0] for s in await ProcessFigures(LoopLag(), Stalls()).figures()}

    assert figures["process_resident_memory_bytes"] > 1024 * 1024
    assert 0 < figures["process_open_fds"] < figures["process_max_fds"]
