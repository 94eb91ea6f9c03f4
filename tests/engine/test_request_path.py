"""A request from the browser's connection to the application's and back, proxy and agent in one, without sockets.

What takes long takes no time here: the clock jumps.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tests.engine.agent.test_rewrite import app, credential
from tests.engine.proxy.ends import Agent, Client, open_world
from tests.engine.proxy.test_forward_websocket import UPGRADE
from tests.fakes import START
from tests.stack import read_answer
from tport.engine.agent.passage import Offered, Passage
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.proto.websocket import accept_key

Script = Callable[[trio.abc.Stream], Awaitable[None]]

MINUTES = 60.0
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: " + accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") + b"\r\n\r\n"
)


@asynccontextmanager
async def open_path(script: Script) -> AsyncIterator[Client]:
    """A client whose requests go to an application that does what `script` does, each time."""
    async with open_world() as world, trio.open_nursery() as nursery:
        nursery.start_soon(_serve, world.agent(), script)
        yield world.client()
        nursery.cancel_scope.cancel()


async def _serve(agent: Agent, script: Script) -> None:
    definition = app()
    events = EventQueue(cast("AuthAPI", None))
    async with trio.open_nursery() as nursery:

        async def dial() -> trio.abc.Stream:
            near, far = memory_stream_pair()
            nursery.start_soon(script, far)
            return near

        offered = Offered(
            definition,
            Upstream(definition, lambda: START, dial=dial),
            Rewriter(definition, hostname="box"),
        )
        while True:
            request = await agent.next(deadline=float("inf"))
            passage = Passage(
                request.stream, offered, credential(), request.head, request.rest, events
            )
            nursery.start_soon(passage.carry)


@pytest.mark.parametrize("minutes", [10, 120])
async def test_an_application_that_is_silent_for_long_still_answers(
    minutes: int, autojump_clock: MockClock
) -> None:
    """A long poll, a report that is slow to make: nobody on the way gives up (T50)."""

    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await trio.sleep(minutes * MINUTES)
        await stream.send_all(FINE)

    async with open_path(script) as client:
        await client.get()
        answer = await read_answer(client.stream)

    assert (answer.status, answer.body) == (200, b"fine")
    assert trio.current_time() == minutes * MINUTES


async def test_an_upload_may_be_thought_about_for_long(autojump_clock: MockClock) -> None:
    async def script(stream: trio.abc.Stream) -> None:
        received = b""
        while received.count(b"x") < 100_000:
            received += await stream.receive_some()
        await trio.sleep(10 * MINUTES)
        await stream.send_all(FINE)

    async with open_path(script) as client:
        await client.send(
            *("POST / HTTP/1.1", "Host: grafana.proxy.test", "Content-Length: 100000"),
            body=b"x" * 100_000,
        )
        answer = await read_answer(client.stream)

    assert (answer.status, answer.body) == (200, b"fine")
    assert trio.current_time() >= 10 * MINUTES


async def test_events_may_be_ten_minutes_apart(autojump_clock: MockClock) -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(3):
            await trio.sleep(10 * MINUTES)
            await stream.send_all(b"9\r\ndata: x\n\n\r\n")
        await stream.send_all(b"0\r\n\r\n")

    async with open_path(script) as client:
        await client.get()
        answer = await read_answer(client.stream)

    assert (answer.status, answer.body) == (200, b"data: x\n\n" * 3)
    assert trio.current_time() == 30 * MINUTES


async def test_a_websocket_may_be_silent_for_hours(autojump_clock: MockClock) -> None:
    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(SWITCH)
        await trio.sleep(180 * MINUTES)
        await stream.send_all(b"\x81\x05hello")
        assert await stream.receive_some() == b"\x81\x80abcd"
        await stream.send_all(b"\x81\x03bye")
        await stream.aclose()

    async with open_path(script) as client:
        await client.send(*UPGRADE)
        answer = await read_answer(client.stream)
        first = await client.stream.receive_some()
        await trio.sleep(180 * MINUTES)
        await client.stream.send_all(b"\x81\x80abcd")
        last = await client.stream.receive_some()

    assert answer.status == 101
    assert (answer.body + first, last) == (b"\x81\x05hello", b"\x81\x03bye")
    assert trio.current_time() == 360 * MINUTES
