"""The tunnel's multiplexer over memory streams; time is trio's autojump clock."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

import pytest
import trio
from trio.testing import (
    MemoryReceiveStream,
    MemorySendStream,
    MockClock,
    check_half_closeable_stream,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from tport.engine.defaults import INITIAL_WINDOW, MAX_STREAM_QUEUE, READ_SIZE, TUNNEL_QUEUE
from tport.engine.errors import ConnectionProblem, LimitExceeded, RemoteProtocolError
from tport.engine.net.flow import Flow
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.receive_window import WindowBudget
from tport.engine.proto.yamux import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER,
    INTERNAL_ERROR,
    MAX_FRAME,
    PING,
    PROTOCOL_ERROR,
    RST,
    SLACK,
    SYN,
    WINDOW_UPDATE,
)


def mux_pair(
    *, max_streams: int = 1000, budget: WindowBudget | None = None, slow: float = 0
) -> tuple[Mux, Mux]:
    """Return proxy's and agent's end of one tunnel, not yet running.

    Args:
        slow: seconds each write of the proxy takes.
    """
    left, right = memory_stream_pair()
    if slow:
        deliver = left.send_stream.send_all_hook
        assert deliver is not None

        async def slowly() -> None:
            await trio.sleep(slow)
            await deliver()

        left.send_stream.send_all_hook = slowly
    return (
        Mux(left, client=True, peer_may_open=False, max_streams=max_streams, budget=budget),
        Mux(right, client=False, peer_may_open=True, budget=budget),
    )


@asynccontextmanager
async def tunnel(
    *, max_streams: int = 1000, budget: WindowBudget | None = None, slow: float = 0
) -> AsyncIterator[tuple[Mux, Mux]]:
    proxy, agent = mux_pair(max_streams=max_streams, budget=budget, slow=slow)
    async with running(proxy, agent):
        yield proxy, agent


@asynccontextmanager
async def running(proxy: Mux, agent: Mux) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: proxy.run(task_status=task_status))
        await nursery.start(lambda task_status: agent.run(task_status=task_status))
        yield
        nursery.cancel_scope.cancel()


async def connected(proxy: Mux, agent: Mux) -> tuple[MuxStream, MuxStream]:
    return proxy.open_stream(), await agent.accept()


async def clog(stream: MuxStream) -> int:
    """Send until nothing more is taken, and return how much was."""
    sent = 0
    while (room := stream._mux._send_room(stream.id)) > 0:
        await stream.send_all(bytes(room))
        sent += room
        await wait_all_tasks_blocked()
    return sent


async def read_to_end(stream: MuxStream) -> bytes:
    return b"".join([piece async for piece in stream])


# --- a stream like any other -------------------------------------------------------------------


async def test_a_tunnel_stream_is_a_trio_stream_in_every_respect() -> None:
    """trio's own conformance test: half-close, cancellation, busy and closed errors, backpressure."""
    async with tunnel() as (proxy, agent):

        async def pair() -> tuple[MuxStream, MuxStream]:
            return await connected(proxy, agent)

        async def clogged_pair() -> tuple[MuxStream, MuxStream]:
            left, right = await connected(proxy, agent)
            await clog(left)
            await clog(right)
            return left, right

        await check_half_closeable_stream(pair, clogged_pair)
        assert (proxy.streams, agent.streams) == (0, 0)
        assert (proxy._connection.stream_count, agent._connection.stream_count) == (0, 0)


async def test_what_is_sent_arrives_in_order_on_many_streams_at_once() -> None:
    async with tunnel() as (proxy, agent):
        sent = {i: random.Random(i).randbytes(300_000 + i) for i in range(20)}

        async def echo() -> None:
            stream = await agent.accept()
            async with stream:
                async for data in stream:
                    await stream.send_all(data)

        async def exchange(data: bytes) -> None:
            async with proxy.open_stream() as stream, trio.open_nursery() as both:

                async def send() -> None:
                    await stream.send_all(memoryview(bytearray(data)))
                    await stream.send_eof()

                both.start_soon(send)
                assert await read_to_end(stream) == data

        async with trio.open_nursery() as nursery:
            for data in sent.values():
                nursery.start_soon(echo)
                nursery.start_soon(exchange, data)


async def test_a_callers_buffer_may_change_once_send_all_has_returned() -> None:
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)
        buffer = bytearray(b"first")

        await left.send_all(buffer)
        buffer[:] = b"wrong"

        assert await right.receive_some() == b"first"


async def test_small_pieces_are_read_in_one() -> None:
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)
        for size in (1, 2, 5000, 3, 20_000, 20_000):
            await left.send_all(bytes(size))
            await wait_all_tasks_blocked()

        assert len(await right.receive_some()) == 45_006


async def test_a_large_piece_can_be_read_byte_by_byte() -> None:
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)
        await left.send_all(b"0123456789" * 1000)

        read = [await right.receive_some(7) for _ in range(3)]

        assert read == [b"0123456", b"7890123", b"4567890"]


# --- ends: clean, or cut, never one for the other -------------------------------------------------


async def test_a_block_that_fails_cuts_its_stream() -> None:
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)

        async def fail() -> None:
            async with right:
                await right.send_all(b"half an ans")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        with pytest.raises(trio.BrokenResourceError):
            await read_to_end(left)


async def test_closing_by_force_cuts_what_had_not_ended_and_only_that() -> None:
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)
        await left.send_eof()
        await right.send_all(b"whole")
        await right.send_eof()
        assert await right.receive_some() == b""

        await trio.aclose_forcefully(right)

        assert await read_to_end(left) == b"whole"


async def test_an_answer_sent_early_is_whole_although_the_request_is_stopped() -> None:
    """413 while the upload goes on: the peer can read the answer; its sending breaks."""
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)
        await left.send_all(b"a long upload")
        async with right:
            await right.send_all(b"too long")

        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await left.send_all(b"more")
        assert await read_to_end(left) == b"too long"


async def test_a_reset_wakes_whoever_waits_on_either_side() -> None:
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)
        await clog(left)

        async def expect(error: type[Exception], stream: MuxStream) -> None:
            with pytest.raises(error):
                await stream.receive_some()

        async def expect_broken_send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await left.send_all(b"x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, trio.BrokenResourceError, left)
            nursery.start_soon(expect_broken_send)
            await wait_all_tasks_blocked()
            right.reset()


async def test_a_cancelled_read_loses_nothing() -> None:
    async with tunnel() as (proxy, agent):
        left, right = await connected(proxy, agent)
        with trio.CancelScope() as scope:
            scope.cancel()
            await right.receive_some()
        await left.send_all(b"still here")

        assert await right.receive_some() == b"still here"


# --- limits, back-pressure, fairness ---------------------------------------------------------------


async def test_what_an_unread_stream_holds_is_one_window() -> None:
    async with tunnel() as (proxy, agent):
        left, _right = await connected(proxy, agent)

        assert await clog(left) == INITIAL_WINDOW


async def test_a_stream_that_nobody_reads_blocks_no_other() -> None:
    async with tunnel() as (proxy, agent):
        for _ in range(50):
            left, _ = await connected(proxy, agent)
            await clog(left)

        left, right = await connected(proxy, agent)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(left.send_all, bytes(10 * INITIAL_WINDOW))
            received = 0
            while received < 10 * INITIAL_WINDOW:
                received += len(await right.receive_some())


async def test_a_short_message_waits_for_one_turn_of_each_bulk_stream(
    autojump_clock: MockClock,
) -> None:
    """Eight downloads keep the line busy, a write each second; the message needs few writes."""
    async with tunnel(slow=1) as (proxy, agent), trio.open_nursery() as nursery:
        for _ in range(8):
            left, right = await connected(proxy, agent)
            nursery.start_soon(left.send_all, bytes(100 * INITIAL_WINDOW))
            nursery.start_soon(read_to_end, right)
        left, right = await connected(proxy, agent)
        await trio.sleep(20.5)

        start = trio.current_time()
        await left.send_all(b"short")
        assert await right.receive_some() == b"short"

        assert trio.current_time() - start <= 1 + 8 * MAX_FRAME / MAX_STREAM_QUEUE + 1
        nursery.cancel_scope.cancel()


async def test_the_tunnels_queue_is_bounded_and_all_get_through(autojump_clock: MockClock) -> None:
    """200 streams of 128 KiB at once on a line of 64 KiB a second."""
    async with tunnel(slow=1) as (proxy, agent), trio.open_nursery() as nursery:
        size, most = 128 * 1024, 0
        done: list[int] = []
        all_done = trio.Event()

        async def upload() -> None:
            async with proxy.open_stream() as stream:
                await stream.send_all(bytes(size))
                await stream.send_eof()
                assert await read_to_end(stream) == b""

        async def swallow() -> None:
            async with await agent.accept() as stream:
                done.append(len(await read_to_end(stream)))
                if len(done) == 200:
                    all_done.set()

        async def watch() -> None:
            nonlocal most
            while not all_done.is_set():
                most = max(most, proxy._connection.queued)
                await trio.sleep(0.5)

        nursery.start_soon(watch)
        for _ in range(200):
            nursery.start_soon(upload)
            nursery.start_soon(swallow)

        await all_done.wait()
        assert done == [size] * 200
        assert TUNNEL_QUEUE // 2 < most <= TUNNEL_QUEUE + MAX_STREAM_QUEUE


async def test_beyond_max_streams_opening_is_refused_at_once() -> None:
    async with tunnel(max_streams=2) as (proxy, agent):
        first, _ = await connected(proxy, agent)
        proxy.open_stream()

        with pytest.raises(LimitExceeded, match="2 streams are open already"):
            proxy.open_stream()
        first.reset()
        proxy.open_stream()


async def test_as_many_streams_as_may_be_open_may_come_at_once() -> None:
    """A thousand people ask in the same moment: nobody is refused because nobody has accepted yet."""
    async with tunnel() as (proxy, agent), trio.open_nursery() as nursery:
        streams = [proxy.open_stream() for _ in range(1000)]
        await wait_all_tasks_blocked()

        async def answer() -> None:
            while True:
                async with await agent.accept() as stream:
                    await stream.send_all(b"%d" % stream.id)

        nursery.start_soon(answer)
        assert [await s.receive_some() for s in streams] == [b"%d" % s.id for s in streams]
        nursery.cancel_scope.cancel()


async def test_streams_that_nobody_accepts_are_refused_beyond_a_bound() -> None:
    left, right = memory_stream_pair()
    proxy = Mux(left, client=True, peer_may_open=False, max_streams=1000)
    agent = Mux(right, client=False, peer_may_open=True, max_streams=10)
    async with running(proxy, agent):
        streams = [proxy.open_stream() for _ in range(10 + SLACK + 1)]
        await wait_all_tasks_blocked()

        with pytest.raises(trio.BrokenResourceError):
            await streams[-1].receive_some()
        assert agent.streams == 10 + SLACK
        assert (await agent.accept()).id == streams[0].id


async def test_windows_grow_on_a_long_line_and_shrink_back_into_the_budget(
    autojump_clock: MockClock,
) -> None:
    """A write takes 100 ms: 256 KiB a round trip at first, more once the window has grown."""
    budget = WindowBudget()
    start = budget.left
    left, right = memory_stream_pair()
    proxy = Mux(left, client=True, peer_may_open=False, budget=budget)
    agent = Mux(right, client=False, peer_may_open=True, budget=budget)

    async def carry(near: MemorySendStream, far: MemoryReceiveStream) -> None:
        """Let what is written arrive 100 ms later, and the writer go on at once."""
        near.send_all_hook = near.close_hook = None
        put, get = trio.open_memory_channel[tuple[float, bytearray]](1000)

        async def deliver() -> None:
            async for at, data in get:
                await trio.sleep_until(at)
                far.put_data(data)

        pump.start_soon(deliver)
        while True:
            data = await near.get_data()
            await put.send((trio.current_time() + 0.1, data))

    async with trio.open_nursery() as pump:
        pump.start_soon(carry, left.send_stream, right.receive_stream)
        pump.start_soon(carry, right.send_stream, left.receive_stream)
        await wait_all_tasks_blocked()
        pump.start_soon(proxy.run)
        pump.start_soon(agent.run)
        near = proxy.open_stream()
        far = await agent.accept()
        await trio.sleep(1)
        assert proxy.rtt == pytest.approx(0.2, abs=0.01)
        pump.start_soon(far.send_all, bytes(64 * INITIAL_WINDOW))
        began, received = trio.current_time(), 0
        while received < 64 * INITIAL_WINDOW:
            received += len(await near.receive_some())

        assert trio.current_time() - began < 64 * 0.2 / 3  # without growth it needs 64 round trips
        assert budget.left < start
        near.reset()
        far.reset()
        assert budget.left == start
        pump.cancel_scope.cancel()


# --- life and death of the tunnel -----------------------------------------------------------------


async def read_frames(stream: trio.abc.ReceiveStream) -> list[tuple[int, int, int, int]]:
    """Return (type, flags, stream id, length) of what has come until the end of `stream`."""
    data = bytearray()
    while piece := await stream.receive_some():
        data += piece
    found, position = [], 0
    while position < len(data):
        _, kind, flags, stream_id, length = HEADER.unpack_from(data, position)
        position += HEADER.size + (length if kind == DATA else 0)
        found.append((kind, flags, stream_id, length))
    return found


async def test_a_silent_peer_is_dead_after_15_seconds(autojump_clock: MockClock) -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    stream = mux.open_stream()

    with pytest.raises(ConnectionProblem, match="no sign of life from the peer for 15 s"):
        await mux.run()

    assert trio.current_time() == 15
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    pings = [length for kind, flags, _, length in await read_frames(peer) if kind == PING]
    assert pings == [1, 2, 3]


async def test_who_did_not_run_for_a_while_takes_nobody_for_dead_before_reading(
    mock_clock: MockClock,
) -> None:
    """R-31, R-32: what the peer said meanwhile has come, and only waits to be read."""
    async with tunnel() as (proxy, agent):
        for _ in range(3):
            await wait_all_tasks_blocked()
            mock_clock.jump(20)  # both were stopped, or their machine had no time for them
        await wait_all_tasks_blocked()
        assert not proxy.closed
        assert not agent.closed


async def test_a_peer_that_is_dead_is_so_within_a_second_of_our_coming_back(
    mock_clock: MockClock,
) -> None:
    transport, _peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)

    async def run() -> None:
        with pytest.raises(ConnectionProblem, match="no sign of life"):
            await mux.run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        await wait_all_tasks_blocked()
        mock_clock.jump(60)
        await wait_all_tasks_blocked()
        assert not mux.closed
        mock_clock.jump(1)


async def test_a_peer_that_does_not_even_read_is_dead_after_15_seconds(
    autojump_clock: MockClock,
) -> None:
    transport, _peer = memory_stream_pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    mux = Mux(transport, client=True, peer_may_open=False)

    with pytest.raises(ConnectionProblem, match="no sign of life"):
        await mux.run()

    assert trio.current_time() == 15


async def test_an_idle_tunnel_lives_as_long_as_pings_are_answered(
    autojump_clock: MockClock,
) -> None:
    async with tunnel() as (proxy, agent):
        await trio.sleep(3600)

        assert not proxy.closed
        assert not agent.closed
        assert trio.current_time() - proxy.last_heard <= 5
        assert proxy.rtt == 0


async def test_any_byte_is_a_sign_of_life(autojump_clock: MockClock) -> None:
    """A peer busy sending one large frame may not get to its pong in time."""
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=False, peer_may_open=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        await peer.send_all(HEADER.pack(0, DATA, SYN, 1, 1000))
        for _ in range(10):
            await trio.sleep(14)
            await peer.send_all(b"x")
        assert not mux.closed
        nursery.cancel_scope.cancel()


async def test_go_away_lets_open_streams_finish_and_then_ends_the_tunnel_on_both_sides() -> None:
    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        nursery.start_soon(agent.run)
        left, right = await connected(proxy, agent)

        agent.go_away()
        await wait_all_tasks_blocked()
        with pytest.raises(ConnectionProblem, match="closed or closing"):
            proxy.open_stream()
        await left.send_all(b"question")
        assert await right.receive_some() == b"question"
        await right.send_all(b"answer")
        await right.aclose()
        assert await read_to_end(left) == b"answer"
        await wait_all_tasks_blocked()
        assert not proxy.closed
        await left.aclose()

        await proxy.wait_closed()
        await agent.wait_closed()
    with pytest.raises(ConnectionProblem):
        await agent.accept()


async def test_a_stream_opened_just_before_go_away_is_still_served() -> None:
    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        nursery.start_soon(agent.run)
        left = proxy.open_stream()
        await left.send_all(b"last one")
        proxy.go_away()

        async with await agent.accept() as right:
            assert await right.receive_some() == b"last one"
            await right.send_all(b"done")
        assert await read_to_end(left) == b"done"
        await left.aclose()


async def test_a_broken_transport_breaks_every_stream() -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    stream = mux.open_stream()

    async def expect_broken() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_broken)
        await wait_all_tasks_blocked()
        await peer.aclose()
        with pytest.raises(ConnectionProblem, match=r"the peer closed the tunnel|broke"):
            await mux.run()
    assert mux.closed
    with pytest.raises(ConnectionProblem, match="closed or closing"):
        mux.open_stream()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.aclose()
    assert mux.streams == 0


async def test_what_ended_cleanly_can_be_read_after_the_tunnel_is_gone() -> None:
    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run)
        nursery.start_soon(agent.run)
        left, right = await connected(proxy, agent)
        await right.send_all(b"whole answer")
        await right.send_eof()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert await read_to_end(left) == b"whole answer"


async def test_cancelling_run_closes_the_transport() -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    stream = mux.open_stream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    await read_frames(peer)  # comes to an end
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    await mux.wait_closed()


@pytest.mark.parametrize(
    ("code", "said"), [(PROTOCOL_ERROR, "protocol error"), (INTERNAL_ERROR, "internal error")]
)
async def test_a_peer_that_gives_up_is_quoted(code: int, said: str) -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    await peer.send_all(HEADER.pack(0, GO_AWAY, 0, 0, code))

    with pytest.raises(ConnectionProblem, match=f"the peer gave up the tunnel: {said}"):
        await mux.run()


async def test_a_breach_is_answered_by_go_away_within_a_second_though_the_peer_does_not_read(
    autojump_clock: MockClock,
) -> None:
    transport, peer = memory_stream_pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    mux = Mux(transport, client=True, peer_may_open=False)
    await peer.send_all(b"\x01" * HEADER.size)

    with pytest.raises(RemoteProtocolError, match="yamux version 1, expected 0"):
        await mux.run()

    assert trio.current_time() == 1


async def test_frames_queued_in_one_pass_leave_in_one_write() -> None:
    transport, _peer = memory_stream_pair()
    mux = Mux(transport, client=True, peer_may_open=False)
    writes = 0

    async def count() -> None:
        nonlocal writes
        writes += 1
        await trio.lowlevel.checkpoint()

    transport.send_stream.send_all_hook = count
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        await wait_all_tasks_blocked()
        writes = 0

        streams = [mux.open_stream() for _ in range(20)]
        async with trio.open_nursery() as senders:
            for stream in streams:
                senders.start_soon(stream.send_all, b"head")
        await wait_all_tasks_blocked()
        assert writes <= 2  # the opening, should it leave before the data, and the data
        nursery.cancel_scope.cancel()


async def test_an_accepted_stream_is_acknowledged_with_the_first_answer() -> None:
    transport, peer = memory_stream_pair()
    mux = Mux(transport, client=False, peer_may_open=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mux.run)
        await wait_all_tasks_blocked()
        await peer.send_all(HEADER.pack(0, WINDOW_UPDATE, SYN, 1, 0))
        async with await mux.accept() as stream:
            await stream.send_all(b"hi")
            await stream.send_eof()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert (await read_frames(peer))[1:] == [
        (DATA, ACK, 1, 2),
        (WINDOW_UPDATE, FIN, 1, 0),
        (WINDOW_UPDATE, RST, 1, 0),
    ]


async def test_who_needs_no_task_is_told_of_what_came_together_once_and_of_each_end() -> None:
    async with tunnel() as (proxy, agent):
        told: list[tuple[bytes, bool, bool]] = []

        def take(stream: MuxStream) -> None:
            def arrived() -> None:
                came = b"" if stream.is_cut else stream.receive_nowait() or b""
                told.append((came, stream.at_end, stream.is_cut))

            stream.on_arrival = arrived
            arrived()

        agent.take_streams(take)
        assert proxy.open_stream().send_last_nowait(b"all of it")
        await wait_all_tasks_blocked()
        cut = proxy.open_stream()
        await cut.send_all(b"some")
        await wait_all_tasks_blocked()
        cut.reset()
        await wait_all_tasks_blocked()

        assert told == [(b"all of it", True, False), (b"some", False, False), (b"", False, True)]


async def test_streams_that_came_before_are_given_to_who_takes_them() -> None:
    async with tunnel() as (proxy, agent):
        for name in (b"1", b"2"):
            assert proxy.open_stream().send_last_nowait(name)
        await wait_all_tasks_blocked()
        taken: list[bytes] = []
        agent.take_streams(lambda stream: taken.append(stream.receive_nowait() or b""))

        assert taken == [b"1", b"2"]


async def test_a_bug_with_one_stream_ends_that_one_and_not_its_tunnel(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with tunnel() as (proxy, agent):

        def take(stream: MuxStream) -> None:
            stream.on_arrival = None
            if stream.receive_nowait() == b"bug":
                raise RuntimeError("a bug, put there by a test")
            stream.send_last_nowait(b"answer")

        agent.take_streams(take)
        bad, good = proxy.open_stream(), proxy.open_stream()
        assert bad.send_last_nowait(b"bug")
        assert good.send_last_nowait(b"fine")

        assert await good.receive_some() == b"answer"
        with pytest.raises(trio.BrokenResourceError):
            await bad.receive_some()
        assert not agent.closed
    assert "a bug, put there by a test" in caplog.text


async def test_what_has_no_room_is_not_begun() -> None:
    async with tunnel() as (proxy, agent):
        stream = proxy.open_stream()
        assert not stream.send_last_nowait(b"x" * (INITIAL_WINDOW + 1))
        assert stream.send_last_nowait(b"x")

        got = await agent.accept()
        assert await got.receive_some() == b"x"
        assert await got.receive_some() == b""


async def test_what_has_no_room_is_kept_and_leaves_first_as_room_comes() -> None:
    async with tunnel() as (proxy, agent):
        stream = proxy.open_stream()
        told = [False]

        def go_on() -> None:
            told.append(stream.send_nowait(b""))

        stream.on_room = go_on
        assert not stream.send_nowait(b"x" * (INITIAL_WINDOW + 1))
        assert not stream.send_nowait(b"y")
        received = b""
        async with await agent.accept() as got:
            while len(received) < INITIAL_WINDOW + 2:
                received += await got.receive_some()
        assert told[-1]
        stream.on_room = None
        assert received == b"x" * (INITIAL_WINDOW + 1) + b"y"


@pytest.mark.parametrize("by_task", [False, True])
async def test_an_end_does_not_overtake_what_is_kept(by_task: bool) -> None:
    """A task waits for it; who closes at once has cut it."""
    async with tunnel() as (proxy, agent), trio.open_nursery() as nursery:
        stream = proxy.open_stream()
        assert not stream.send_nowait(b"x" * (INITIAL_WINDOW + 1))
        await wait_all_tasks_blocked()
        if by_task:
            nursery.start_soon(stream.send_eof)
        else:
            stream.close()
        got = await agent.accept()
        received = 0
        try:
            while data := await got.receive_some():
                received += len(data)
        except trio.BrokenResourceError:
            received = -1
        assert received == (INITIAL_WINDOW + 1 if by_task else -1)


async def test_a_flow_into_a_tunnel_holds_no_more_than_the_window_and_a_piece() -> None:
    """The peer reads nothing: of an endless source no more is taken than that."""

    class Endless:
        on_arrival: Callable[[], None] | None = None
        given = 0

        def receive_nowait(self) -> bytes:
            self.given += READ_SIZE
            return bytes(READ_SIZE)

    async with tunnel() as (proxy, agent), trio.open_nursery() as nursery:
        source = Endless()
        nursery.start_soon(Flow(source, proxy.open_stream()).run)
        await wait_all_tasks_blocked()
        got = await agent.accept()
        assert INITIAL_WINDOW <= source.given <= INITIAL_WINDOW + READ_SIZE

        for _ in range(20):  # and goes on as it reads
            await got.receive_some()
        await wait_all_tasks_blocked()
        assert source.given > INITIAL_WINDOW + READ_SIZE
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["receive_data", "data_to_send"])
async def test_a_bug_in_the_tunnel_itself_ends_it_and_is_raised(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError("a bug, put there by a test")

    async def run_proxy() -> None:
        with pytest.raises(ZeroDivisionError):
            await proxy.run()

    async def run_agent() -> None:
        with suppress(ConnectionProblem):
            await agent.run()

    proxy, agent = mux_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_proxy)
        nursery.start_soon(run_agent)
        await wait_all_tasks_blocked()
        monkeypatch.setattr(proxy._connection, way, bug)
        agent.go_away()  # something comes
        proxy.go_away()  # something is to be sent
