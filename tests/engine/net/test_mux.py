"""The tunnel's multiplexer over memory streams; time is trio's autojump clock."""

from __future__ import annotations

import random

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

from tests.engine.net.mux_pairs import (
    clog,
    connected,
    read_frames,
    read_to_end,
    running,
    tunnel,
)
from tport.engine.defaults import INITIAL_WINDOW, MAX_STREAM_QUEUE, TUNNEL_QUEUE
from tport.engine.errors import LimitExceeded
from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.receive_window import WindowBudget
from tport.engine.proto.yamux import (
    ACK,
    DATA,
    FIN,
    HEADER,
    MAX_FRAME,
    RST,
    SLACK,
    SYN,
    WINDOW_UPDATE,
)

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


# --- what leaves, and when ---------------------------------------------------------------------------


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
