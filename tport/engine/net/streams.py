"""A stream that begins with bytes already read."""

from __future__ import annotations

import trio


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
