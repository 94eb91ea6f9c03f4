"""Audit events reach auth in order; none is lost in silence, and none holds up the others."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from tests.engine.api.scripted import ScriptedAuth
from tport.engine.api import events as events_module
from tport.engine.api.events import BATCH, EventQueue
from tport.engine.defaults import EVENT_QUEUE, FRESH
from tport.engine.errors import AccessDenied, InvalidRequest, OutOfTime, TportError, Unavailable


def sent(auth: ScriptedAuth) -> list[str]:
    return [str(event.fields.get("n", event.type)) for batch in auth.emitted for event in batch]


async def test_events_go_in_order_and_in_batches(nursery: trio.Nursery) -> None:
    auth = ScriptedAuth()
    queue = EventQueue(auth.api)
    for number in range(BATCH + 10):
        queue.put("tunnel.up", n=number)
    nursery.start_soon(queue.keep)
    await queue.wait_sent()

    assert sent(auth) == [str(number) for number in range(BATCH + 10)]
    assert [len(batch) for batch in auth.emitted] == [BATCH, 10]


async def test_while_auth_is_away_events_wait(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    auth = ScriptedAuth()
    auth.failure = Unavailable("down")
    queue = EventQueue(auth.api)
    queue.put("tunnel.up", n=1)
    nursery.start_soon(queue.keep)
    await trio.sleep(30)
    assert auth.emitted == []

    auth.failure = None
    await queue.wait_sent()

    assert sent(auth) == ["1"]


async def test_an_hour_without_auth_is_told_once_and_asked_about_each_few_seconds(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-08: neither the log nor auth's port is flooded."""
    auth = ScriptedAuth()
    auth.failure = Unavailable("down")
    queue = EventQueue(auth.api)
    queue.put("tunnel.up", n=1)
    nursery.start_soon(queue.keep)
    await trio.sleep(3600)

    said = [record.message for record in caplog.records if record.levelno > logging.DEBUG]
    assert said == ["audit events wait, trying on: down"]
    assert 3600 / FRESH <= auth.tries <= 3600


async def test_what_finds_no_room_is_counted_and_told(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    auth = ScriptedAuth()
    queue = EventQueue(auth.api)
    for number in range(EVENT_QUEUE + 7):
        queue.put("tunnel.up", n=number)
    nursery.start_soon(queue.keep)
    await queue.wait_sent()

    lost = [event for batch in auth.emitted for event in batch if event.type == "audit.lost"]
    assert [event.fields["count"] for event in lost] == [7]
    assert len(sent(auth)) == EVENT_QUEUE + 1


@pytest.mark.parametrize("refusal", [AccessDenied("not yours"), InvalidRequest("too many")])
async def test_what_auth_refuses_is_dropped_alone_with_a_line(
    refusal: TportError,
    caplog: pytest.LogCaptureFixture,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
) -> None:
    """One event that auth can't take neither stops the queue nor takes others with it."""
    auth = ScriptedAuth()
    auth.refused_events["tunnel.down"] = refusal
    queue = EventQueue(auth.api)
    for number, type_ in enumerate(("tunnel.up", "tunnel.down", "auth.failed")):
        queue.put(type_, n=number)
    nursery.start_soon(queue.keep)
    await queue.wait_sent()
    queue.put("tunnel.up", n=4)
    await queue.wait_sent()

    assert sent(auth) == ["0", "2", "4"]
    [line] = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert "tunnel.down" in line


async def test_putting_never_waits_even_when_there_is_no_room() -> None:
    queue = EventQueue(ScriptedAuth().api)
    with assert_no_checkpoints():
        for _ in range(EVENT_QUEUE + 1):
            queue.put("tunnel.up")


async def test_wait_sent_waits_for_the_batch_on_its_way(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    auth = ScriptedAuth()
    auth.failure = Unavailable("down")
    queue = EventQueue(auth.api)
    queue.put("tunnel.up")
    nursery.start_soon(queue.keep)
    await wait_all_tasks_blocked()

    with trio.move_on_after(3 * events_module.RETRY) as waiting:
        await queue.wait_sent()

    assert waiting.cancelled_caught


async def test_an_agent_whose_certificate_does_not_count_yet_keeps_its_events(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-13: a wrong clock is put right, and what happened meanwhile is written down."""
    auth = ScriptedAuth()
    auth.failure = OutOfTime("certificate refused: it is valid from tomorrow on")
    queue = EventQueue(auth.api)
    queue.put("tunnel.up", n=1)
    nursery.start_soon(queue.keep)
    await trio.sleep(60)

    auth.failure = None
    await queue.wait_sent()

    assert sent(auth) == ["1"]
