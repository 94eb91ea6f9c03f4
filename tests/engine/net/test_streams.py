import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import (
    MockClock,
    check_half_closeable_stream,
    check_two_way_stream,
    lockstep_stream_pair,
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from tport.engine.net.flow import HALF_CLOSED, relay
from tport.engine.net.streams import PrefixedStream

Pair = tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]


async def prefixed_pair() -> Pair:
    await trio.lowlevel.checkpoint()
    one, other = memory_stream_pair()
    return PrefixedStream(b"", one), PrefixedStream(b"", other)


async def clogged_pair() -> Pair:
    await trio.lowlevel.checkpoint()
    one, other = lockstep_stream_pair()
    return PrefixedStream(b"", one), PrefixedStream(b"", other)


async def test_a_prefixed_stream_is_a_trio_stream_in_every_respect() -> None:
    await check_half_closeable_stream(prefixed_pair, None)  # trio's lockstep streams fail there
    await check_two_way_stream(prefixed_pair, clogged_pair)


@given(prefix=st.binary(max_size=30), sizes=st.lists(st.integers(1, 12)))
async def test_bytes_read_already_come_first_however_one_asks(
    prefix: bytes, sizes: list[int]
) -> None:
    here, there = memory_stream_pair()
    await there.send_all(b"after")
    await there.send_eof()
    stream, received = PrefixedStream(prefix, here), b""

    for size in sizes:
        received += await stream.receive_some(size)
    while data := await stream.receive_some():
        received += data

    assert received == prefix + b"after"


async def test_a_closed_stream_gives_nothing_away() -> None:
    here, _ = memory_stream_pair()
    stream = PrefixedStream(b"secret", here)
    await stream.aclose()

    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


async def test_a_relay_passes_on_bytes_and_ends_both_ways() -> None:
    client, a = memory_stream_pair()
    b, server = memory_stream_pair()
    counts: list[tuple[int, int]] = []

    async def relaying() -> None:
        counts.append(await relay(a, b))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relaying)
        await client.send_all(b"ping")
        await client.send_eof()
        assert await server.receive_some() == b"ping"
        assert await server.receive_some() == b""
        await server.send_all(b"pong!")
        assert await client.receive_some() == b"pong!"
        await server.send_eof()
        assert await client.receive_some() == b""

    assert counts == [(4, 5)]


async def test_a_relay_whose_one_side_breaks_closes_the_other() -> None:
    client, a = memory_stream_pair()
    b, server = memory_stream_pair()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, a, b)
        await wait_all_tasks_blocked()
        await client.aclose()
        await server.send_all(b"for nobody")
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BrokenResourceError):
            await server.send_all(b"x")


async def test_half_a_relay_does_not_stay_for_ever(autojump_clock: MockClock) -> None:
    client, a = memory_stream_pair()
    b, _ = memory_stream_pair()
    await client.send_eof()

    await relay(a, b)

    assert trio.current_time() == pytest.approx(HALF_CLOSED)


async def test_a_relay_holds_no_more_than_it_reads_at_once() -> None:
    """A receiver that stops stops the sender."""
    client, a = lockstep_stream_pair()
    b, _ = lockstep_stream_pair()
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await client.send_all(bytes(10_000))
            sent += 10_000

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, a, b)
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    assert sent <= 70_000


async def test_a_cancelled_relay_closes_both() -> None:
    client, a = memory_stream_pair()
    b, server = memory_stream_pair()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, a, b)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()

    for end in (client, server):
        assert await end.receive_some() == b""
