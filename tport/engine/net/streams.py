"""Streams over streams: one that begins with bytes already read, and two joined into one."""

from __future__ import annotations

from typing import Final

import trio

from tport.engine.defaults import READ_SIZE
from tport.engine.net.mux_stream import MuxStream

HALF_CLOSED: Final = 30.0  # s that one way may go on after the other has ended


class PrefixedStream(trio.abc.HalfCloseableStream):
    """`transport`, and before its first byte those that were read from it already.

    It owns the transport.
    """

    def __init__(self, prefix: bytes, transport: trio.abc.HalfCloseableStream) -> None:
        self._prefix = prefix
        self.transport = transport

    def take_prefix(self) -> bytes:
        """Hand over what has not been received yet; from now on this is only the transport."""
        prefix, self._prefix = self._prefix, b""
        return prefix

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._prefix:
            return await self.transport.receive_some(max_bytes)
        if max_bytes is not None and max_bytes < 1:
            raise ValueError("max_bytes must be >= 1")
        await trio.lowlevel.checkpoint()
        data = self._prefix[:max_bytes]
        self._prefix = self._prefix[len(data) :]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.transport.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self.transport.send_eof()

    async def aclose(self) -> None:
        self._prefix = b""  # closed is closed: the transport says so to who still receives
        await self.transport.aclose()


async def relay(a: trio.abc.Stream, b: trio.abc.Stream) -> tuple[int, int]:
    """Carry bytes both ways until both have ended or either broke, and close both.

    An end on one side is passed on as an end, and the other way then has HALF_CLOSED seconds;
    where the other side knows no half-close (TLS), it ends both. At most READ_SIZE bytes are
    held a way: who sends waits for who receives.

    Returns:
        The bytes carried from `a` to `b`, and from `b` to `a`.
    """
    counts = [0, 0]

    async def carry(way: int, source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        try:
            while data := bytes(await source.receive_some(READ_SIZE)):
                if not (isinstance(sink, MuxStream) and sink.send_nowait(data)):
                    await sink.send_all(data)
                counts[way] += len(data)
            if isinstance(sink, trio.abc.HalfCloseableStream):
                await sink.send_eof()
            else:
                nursery.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            nursery.cancel_scope.cancel()
        else:
            nursery.cancel_scope.deadline = trio.current_time() + HALF_CLOSED

    async with a, b, trio.open_nursery() as nursery:
        nursery.start_soon(carry, 0, a, b)
        nursery.start_soon(carry, 1, b, a)
    return counts[0], counts[1]
