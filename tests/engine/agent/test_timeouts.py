"""How long an agent waits for an application: as long as its definition says, and no total limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, memory_stream_pair

from tests.engine.agent.test_passage import ANSWER, HEAD
from tests.engine.agent.test_rewrite import app, credential
from tests.fakes import START
from tport.engine.agent.passage import PULSE, Offered, Passage
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import ANSWER_DEADLINE
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.tunnel import (
    Accepted,
    Inbox,
    NoAnswer,
    RequestHead,
    ResponseHead,
    answer_decoder,
)
from tport.engine.types.app import Timeouts

Script = Callable[[trio.abc.Stream], Awaitable[None]]


@dataclass
class Heard:
    """What came out of the tunnel: messages with the second they came in, the body, and how it ended."""

    messages: list[tuple[float, Accepted | ResponseHead | NoAnswer]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False

    @property
    def accepted(self) -> list[float]:
        return [at for at, message in self.messages if isinstance(message, Accepted)]


@asynccontextmanager
async def tunnel() -> AsyncIterator[tuple[MuxStream, MuxStream]]:
    """Both ends of one stream, the proxy's and the agent's."""
    ours, agents = memory_stream_pair()
    proxy = Mux(ours, client=True, peer_may_open=False)
    agent = Mux(agents, client=False, peer_may_open=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.run)
        await nursery.start(agent.run)
        stream = proxy.open_stream()
        await stream.send_all(b"x")
        yield stream, await agent.accept()
        nursery.cancel_scope.cancel()


async def ask(timeouts: Timeouts, script: Script, head: RequestHead = HEAD) -> Heard:
    """Carry a request to an application that does what `script` does."""
    definition = replace(app(), timeouts=timeouts)
    heard = Heard()
    async with tunnel() as (stream, served), trio.open_nursery() as nursery:

        async def dial() -> trio.abc.Stream:
            near, far = memory_stream_pair()
            nursery.start_soon(script, far)
            return near

        async def carry() -> None:
            offered = Offered(
                definition,
                Upstream(definition, lambda: START, dial=dial),
                Rewriter(definition, hostname="box"),
            )
            events = EventQueue(cast("AuthAPI", None))
            await Passage(served, offered, credential(), head, b"", events).carry()
            served.reset()  # as whoever runs it does

        nursery.start_soon(carry)
        await listen(stream, heard)
        nursery.cancel_scope.cancel()
    return heard


async def listen(stream: MuxStream, heard: Heard) -> None:
    inbox = Inbox()
    try:
        while data := await stream.receive_some():
            if heard.messages and is_final(heard.messages[-1][1]):
                heard.body += data
                continue
            inbox.feed(data)
            while (message := inbox.take(answer_decoder)) is not None:
                heard.messages.append((trio.current_time(), message))
                if is_final(message):
                    heard.body += inbox.rest()
                    break
        heard.whole = True
    except trio.BrokenResourceError:
        pass


def is_final(message: Accepted | ResponseHead | NoAnswer) -> bool:
    return isinstance(message, NoAnswer) or (
        isinstance(message, ResponseHead) and (message.status >= 200 or message.status == 101)
    )


def answers_after(seconds: float, answer: bytes = ANSWER) -> Script:
    async def script(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await trio.sleep(seconds)
        await stream.send_all(answer)

    return script


async def test_an_application_may_think_for_as_long_as_it_likes(autojump_clock: MockClock) -> None:
    """And the proxy is told that it does, often enough that it doesn't give the agent up."""
    heard = await ask(Timeouts(), answers_after(3600))

    at, answer = heard.messages[-1]
    assert isinstance(answer, ResponseHead)
    assert (at, answer.status, heard.body, heard.whole) == (3600, 200, b"hello", True)
    assert heard.accepted == [PULSE * n for n in range(1, 121)][: len(heard.accepted)]
    assert len(heard.accepted) >= 119
    assert PULSE < ANSWER_DEADLINE / 2


async def test_an_application_that_does_not_answer_in_its_time_is_given_up(
    autojump_clock: MockClock,
) -> None:
    heard = await ask(Timeouts(response_head=45), answers_after(3600))

    at, answer = heard.messages[-1]
    assert at == 45
    assert answer == NoAnswer(
        kind="timeout",
        hop="app",
        cause="the application did not answer within 45 s",
        since=START.isoformat(),
        waited=45.0,
    )
    assert heard.whole


async def test_the_time_to_answer_begins_when_the_request_is_sent(
    autojump_clock: MockClock,
) -> None:
    async def takes_its_time(stream: trio.abc.Stream) -> None:
        received = b""
        while not received.endswith(b"x" * 10):
            received += await stream.receive_some()
        await trio.sleep(8)
        await stream.send_all(ANSWER)

    definition = replace(app(), timeouts=Timeouts(response_head=9))
    heard = Heard()
    async with tunnel() as (stream, served), trio.open_nursery() as nursery:

        async def dial() -> trio.abc.Stream:
            near, far = memory_stream_pair()
            nursery.start_soon(takes_its_time, far)
            return near

        offered = Offered(
            definition,
            Upstream(definition, lambda: START, dial=dial),
            Rewriter(definition, hostname="box"),
        )
        events = EventQueue(cast("AuthAPI", None))
        await served.receive_some()  # what opened the stream
        head = replace(HEAD, method=b"POST", length=10)
        nursery.start_soon(Passage(served, offered, credential(), head, b"", events).carry)
        for _ in range(10):
            await trio.sleep(5)
            await stream.send_all(b"x")
        await stream.send_eof()
        await listen(stream, heard)

    at, answer = heard.messages[-1]
    assert isinstance(answer, ResponseHead), answer
    assert at == 58


@pytest.mark.parametrize("idle", [0.0, 20.0])
async def test_an_answer_may_take_for_ever_as_long_as_it_goes_on(
    idle: float, autojump_clock: MockClock
) -> None:
    async def drips(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            await trio.sleep(19)
            await stream.send_all(b"x")

    heard = await ask(Timeouts(idle=idle, response_head=5), drips)

    assert (heard.body, heard.whole) == (b"x" * 100, True)
    assert trio.current_time() == 1900


async def test_an_answer_that_stops_in_the_middle_is_cut_and_never_ended(
    autojump_clock: MockClock,
) -> None:
    async def stops(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await trio.sleep_forever()

    heard = await ask(Timeouts(idle=20), stops)

    assert (heard.body, heard.whole) == (b"half", False)
    assert trio.current_time() == 20


async def test_an_informational_answer_begins_the_wait_anew(autojump_clock: MockClock) -> None:
    async def hints_first(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        for _ in range(3):
            await trio.sleep(8)
            await stream.send_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await trio.sleep(8)
        await stream.send_all(ANSWER)

    heard = await ask(Timeouts(response_head=9), hints_first)

    assert [getattr(message, "status", 0) for _, message in heard.messages] == [103, 103, 103, 200]
    assert (heard.body, heard.whole) == (b"hello", True)


async def test_half_a_head_before_a_pulse_is_not_lost(autojump_clock: MockClock) -> None:
    async def in_two_pieces(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(ANSWER[:20])
        await trio.sleep(PULSE * 2.5)
        await stream.send_all(ANSWER[20:])

    heard = await ask(Timeouts(), in_two_pieces)

    assert (heard.body, heard.whole) == (b"hello", True)
