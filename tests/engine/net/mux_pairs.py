"""Two ends of a tunnel over memory streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import (
    memory_stream_pair,
    wait_all_tasks_blocked,
)

from tport.engine.net.mux import Mux
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.receive_window import WindowBudget
from tport.engine.proto.yamux import (
    DATA,
    HEADER,
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
