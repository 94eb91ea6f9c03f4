"""Whoever asks for workers' figures is answered in time, whatever a worker does."""

from __future__ import annotations

from typing import cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tport.engine.metrics.sample import Report, one
from tport.engine.workers import measuring
from tport.engine.workers.channel import Channel
from tport.engine.workers.measuring import SAMPLES, WorkerFigures, WorkersFigures
from tport.engine.workers.messages import Measured, Message

PROBE = 1.0  # s after which Kubernetes gives up, unless it is told otherwise


class Stuck:
    """To a worker whose loop stands still."""

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_probe_is_answered_in_time_though_a_worker_is_stuck_and_others_probe_too(
    autojump_clock: MockClock,
) -> None:
    """The others serve: no balancer may take that for silence of all."""
    figures = WorkersFigures()
    asked = [(WorkerFigures("worker-1"), cast("Channel", Stuck()))]
    waited: list[float] = []

    async def probe() -> None:
        began = trio.current_time()
        told = await figures.ask(asked)
        assert [trouble.degrades for trouble in told["worker-1"].troubles] == [False]
        waited.append(trio.current_time() - began)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(probe)
            await trio.sleep(0.1)

    assert len(waited) == 5
    assert max(waited) < PROBE


async def test_who_waits_for_the_answer_of_one_that_gives_up_asks_anew(
    autojump_clock: MockClock,
) -> None:
    figures = WorkersFigures()
    asked = [(WorkerFigures("worker-1"), cast("Channel", Stuck()))]
    told: list[Report] = []

    async def probe() -> None:
        told.append((await figures.ask(asked))["worker-1"])

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.1):
            async with trio.open_nursery() as first:
                first.start_soon(probe)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(probe)
    [report] = told
    assert report.troubles


async def test_a_worker_that_tells_figures_without_an_end_fills_no_memory(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "MAX_SAMPLES", 2 * SAMPLES)
    figures = WorkerFigures("worker-1")
    await figures.ask(cast("Channel", Stuck()))
    some = tuple(one("tport_shed_total", 1.0, "address") for _ in range(SAMPLES))
    for _ in range(20):
        figures.hear(Measured(1, some, (), is_last=False))

    assert len(figures._coming) <= 3 * SAMPLES
