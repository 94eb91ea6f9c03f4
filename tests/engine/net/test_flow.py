from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from tport.engine.defaults import READ_SIZE
from tport.engine.net.flow import TURN, Flow, Silent, open_end, relay
from tport.engine.net.tcp import TcpStream


class Source:
    """Has what a test puts into it; an exception is raised in its place."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.on_arrival: Callable[[], None] | None = None
        self.pieces = deque(pieces)

    def receive_nowait(self) -> bytes | None:
        if not self.pieces:
            return None
        piece = self.pieces.popleft()
        if isinstance(piece, Exception):
            raise piece
        return piece

    def put(self, *pieces: bytes | Exception) -> None:
        self.pieces += pieces
        if self.on_arrival is not None:
            self.on_arrival()


class Sink:
    """Takes `room` bytes, and keeps the rest."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.on_room: Callable[[], None] | None = None
        self.room = room
        self.left, self.kept = b"", b""
        self.broken: Exception | None = None

    def send_nowait(self, data: bytes) -> bool:
        if self.broken is not None:
            raise self.broken
        self.kept += data
        self.left += self.kept[: self.room]
        self.kept, self.room = self.kept[self.room :], max(0, self.room - len(self.kept))
        return not self.kept

    def give(self, room: int) -> None:
        self.room += room
        if self.on_room is not None:
            self.on_room()


async def test_what_comes_is_sent_without_that_a_task_wakes() -> None:
    source, sink = Source(b"a"), Sink()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Flow(source, sink).run)
        await wait_all_tasks_blocked()
        source.put(b"b")
        assert sink.left == b"ab"
        source.put(b"")


async def test_nothing_is_received_while_the_sink_keeps_something() -> None:
    """One piece is held, of however many wait."""
    source, sink = Source(*[b"piece"] * 10, b""), Sink(room=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Flow(source, sink).run)
        await wait_all_tasks_blocked()
        source.put()
        assert (sink.left, sink.kept, len(source.pieces)) == (b"pi", b"ece", 10)

        sink.give(2)
        assert (sink.left, sink.kept, len(source.pieces)) == (b"piec", b"e", 10)

        sink.give(6)
        assert (sink.left, sink.kept, len(source.pieces)) == (b"piecepiece", b"piece", 8)
        sink.give(1000)

    assert sink.left == b"piece" * 10


async def test_a_flow_begins_behind_what_the_sink_keeps_from_before() -> None:
    source, sink = Source(b"later", b""), Sink(room=0)
    sink.send_nowait(b"before")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Flow(source, sink).run)
        await wait_all_tasks_blocked()
        assert len(source.pieces) == 2
        sink.give(100)

    assert sink.left == b"beforelater"


async def test_who_is_cancelled_hears_of_nothing_more_and_has_lost_nothing() -> None:
    source, sink = Source(b"whole"), Sink(room=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Flow(source, sink).run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert source.on_arrival is sink.on_room is None
    assert (sink.left, sink.kept) == (b"who", b"le")


@pytest.mark.parametrize("blocked", [False, True])
async def test_what_either_end_raises_ends_the_flow(blocked: bool) -> None:
    source, sink = Source(b"piece"), Sink(room=0 if blocked else 100)
    flow = Flow(source, sink)
    told = ""

    async def run() -> None:
        nonlocal told
        with pytest.raises(trio.BrokenResourceError) as raised:
            await flow.run()
        told = str(raised.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        if blocked:
            sink.broken = trio.BrokenResourceError("the sink")
            sink.give(0)
        else:
            source.put(trio.BrokenResourceError("the source"))

    assert told == ("the sink" if blocked else "the source")


async def test_a_source_that_always_has_more_leaves_others_their_turn() -> None:
    source, sink = Source(*[b"x"] * (TURN * 20), b""), Sink()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await Flow(source, sink).run()
        nursery.cancel_scope.cancel()

    assert len(sink.left) == TURN * 20
    assert turns >= 19


async def test_a_silent_source_is_waited_for_only_so_long(autojump_clock: MockClock) -> None:
    source = Source(b"word")
    async with trio.open_nursery() as nursery:

        async def speak_late() -> None:
            await trio.sleep(8)
            source.put(b"word")

        nursery.start_soon(speak_late)
        with pytest.raises(Silent):
            await Flow(source, Sink()).run(patience=10)

    assert trio.current_time() == pytest.approx(18)


async def test_a_source_is_not_silent_while_nobody_takes_what_it_said(
    autojump_clock: MockClock,
) -> None:
    source, sink = Source(b"word", b""), Sink(room=0)
    async with trio.open_nursery() as nursery:

        async def take_late() -> None:
            await trio.sleep(100)
            sink.give(100)

        nursery.start_soon(take_late)
        await Flow(source, sink).run(patience=10)

    assert sink.left == b"word"


# --- Over real sockets -------------------------------------------------------------------------------


def pair() -> tuple[TcpStream, TcpStream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for sock in (near, far):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ_SIZE)
    return TcpStream(near), TcpStream(far)


async def test_who_does_not_read_stops_who_sends_and_gets_all_when_it_reads() -> None:
    client, a = pair()
    b, server = pair()
    data = bytes(range(256)) * 40_000  # more than the kernel takes
    async with client, a, b, server, trio.open_nursery() as nursery:
        flow = Flow(a, b)
        nursery.start_soon(flow.run)
        nursery.start_soon(client.send_all, data)
        await wait_all_tasks_blocked(0.05)
        assert len(b._unsent) <= READ_SIZE

        got = bytearray()
        with trio.fail_after(10):
            while len(got) < len(data):
                got += await server.receive_some()
        assert got == data
        nursery.cancel_scope.cancel()


async def test_a_reset_in_the_middle_ends_both_ways() -> None:
    client, a = pair()
    b, server = pair()
    async with server:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay, a, b)
                await client.send_all(b"half of it")
                assert await server.receive_some() == b"half of it"
                client.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                client.close()
            assert await server.receive_some() == b""
    assert a.socket.fileno() == b.socket.fileno() == -1


async def test_an_end_of_one_way_is_passed_on_and_the_other_goes_on() -> None:
    client, a = pair()
    b, server = pair()
    async with client, server:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay, a, b)
                await client.send_eof()
                assert await server.receive_some() == b""
                await server.send_all(b"still here")
                assert await client.receive_some() == b"still here"
                await server.send_eof()
                assert await client.receive_some() == b""


# --- Any stream --------------------------------------------------------------------------------------


async def test_any_stream_is_an_end_that_reads_no_further_than_it_is_asked() -> None:
    client, a = memory_stream_pair()
    async with client, a:
        async with open_end(a) as end:
            await client.send_all(b"first")
            await wait_all_tasks_blocked()
            assert end.receive_nowait() is None  # this asks
            await wait_all_tasks_blocked()
            assert end.receive_nowait() == b"first"
            await client.send_all(b"second")
            await wait_all_tasks_blocked()
        assert await a.receive_some() == b"second"


async def test_any_stream_keeps_what_its_peer_does_not_take_yet() -> None:
    client, a = lockstep_stream_pair()
    async with client, a, open_end(a) as end:
        assert not end.send_nowait(b"one")
        assert not end.send_nowait(b"two")
        await wait_all_tasks_blocked()
        assert not end.send_nowait(b"")
        got = b""
        while len(got) < 6:
            got += await client.receive_some()
        assert got == b"onetwo"
        await end.flush()
        assert end.send_nowait(b"")


async def test_any_stream_tells_that_it_broke() -> None:
    client, a = memory_stream_pair()
    await client.aclose()
    async with a, open_end(a) as end:
        end.send_nowait(b"for nobody")
        with pytest.raises(trio.BrokenResourceError):
            await end.flush()
        assert end.receive_nowait() is None
        await wait_all_tasks_blocked()
        assert end.receive_nowait() == b""
