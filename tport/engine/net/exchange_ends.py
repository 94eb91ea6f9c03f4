"""The client of an exchange as an end of flows: its body, its answer, and what follows an upgrade."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from tport.engine.net.http1_wire import ClientEnd, ClientGone, Wire

if TYPE_CHECKING:
    from tport.engine.net.exchange import Exchange


class UpgradedStream(trio.abc.Stream):
    """A connection that has left HTTP. The bytes read before that come first."""

    def __init__(self, wire: Wire, exchange: Exchange) -> None:
        """`exchange`: it counts the bytes."""
        self._wire = wire
        self._exchange = exchange

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self._receive_some(max_bytes)
        self._exchange.received += len(data)
        return data

    async def _receive_some(self, max_bytes: int | None) -> bytes:
        if self._wire.buffer:
            await trio.lowlevel.checkpoint()
            data = bytes(self._wire.buffer[:max_bytes])
            del self._wire.buffer[: len(data)]
            return data
        try:
            data = await self._wire.receive()
        except ClientGone as gone:
            raise trio.BrokenResourceError from gone
        if max_bytes is not None and len(data) > max_bytes:
            self._wire.buffer += data[max_bytes:]
            data = data[:max_bytes]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it; a client that takes nothing for long ends the whole connection."""
        try:
            await self._wire.send(data)
        except ClientGone as gone:
            raise trio.BrokenResourceError from gone
        self._exchange.sent += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._wire.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._wire.aclose()

    @asynccontextmanager
    async def open_end(self) -> AsyncIterator[UpgradedEnd]:
        """Give it as an end of flows, see `Wire.open_end`."""
        async with self._wire.open_end() as client:
            yield UpgradedEnd(self._exchange, client)


class _End:
    """An end of flows that works by that of the client."""

    def __init__(self, exchange: Exchange, client: ClientEnd) -> None:
        self._exchange = exchange
        self._client = client

    @property
    def on_arrival(self) -> Callable[[], None] | None:
        return self._client.on_arrival

    @on_arrival.setter
    def on_arrival(self, told: Callable[[], None] | None) -> None:
        self._client.on_arrival = told

    @property
    def on_room(self) -> Callable[[], None] | None:
        return self._client.on_room

    @on_room.setter
    def on_room(self, told: Callable[[], None] | None) -> None:
        self._client.on_room = told


class UpgradedEnd(_End):
    """A connection that has left HTTP, as an end of flows; the exchange counts the bytes."""

    def receive_nowait(self) -> bytes | None:
        try:
            data = self._client.receive_nowait()
        except ClientGone as gone:
            raise trio.BrokenResourceError from gone
        if data:
            self._exchange.received += len(data)
        return data

    def send_nowait(self, data: bytes) -> bool:
        try:
            all_left = self._client.send_nowait(data)
        except ClientGone as gone:
            raise trio.BrokenResourceError from gone
        self._exchange.sent += len(data)
        return all_left

    async def send_all(self, data: bytes) -> None:
        """Send, and wait until the client has taken it."""
        self.send_nowait(data)
        try:
            await self._client.flush()
        except ClientGone as gone:
            raise trio.BrokenResourceError from gone


class BodySource(_End):
    """A request's body, as it comes, under the rule of `_receive_paced`."""

    _until = math.inf  # trio's time by which something is to come; inf: nobody waits for it

    def receive_nowait(self) -> bytes | None:
        exchange, payload = self._exchange, b""
        while not (payload or exchange.body_done):
            if (data := self._client.receive_nowait()) is None:
                if self._until == math.inf:
                    self._until = trio.current_time() + exchange._body_left
                    self._client.read_by(self._until)
                return None
            if self._until != math.inf:
                exchange._body_left = self._until - trio.current_time()
                self._until = math.inf
                self._client.read_by(math.inf)
            exchange._note_pace(len(data))
            payload = exchange._payload_in(data)
        return payload


class AnswerSink(_End):
    """An answer's body, on its way to the client."""

    def __init__(self, exchange: Exchange, client: ClientEnd, at_end: Callable[[], bool]) -> None:
        super().__init__(exchange, client)
        self._at_end = at_end
        self.is_ended = False

    def send_nowait(self, data: bytes) -> bool:
        if self._exchange.aborted:
            raise ClientGone("the answer was aborted")
        if data:
            self.is_ended = self._at_end()
            data = bytes(self._exchange._framed(data, end=self.is_ended))
        return self._client.send_nowait(data)
