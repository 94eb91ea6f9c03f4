"""The bytes of one HTTP/1.1 connection under one deadline that moves, whoever waits for what.

A timeout around each receive would cost 30 µs a request. So the connection runs in one cancel
scope, and reading and writing only say until when they are willing to wait; past that the scope
ends whatever the connection is doing.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import trio

from tport.engine.defaults import (
    BODY_GRACE,
    BODY_RATE,
    BODY_WINDOW,
    HEAD_DEADLINE,
    IDLE_TIMEOUT,
    LINGER,
    READ_SIZE,
    SEND_RATE,
    STALL_TIMEOUT,
    UNREAD_BODY,
)
from tport.engine.errors import TportError
from tport.engine.net.flow import End, open_end
from tport.engine.net.sockets import prompt_of
from tport.engine.net.tcp import STREAK

PIECE: Final = 64 * 1024  # bytes a send; a stalled peer is noticed piece by piece


class Limits(msgspec.Struct, frozen=True):
    """How long and for how much a connection waits (DOS-01, HTTP-10). Seconds and bytes.

    Attributes:
        head: for a whole head, from its first byte.
        idle: for the first byte of a request.
        body_grace: before the rate of a body counts.
        body_window: over which the rate is averaged.
        body_rate: least bytes a second of a body.
        stall: without any progress while sending.
        send_rate: least bytes a second that a client must take.
        drain: of a body that nobody read, to keep the connection.
        linger: after a last answer, for the client to read it.
    """

    head: float = HEAD_DEADLINE
    idle: float = IDLE_TIMEOUT
    body_grace: float = BODY_GRACE
    body_window: float = BODY_WINDOW
    body_rate: int = BODY_RATE
    stall: float = STALL_TIMEOUT
    send_rate: int = SEND_RATE
    drain: int = UNREAD_BODY
    linger: float = LINGER


class ClientGone(TportError):
    """The client closed the connection, or broke it. There is nobody to tell."""


class Drain:
    """Ends the connections of a service: idle ones at once, busy ones with their next answer.

    Attributes:
        is_patient: who has just connected, and asked nothing yet, may still ask once.
    """

    def __init__(self) -> None:
        self.begun = False
        self.is_patient = False
        self._idle: set[Callable[[], None]] = set()

    def begin(self, *, patiently: bool = False) -> None:
        """End them. `patiently`: but for those new ones, which `lose_patience` ends."""
        self.begun, self.is_patient = True, patiently
        for end in list(self._idle):
            end()

    def lose_patience(self) -> None:
        self.begin()

    def enter_idle(self, end: Callable[[], None]) -> None:
        """Call `end` when the service stops, or at once if it does already.

        It need not end a connection on which nothing was asked while this `is_patient`: then it
        is called again.
        """
        self._idle.add(end)
        if self.begun:
            end()

    def leave_idle(self, end: Callable[[], None]) -> None:
        self._idle.discard(end)


class Wire:
    """A stream, what was read ahead of it, and the deadlines of its two directions.

    Attributes:
        buffer: bytes received and not yet understood.
        torn: a send was not completed: nothing that follows would be understood.
        prompt: the stream for who uses it without a task; None: it can't be.
        unsent: something that was sent without waiting has not left yet: `flush` it.
        scope: in which whoever waits here does so; set before a task does.
    """

    scope: trio.CancelScope

    def __init__(self, stream: trio.abc.Stream, limits: Limits) -> None:
        self.buffer = bytearray()
        self.torn = False
        self.prompt = prompt_of(stream)
        self.unsent = False
        self._stream = stream
        self._limits = limits
        self._streak = 0  # of what was received without waiting
        self._read_by = math.inf
        self._write_by = math.inf

    @property
    def waits_for_client(self) -> bool:
        """Whether somebody waits, with a deadline, for the client to send or to take something."""
        return self._read_by != math.inf or self._write_by != math.inf

    async def receive(self, until: float = math.inf) -> bytes:
        """Return the next bytes, b"" once the client has closed its side.

        Args:
            until: when the connection ends if nothing came, on trio's clock.

        Raises:
            ClientGone: the connection broke.
        """
        if (data := await self._receive_at_once()) is not None:
            return data
        self._read_by = until
        self._move()
        try:
            return bytes(await self._stream.receive_some(READ_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone("the client broke the connection") from None
        finally:
            self._read_by = math.inf
            self._move()

    async def _receive_at_once(self) -> bytes | None:
        """Return what is there already, which needs no deadline; None: nothing is."""
        if self.prompt is None or not self.prompt.may_have_come:
            return None
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            data = self.prompt.receive_nowait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone("the client broke the connection") from None
        self._streak += 1
        if data is None or self._streak >= STREAK:  # others want to run, too
            self._streak = 0
        if data is not None and not self._streak:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return data

    def take_buffer(self) -> bytes:
        """Return what was read ahead, once."""
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, as long as the client takes it at some rate.

        Raises:
            ClientGone: it doesn't want it.
        """
        self.torn = True
        try:
            if len(data) <= PIECE:
                await self._send_piece(data)
            else:
                with memoryview(data) as view:
                    for start in range(0, len(view), PIECE):
                        await self._send_piece(view[start : start + PIECE])
            self.torn = False
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone("the client broke the connection") from None
        finally:
            if self._write_by != math.inf:
                self._write_by = math.inf
                self._move()

    def send_nowait(self, data: bytes, *, last: bool = False) -> None:
        """Send without waiting; only where there is a `prompt`. `last`: the connection ends with it.

        Raises:
            ClientGone: it doesn't want it.
        """
        assert self.prompt is not None, "a stream that needs a task"
        self.torn = True
        try:
            send = self.prompt.send_last if last else self.prompt.send_nowait
            self.unsent = not send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone("the client broke the connection") from None
        self.torn = False

    async def flush(self) -> None:
        """Wait until what `send_nowait` kept has left.

        Raises:
            ClientGone: it doesn't want it.
        """
        if self.prompt is not None and self.unsent:
            self.torn = True
            self._write_by = (
                trio.current_time() + self._limits.stall + PIECE / self._limits.send_rate
            )
            self._move()
            try:
                await self.prompt.flush()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise ClientGone("the client broke the connection") from None
            finally:
                self._write_by = math.inf
                self._move()
            self.unsent = self.torn = False

    @asynccontextmanager
    async def open_end(self) -> AsyncIterator[ClientEnd]:
        """Give the connection as an end of flows, under the same deadlines.

        Nothing that the client has to get may be under way in it when the block is left.
        """
        async with open_end(self._stream) as end:
            client = ClientEnd(self, end)
            try:
                yield client
            finally:
                client.wait_no_more()

    async def _send_piece(self, data: bytes | bytearray | memoryview) -> None:
        if self.prompt is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self.prompt.send_nowait(data):
                return  # nearly always there is room, and no need for a deadline
        # A stream can't tell how far it got: allow for the piece's own time at the least rate.
        limits = self._limits
        self._write_by = trio.current_time() + limits.stall + len(data) / limits.send_rate
        self._move()
        if self.prompt is not None:
            await self.prompt.flush()
        else:
            await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _move(self) -> None:
        by = min(self._read_by, self._write_by)
        if by != self.scope.deadline:
            self.scope.deadline = by


class ClientEnd:
    """The client, as an end of flows; see `Wire.open_end`. It raises ClientGone when it has gone."""

    def __init__(self, wire: Wire, end: End) -> None:
        self._wire = wire
        self._end = end
        self._reads = self._writes = False  # a deadline for it is set

    @property
    def on_arrival(self) -> Callable[[], None] | None:
        return self._end.on_arrival

    @on_arrival.setter
    def on_arrival(self, told: Callable[[], None] | None) -> None:
        self._end.on_arrival = told

    @property
    def on_room(self) -> Callable[[], None] | None:
        return self._end.on_room

    @on_room.setter
    def on_room(self, told: Callable[[], None] | None) -> None:
        self._end.on_room = told

    def receive_nowait(self) -> bytes | None:
        """Return what has come, what was read ahead first; b"" at the end, None for nothing."""
        if self._wire.buffer:
            return self._wire.take_buffer()
        try:
            return self._end.receive_nowait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone("the client broke the connection") from None

    def send_nowait(self, data: bytes) -> bool:
        try:
            all_left = self._end.send_nowait(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone("the client broke the connection") from None
        if data or all_left:
            self._note_sent(all_left, len(data))
        return all_left

    def read_by(self, until: float) -> None:
        """End the connection at `until`, on trio's clock, unless this is called again before."""
        self._reads = until != math.inf
        self._wire._read_by = until
        self._wire._move()

    def _note_sent(self, all_left: bool, size: int) -> None:
        """Give the client its time to take what it has not taken yet."""
        wire = self._wire
        wire.torn = not all_left
        if not all_left:
            limits = wire._limits
            wire._write_by = trio.current_time() + limits.stall + size / limits.send_rate
        elif not self._writes:
            return
        else:
            wire._write_by = math.inf
        self._writes = not all_left
        wire._move()

    def wait_no_more(self) -> None:
        """Lift the deadlines that were set here."""
        if self._reads:
            self.read_by(math.inf)
        if self._writes:
            self._wire._write_by = math.inf
            self._wire._move()

    async def flush(self) -> None:
        """Wait until the client has taken what was sent."""
        try:
            await self._end.flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone("the client broke the connection") from None
        self._note_sent(True, 0)
