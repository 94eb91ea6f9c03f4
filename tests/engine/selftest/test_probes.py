"""Both ways are asked, timed by one clock, and what an intermediary does wrong is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from tport.engine.errors import RemoteProtocolError, TportError
from tport.engine.net.http1 import Exchange, serve_http1
from tport.engine.proto.framing import of_length
from tport.engine.selftest.failure import PathFailed
from tport.engine.selftest.line import PATIENCE, PATIENCE_WITH_BODY, CutOff, Silent, Way
from tport.engine.selftest.payload import EVENTS, GAP, checksum, pieces
from tport.engine.selftest.probes import (
    BUDGET,
    WARM_UP,
    ask_once,
    check_answer,
    download,
    sent_checksum,
    time_echoes,
    time_events,
    time_requests,
    upload,
)
from tport.engine.selftest.upstream import Upstream

SIZE = 300_000
HEADERS = ((b"host", b"app.test"), (b"accept", b"*/*"))
Handle = Callable[[Exchange], Awaitable[None]]
Meddle = Callable[[bytes], bytes]
JSON = (b"content-type", b"application/json")


class Application:
    """Something that answers, and counts who dials it."""

    def __init__(self, nursery: trio.Nursery, handle: Handle, meddle: Meddle | None) -> None:
        self.dialled = 0
        self._nursery = nursery
        self._handle = handle
        self._meddle = meddle
        self.way = Way("the application", self._dial, HEADERS)

    async def _dial(self) -> trio.abc.Stream:
        self.dialled += 1
        client, server = memory_stream_pair()
        self._nursery.start_soon(serve_http1, server, self._handle)
        if self._meddle is None:
            return client
        here, there = memory_stream_pair()
        self._nursery.start_soon(relay_changed, there, client, self._meddle)
        return here


async def relay_changed(a: trio.abc.Stream, b: trio.abc.Stream, meddle: Meddle) -> None:
    """Carry bytes both ways; those of the answers as `meddle` makes them."""

    async def carry(source: trio.abc.Stream, sink: trio.abc.Stream, change: Meddle) -> None:
        while data := await source.receive_some():
            await sink.send_all(change(bytes(data)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry, a, b, bytes)
        nursery.start_soon(carry, b, a, meddle)


@asynccontextmanager
async def serving(
    handle: Handle | None = None, meddle: Meddle | None = None
) -> AsyncIterator[Application]:
    """The selftest's own application, or another; `meddle`: by way of one who changes answers."""
    async with trio.open_nursery() as nursery:
        yield Application(nursery, handle or Upstream(SIZE).answer, meddle)
        nursery.cancel_scope.cancel()


# --- Requests -------------------------------------------------------------------------------------


async def test_each_way_is_asked_as_often_and_on_one_connection(autojump_clock: MockClock) -> None:
    asked = []

    async def slow(exchange: Exchange) -> None:
        asked.append(exchange.request.target)
        await trio.sleep(0.25)
        await exchange.send_head(200, [], framing=of_length(2), body=b"o")
        await trio.sleep(0.5)
        await exchange.send_body(b"k", end=True)

    async with serving() as quick, serving(slow) as other:
        direct, through = await time_requests((quick.way, other.way), b"/x", 7)

    assert (quick.dialled, other.dialled) == (1, 1)
    assert asked == [b"/x"] * (WARM_UP + 7)
    assert direct.whole == [0] * 7
    assert through.head == pytest.approx([0.25] * 7)
    assert through.whole == pytest.approx([0.75] * 7)


async def test_a_slow_application_is_not_asked_for_ever(autojump_clock: MockClock) -> None:
    async def slow(exchange: Exchange) -> None:
        await trio.sleep(BUDGET / 6 - 0.001)
        await exchange.respond(200, [], b"ok")

    async with serving(slow) as application:
        [times] = await time_requests((application.way,), b"/", 100_000)

    assert len(times.whole) == 2  # after a warm-up of 5


async def test_a_page_that_never_ends_is_cut_off(autojump_clock: MockClock) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send_head(200, [], body=b"begun")
        await trio.sleep_forever()

    async with serving(endless) as application:
        answer = await ask_once(application.way, b"/")

    assert (answer.body, answer.whole) == (b"begun", False)
    assert answer.head_after == 0
    assert answer.after == PATIENCE_WITH_BODY


async def test_silence_and_a_hang_up_are_told_apart(autojump_clock: MockClock) -> None:
    async def silent(_: Exchange) -> None:
        await trio.sleep_forever()

    async def gone(exchange: Exchange) -> None:
        exchange.abort()

    async with serving(silent) as application:
        with pytest.raises(Silent, match=f"within {PATIENCE:g} s"):
            await ask_once(application.way, b"/")
    async with serving(gone) as application:
        with pytest.raises(CutOff, match="the application closed"):
            await ask_once(application.way, b"/")


async def test_what_is_no_http_is_said() -> None:
    async with serving(meddle=lambda data: data.replace(b"HTTP/1.1", b"SMTP/1.1")) as application:
        with pytest.raises(RemoteProtocolError, match="the application sent something wrong"):
            await ask_once(application.way, b"/")


async def test_an_answer_in_the_application_s_place_names_the_hop() -> None:
    async def failing(exchange: Exchange) -> None:
        while await exchange.receive_body():
            pass
        body = b'{"error": "unreachable", "hop": "app", "cause": "connection refused"}'
        await exchange.respond(502, [JSON], body)

    probes = (
        lambda way: time_requests((way,), b"/", 1),
        lambda way: time_events((way,), 1),
        lambda way: time_echoes((way,), 1),
        lambda way: download(way, SIZE),
        lambda way: upload(way, SIZE),
    )
    for probe in probes:
        async with serving(failing) as application:
            with pytest.raises(PathFailed, match="failed at the application: connection refused"):
                await probe(application.way)


async def test_another_status_than_200_is_no_success() -> None:
    async with serving() as application:
        answer = await ask_once(application.way, b"/nothing/here")

    with pytest.raises(TportError, match="status 404"):
        check_answer(answer, "the application")


# --- Events ---------------------------------------------------------------------------------------


async def test_events_are_timed_by_the_moment_they_were_sent(autojump_clock: MockClock) -> None:
    async with serving() as application:
        [events] = await time_events((application.way,), 2)

    assert events.late == [0] * (2 * EVENTS)
    assert events.gaps == pytest.approx([GAP] * (2 * (EVENTS - 1)))


async def test_events_that_are_held_back_come_late_and_together(autojump_clock: MockClock) -> None:
    """As behind a proxy that buffers."""
    held = bytearray()

    def hold(data: bytes) -> bytes:
        held.extend(data)
        if not held.endswith(b"0\r\n\r\n"):
            return b""
        whole = bytes(held)
        held.clear()
        return whole

    async with serving(meddle=hold) as application:
        [events] = await time_events((application.way,), 1)

    assert events.late[0] == pytest.approx(GAP)
    assert events.gaps == [0] * (EVENTS - 1)


async def test_an_event_that_is_lost_is_missed(autojump_clock: MockClock) -> None:
    def without_data(data: bytes) -> bytes:
        return data.replace(b"\n\n", b"\n.")

    async with serving(meddle=without_data) as application:
        with pytest.raises(TportError, match=f"0 of {EVENTS} events"):
            await time_events((application.way,), 1)


# --- Transfers ------------------------------------------------------------------------------------


async def test_what_arrives_has_the_checksum_of_what_was_sent() -> None:
    async with serving() as application:
        down = await download(application.way, SIZE)
        up = await upload(application.way, SIZE)

    assert down.checksum == up.checksum == checksum(pieces(SIZE)) == await sent_checksum(SIZE)


async def test_whoever_stops_it_need_not_wait_for_a_checksum() -> None:
    with trio.move_on_after(0.01) as stopped:
        await sent_checksum(2**50)

    assert stopped.cancelled_caught  # else it would take a week


async def test_a_byte_that_changes_on_the_way_changes_the_checksum() -> None:
    def flip_a_bit(data: bytes) -> bytes:
        return data if len(data) < 1000 else data[:-1] + bytes([data[-1] ^ 1])

    async with serving(meddle=flip_a_bit) as application:
        down = await download(application.way, SIZE)

    assert down.checksum != checksum(pieces(SIZE))


async def test_an_upload_that_is_refused_in_the_middle_tells_why() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.receive_body()
        await exchange.respond(413, [], b"too much")

    async with serving(refuse) as application:
        with pytest.raises(TportError, match="status 413"):
            await upload(application.way, SIZE)


# --- WebSockets -----------------------------------------------------------------------------------


async def test_messages_come_back_through_one_socket_each_way() -> None:
    async with serving() as quick, serving() as other:
        direct, through = await time_echoes((quick.way, other.way), 3)

    assert (quick.dialled, other.dialled) == (1, 1)
    assert len(direct.small) == len(through.small) == 3
    assert through.large > 0


async def test_a_message_that_comes_back_changed_is_noticed() -> None:
    async with serving(meddle=lambda data: data.replace(b"chats", b"chaos")) as application:
        with pytest.raises(RemoteProtocolError, match="came back changed"):
            await time_echoes((application.way,), 1)


async def test_an_application_that_opens_no_socket_is_told_by_its_status() -> None:
    async def plain(exchange: Exchange) -> None:
        await exchange.respond(200, [], b"no sockets here")

    async with serving(plain) as application:
        with pytest.raises(TportError, match="status 200 instead of 101"):
            await time_echoes((application.way,), 1)
