"""Requests reach their log in order, without holding anybody up; what is lost is counted."""

from __future__ import annotations

import logging
import tracemalloc
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints

from tests.engine.api.scripted import ScriptedAuth, session
from tests.fakes import WallClock
from tport.engine.api.events import EventQueue
from tport.engine.defaults import REQUEST_LOG_QUEUE
from tport.engine.errors import InvalidRequest, Unavailable
from tport.engine.net.exchange import Exchange
from tport.engine.proto.head import parse_request_head
from tport.engine.proxy.request_log import BATCH, INTERVAL, RequestLog
from tport.engine.types.request_record import RequestRecord

HEAD = (
    b"GET /d/1?token=sesame HTTP/1.1\r\nHost: grafana.proxy.test\r\nUser-Agent: UA \xff\r\n"
    b"Cookie: secret=sesame\r\nAuthorization: Bearer sesame\r\n\r\n"
)


class Auth(ScriptedAuth):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[RequestRecord, ...]] = []

    async def record_requests(self, *, requests: tuple[RequestRecord, ...]) -> None:
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        self.batches.append(requests)

    @property
    def ids(self) -> list[str]:
        return [record.request_id for batch in self.batches for record in batch]


@dataclass
class Ended:
    """As much of an exchange as is noted of it."""

    request: object = field(default_factory=lambda: parse_request_head(HEAD))
    status: int = 200
    received: int = 3
    sent: int = 5


@dataclass
class World:
    auth: Auth = field(default_factory=Auth)
    include_query: bool = False

    def __post_init__(self) -> None:
        self.events = EventQueue(self.auth.api)
        self.log = RequestLog(
            self.auth.api, self.events, WallClock(), include_query=self.include_query
        )

    def note(self, id: object = "r1", error: str = "") -> None:
        exchange = cast("Exchange", Ended())
        now = trio.current_time()
        self.log.note(exchange, session(), str(id), "192.0.2.1", (now - 2, now), error)


async def test_noting_a_request_waits_for_nothing_even_when_there_is_no_room() -> None:
    world = World()
    with assert_no_checkpoints():
        for _ in range(REQUEST_LOG_QUEUE + 1):
            world.note()


async def test_large_heads_fill_no_memory_while_auth_is_away(autojump_clock: MockClock) -> None:
    """DOS-02: who is signed in may send 64 KiB a head, and 20,000 requests may wait."""
    world = World(include_query=True)
    size, count = 30_000, 4000
    tracemalloc.start()
    try:
        for n in range(count):
            lines = (
                b"GET /%d?%b HTTP/1.1" % (n, b"q" * 4000),
                b"Host: grafana.proxy.test",
                b"User-Agent: UA %d" % n,
                *(b"X-%d: %d%b" % (i, n, b"y" * (size // 3)) for i in range(3)),
            )
            request = parse_request_head(b"\r\n".join([*lines, b"", b""]))
            world.log.note(cast("Exchange", Ended(request)), session(), str(n), "", (0, 0), "")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await world.log.send()

    assert held < count * size / 3
    told = [record for batch in world.auth.batches for record in batch]
    assert [record.path for record in told] == [f"/{n}" for n in range(count)]
    assert [record.user_agent for record in told] == [f"UA {n}" for n in range(count)]


async def test_a_request_is_told_with_who_what_and_how_it_ended_and_no_secret(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    nursery.start_soon(world.log.keep)
    world.note()
    await trio.sleep(60)

    [[record]] = world.auth.batches
    assert (record.user, record.app, record.method, record.path) == (
        "alice",
        "grafana",
        "GET",
        "/d/1",
    )
    assert (record.status, record.bytes_in, record.bytes_out) == (200, 3, 5)
    assert (record.duration, record.remote, record.user_agent) == (2000, "192.0.2.1", "UA \ufffd")
    assert "sesame" not in repr(record)


async def test_what_browsers_say_again_and_again_is_told_each_time(
    autojump_clock: MockClock,
) -> None:
    world = World()
    for n in range(5):
        lines = (b"GET /%d HTTP/1.1" % n, b"Host: grafana.proxy.test", b"User-Agent: The Same/1")
        request = parse_request_head(b"\r\n".join([*lines, b"", b""]))
        world.log.note(cast("Exchange", Ended(request)), session(), str(n), "", (0, 0), "")
    await world.log.send()

    [batch] = world.auth.batches
    assert [(told.path, told.user_agent) for told in batch] == [
        (f"/{n}", "The Same/1") for n in range(5)
    ]


async def test_the_query_is_told_only_where_it_is_wanted(autojump_clock: MockClock) -> None:
    world = World(include_query=True)
    world.note()
    await world.log.send()

    assert world.auth.batches[0][0].query == "token=sesame"


async def test_requests_go_in_order_and_in_batches(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    nursery.start_soon(world.log.keep)
    for n in range(BATCH + 10):
        world.note(n)
    await trio.sleep(2 * INTERVAL)
    world.note("later")
    await trio.sleep(2 * INTERVAL)

    assert [len(batch) for batch in world.auth.batches] == [BATCH, 10, 1]
    assert world.auth.ids == [*map(str, range(BATCH + 10)), "later"]


async def test_while_auth_is_away_requests_wait_and_those_without_room_are_counted(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """OPS-02: requests go on; the count is an event."""
    world = World()
    nursery.start_soon(world.log.keep)
    nursery.start_soon(world.events.keep)
    world.auth.failure = Unavailable("down")
    for n in range(REQUEST_LOG_QUEUE + 7):
        world.note(n)
    await trio.sleep(60)
    assert world.auth.batches == []

    world.auth.failure = None
    await trio.sleep(60)
    world.note("later")
    await trio.sleep(60)

    assert world.auth.ids == [*map(str, range(REQUEST_LOG_QUEUE)), "later"]
    [lost] = [event for batch in world.auth.emitted for event in batch]
    assert (lost.type, lost.fields) == ("audit.lost", {"count": 7, "log": "requests"})


async def test_what_auth_refuses_is_dropped_with_a_line(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    nursery.start_soon(world.log.keep)
    world.auth.failure = InvalidRequest("no")
    world.note("refused")
    await trio.sleep(1)
    world.auth.failure = None
    world.note("taken")
    await trio.sleep(1)

    assert world.auth.ids == ["taken"]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


async def test_sending_at_the_end_sends_nothing_twice(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    world = World()
    nursery.start_soon(world.log.keep)
    world.auth.failure = Unavailable("down")
    world.note("once")
    await trio.sleep(INTERVAL + 0.1)  # `keep` is in the middle of it
    world.auth.failure = None
    await world.log.send()

    assert world.auth.ids == ["once"]
