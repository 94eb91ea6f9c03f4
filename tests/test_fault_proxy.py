"""The network that tests make bad does what it is told, and nothing else."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.fault_proxy import FaultProxy, open_fault_proxy
from tests.stack import read_all


@asynccontextmanager
async def open_echo(seed: int = 0) -> AsyncIterator[FaultProxy]:
    """A port that sends back what it gets, and the line in front of it."""

    async def echo(stream: trio.SocketStream) -> None:
        try:
            async for data in stream:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            pass  # reset, as some tests want it

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, host="127.0.0.1"), echo, 0)
        async with open_fault_proxy(listener.socket.getsockname()[1], seed) as line:
            yield line
        nursery.cancel_scope.cancel()


async def exactly(stream: trio.SocketStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some()
        assert more, f"ended after {data!r}"
        data += more
    return data


async def test_what_is_told_nothing_passes_as_it_is_with_its_ends() -> None:
    body = random.Random(3).randbytes(1_000_000)
    async with open_echo() as line, await trio.open_tcp_stream("127.0.0.1", line.port) as client:

        async def send() -> None:
            await client.send_all(body)
            await client.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            found = await read_all(client)

    assert found == body
    assert line.up.carried == line.down.carried == len(body)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_what_is_held_comes_when_the_line_is_whole_again(way: str) -> None:
    async with open_echo() as line, await trio.open_tcp_stream("127.0.0.1", line.port) as client:
        held = getattr(line, way)
        held.hold()
        await client.send_all(b"x")
        with trio.move_on_after(0.1):
            await client.receive_some()
            raise AssertionError("it came through")
        held.resume()

        assert await exactly(client, 1) == b"x"


async def test_a_reset_is_one_on_both_sides() -> None:
    async with open_echo() as line, await trio.open_tcp_stream("127.0.0.1", line.port) as client:
        await client.send_all(b"x")
        await exactly(client, 1)
        line.reset()
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
        await wait_all_tasks_blocked()
        assert len(line) == 0


async def test_what_refuses_resets_who_dials() -> None:
    async with open_echo() as line:
        line.refuses = True
        async with await trio.open_tcp_stream("127.0.0.1", line.port) as client:
            with pytest.raises(trio.BrokenResourceError):
                await client.receive_some()
    assert line.dials == 1


async def test_a_forgotten_connection_is_never_heard_of_again_and_a_new_one_is() -> None:
    async with open_echo() as line, await trio.open_tcp_stream("127.0.0.1", line.port) as client:
        await client.send_all(b"x")
        await exactly(client, 1)
        line.forget()
        await client.send_all(b"y")
        async with await trio.open_tcp_stream("127.0.0.1", line.port) as other:
            await other.send_all(b"z")
            assert await exactly(other, 1) == b"z"
        with trio.move_on_after(0.1):
            await client.receive_some()
            raise AssertionError("it was heard of")


async def test_half_of_a_connection_can_be_ended() -> None:
    async with open_echo() as line, await trio.open_tcp_stream("127.0.0.1", line.port) as client:
        await client.send_all(b"x")
        await exactly(client, 1)
        line.end(line.down)
        assert await client.receive_some() == b""
        await client.send_all(b"y")  # the other half stands


async def test_bits_are_turned_over_one_in_a_piece_and_the_same_for_the_same_seed() -> None:
    async def passed(seed: int) -> list[bytes]:
        pieces = []
        async with open_echo(seed) as line:
            async with await trio.open_tcp_stream("127.0.0.1", line.port) as client:
                line.up.flips = 0.5
                for _ in range(20):
                    await client.send_all(bytes(8))
                    pieces.append(await exactly(client, 8))
            assert line.up.flipped == sum(piece != bytes(8) for piece in pieces)
        return pieces

    first = await passed(5)

    assert await passed(5) == first
    assert await passed(6) != first
    assert {sum(byte.bit_count() for byte in piece) for piece in first} == {0, 1}


async def test_delay_and_rate_are_kept() -> None:
    async with open_echo() as line, await trio.open_tcp_stream("127.0.0.1", line.port) as client:
        line.up.delay, line.down.rate = 0.05, 1000.0
        began = trio.current_time()
        await client.send_all(bytes(50))
        await exactly(client, 50)
        assert trio.current_time() - began >= 0.1
