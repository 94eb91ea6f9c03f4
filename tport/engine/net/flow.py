"""Bytes that go on and on: carried from one end to the other by plain calls, as they come.

    source has news ──► receive_nowait ──► send_nowait ──► all of it left: the next piece
                             ▲                                │ not all of it
                             └──────── on_room ◄──────────────┘ nothing more is received till then

A task that waits for each piece would wake twice for it, once to receive and once to have sent. So
a flow's task only owns it: it waits for the end, for what went wrong, and to be cancelled. What
doesn't fit is kept by the sink, a piece at most, and until it has left nothing is received: who
sends waits for who takes.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Protocol

import trio

from tport.engine.defaults import READ_SIZE
from tport.engine.net.mux_stream import MuxStream
from tport.engine.net.sockets import prompt_of
from tport.engine.net.waiter import Waiter

TURN: Final = 4  # pieces in a row, before others have their turn: 256 KiB, some 0.3 ms
HALF_CLOSED: Final = 30.0  # s that one way of a relay may go on after the other has ended


class Source(Protocol):
    """Where bytes come from: as `Prompt`, of which it is a half."""

    on_arrival: Callable[[], None] | None

    def receive_nowait(self) -> bytes | None: ...


class Sink(Protocol):
    """Where bytes go: as `Prompt`, of which it is the other half."""

    on_room: Callable[[], None] | None

    def send_nowait(self, data: bytes) -> bool: ...


class End(Source, Sink, Protocol):
    """Both of them."""

    def receive_nowait(self, max_bytes: int = READ_SIZE, /) -> bytes | None: ...

    async def flush(self) -> None:
        """Wait until what `send_nowait` kept has left."""


class Silent(Exception):
    """The source had nothing to say for longer than it may."""


class Flow:
    """One way from a source to a sink. For its time, no task may receive there, or send here."""

    def __init__(
        self, source: Source, sink: Sink, on_piece: Callable[[bytes], object] | None = None
    ) -> None:
        """`on_piece`: is told of each piece before it is sent; what it raises ends the flow."""
        self._source = source
        self._sink = sink
        self._on_piece = on_piece
        self._blocked = False  # the sink keeps something
        self._others_first = False  # there may be more; the task goes on, after other tasks
        self._over = False
        self._problem: Exception | None = None
        self._moved_at = math.inf  # trio's time, where somebody wants to know
        self._news = Waiter()

    async def run(self, patience: float = math.inf) -> None:
        """Carry all there is; return at the source's end, when everything has left the sink.

        What is cut short may leave a piece behind in the sink: it leaves before anything else.

        Args:
            patience: s that the source may be silent, while the sink takes what comes.

        Raises:
            Silent: it was, for longer.
            Exception: whatever source or sink raised.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._moved_at = math.inf if patience == math.inf else trio.current_time()
        self._source.on_arrival, self._sink.on_room = self._arrived, self._room
        try:
            self._blocked = not self._sink.send_nowait(b"")
            self._arrived()
            while not self._over:
                if not self._others_first:
                    with trio.move_on_at(self._moved_at + patience):
                        await self._news.wait()
                if self._others_first:
                    await trio.lowlevel.checkpoint()
                    self._others_first = False
                    self._arrived()
                elif trio.current_time() >= self._moved_at + patience:
                    if not self._blocked and not self._over:
                        raise Silent(f"for {patience:g} s")
                    self._moved_at = trio.current_time()
        finally:
            self._source.on_arrival = self._sink.on_room = None
            self._over = True
        if self._problem is not None:
            raise self._problem

    def _arrived(self) -> None:
        if not (self._blocked or self._others_first or self._over):
            self._go()

    def _room(self) -> None:
        if not self._blocked or self._over:
            return
        try:
            if not self._sink.send_nowait(b""):
                return
        except Exception as problem:
            self._end(problem)
            return
        self._blocked = False
        if self._moved_at != math.inf:
            self._moved_at = trio.current_time()
        self._arrived()

    def _go(self) -> None:
        """Pass on what is there."""
        receive, send, told = self._source.receive_nowait, self._sink.send_nowait, self._on_piece
        try:
            for _ in range(TURN):
                if (data := receive()) is None:
                    return
                if not data:
                    self._end(None)
                    return
                if self._moved_at != math.inf:
                    self._moved_at = trio.current_time()
                if told is not None:
                    told(data)
                if not send(data):
                    self._blocked = True
                    return
        except Exception as problem:  # whatever it is: the owner's to judge
            self._end(problem)
            return
        self._others_first = True
        self._news.wake()

    def _end(self, problem: Exception | None) -> None:
        self._over, self._problem = True, problem
        self._news.wake()


async def relay(a: trio.abc.Stream, b: trio.abc.Stream) -> tuple[int, int]:
    """Carry bytes both ways until both have ended or either broke, and close both.

    An end on one side is passed on as an end, and the other way then has HALF_CLOSED seconds;
    where the other side knows no half-close (TLS), it ends both. At most READ_SIZE bytes are
    held a way: who sends waits for who receives.

    Returns:
        The bytes carried from `a` to `b`, and from `b` to `a`.
    """
    counts = [0, 0]

    async def carry(way: int, source: Source, sink: Sink, target: trio.abc.Stream) -> None:
        def count(piece: bytes) -> None:
            counts[way] += len(piece)

        try:
            await Flow(source, sink, count).run()
            if isinstance(target, trio.abc.HalfCloseableStream):
                await target.send_eof()
            else:
                nursery.cancel_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            nursery.cancel_scope.cancel()
        else:
            nursery.cancel_scope.deadline = trio.current_time() + HALF_CLOSED

    async with a, b, open_end(a) as end_a, open_end(b) as end_b, trio.open_nursery() as nursery:
        nursery.start_soon(carry, 0, end_a, end_b, b)
        nursery.start_soon(carry, 1, end_b, end_a, a)
    return counts[0], counts[1]


# --- Ends of which tasks have to take care ---------------------------------------------------------


@asynccontextmanager
async def open_end(stream: trio.abc.Stream) -> AsyncIterator[End]:
    """Give the stream as an end of flows; where it can't be used without a task, two tasks help.

    Leave the block only when `flush` was called, or nothing that is on its way matters any more.
    """
    prompt: End | None = stream if isinstance(stream, MuxStream) else prompt_of(stream)
    if prompt is not None:
        yield prompt
        return
    helped = _Helped(stream)
    problem: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(helped.receive)
        nursery.start_soon(helped.send)
        try:
            yield helped
        except Exception as error:  # as it is, not in a group
            problem = error
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem


class _Helped:
    """Any stream, as one that is used without a task: see `tcp.Prompt`."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.on_arrival: Callable[[], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self._stream = stream
        self._got: bytes | Exception | None = None
        self._is_asked = False  # nothing is read that nobody asked for
        self._unsent = b""
        self._broken: Exception | None = None
        self._asked, self._queued, self._flushed = Waiter(), Waiter(), trio.Event()

    def receive_nowait(self, _max_bytes: int = READ_SIZE) -> bytes | None:
        got = self._got
        if got is None:
            self._is_asked = True
            self._asked.wake()
        elif isinstance(got, Exception):
            raise got
        elif got:
            self._got = None
        return got

    async def receive(self) -> None:
        while True:
            if not self._is_asked:
                await self._asked.wait()
            self._is_asked = False
            try:
                self._got = bytes(await self._stream.receive_some(READ_SIZE))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
                self._got = problem
            if self.on_arrival is not None:
                self.on_arrival()

    def send_nowait(self, data: bytes | bytearray | memoryview) -> bool:
        if self._broken is not None:
            raise self._broken
        if data:
            self._unsent += data
            self._queued.wake()
        return not self._unsent

    async def send(self) -> None:
        while True:
            if not self._unsent:
                await self._queued.wait()
            data = self._unsent
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
                self._broken = problem
            self._unsent = self._unsent[len(data) :]
            if not self._unsent or self._broken is not None:
                self._flushed.set()
                self._flushed = trio.Event()
                if self.on_room is not None:
                    self.on_room()
            if self._broken is not None:
                return

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.send_nowait(b""):
            await self._flushed.wait()
