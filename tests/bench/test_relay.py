"""A line of some length, in a clock of its own."""

from __future__ import annotations

import trio
from trio.testing import memory_stream_pair

from bench.relay import IN_FLIGHT, carry


async def test_what_is_said_arrives_a_delay_late(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    client, near = memory_stream_pair()
    far, server = memory_stream_pair()
    nursery.start_soon(carry, near, far, 0.025)
    start = trio.current_time()
    await client.send_all(b"hello")
    assert await server.receive_some() == b"hello"
    assert trio.current_time() - start == 0.025


async def test_the_end_arrives_too(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    client, near = memory_stream_pair()
    far, server = memory_stream_pair()
    nursery.start_soon(carry, near, far, 0.025)
    await client.send_all(b"bye")
    await client.send_eof()
    assert await server.receive_some() == b"bye"
    assert await server.receive_some() == b""


async def test_a_round_trip_carries_no_more_than_what_is_in_flight(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    client, near = memory_stream_pair()
    far, server = memory_stream_pair()
    nursery.start_soon(carry, near, far, 0.025)
    nursery.start_soon(client.send_all, bytes(3 * IN_FLIGHT))
    start = trio.current_time()
    taken = 0
    while taken < 3 * IN_FLIGHT:
        taken += len(await server.receive_some())
    # The first window comes after one way, each further one a round trip later.
    assert 0.125 <= trio.current_time() - start < 0.18
