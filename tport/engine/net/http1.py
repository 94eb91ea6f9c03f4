"""One HTTP/1.1 connection, served: heads read strictly, answered in turn, ended cleanly.

read a head ──► handle(exchange) ──► read the next
    │ bad          │ fails                │ none within the limits
    ▼              ▼                      ▼
  refuse       on_error, or cut         close

By a task from its beginning to its end (`serve_http1`), or by one only where that is needed: where
requests can be taken without (`open_http1`, see `turns`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

import trio

from tport.engine.defaults import MAX_HEAD, STRANGER_REQUESTS
from tport.engine.errors import RemoteProtocolError, TportError, leaves
from tport.engine.net.exchange import Exchange, Seal
from tport.engine.net.http1_wire import ClientGone, Drain, Limits, Wire
from tport.engine.net.seats import Seat
from tport.engine.net.sockets import cut
from tport.engine.net.turns import Answer, Begun, Turns
from tport.engine.proto.fields import Headers
from tport.engine.proto.framing import of_length
from tport.engine.proto.head import RequestHead, find_head_end, parse_request_head
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proto.head_writer import write_response_head

__all__ = ["ClientGone", "Drain", "Exchange", "Limits", "open_http1", "plain_page", "serve_http1"]

logger = logging.getLogger(__name__)

Take = Callable[[Exchange, Turns], bool]
# Tells whether the connection goes on without a task. Else it is over; raising says the same.
Work = Callable[[], Awaitable[bool]]
OnError = Callable[[Exchange, TportError], Awaitable[None]]
Page = tuple[Headers, bytes]  # headers and body of an answer
_Ending = Literal["close", "linger", "cut"]

_SLOW = BadHead("the request took too long to arrive", 408)


def plain_page(problem: TportError) -> Page:
    """Return the answer for people and programs where there is no better one."""
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return headers, f"{problem}\n".encode()


async def respond_plainly(exchange: Exchange, error: TportError) -> None:
    headers, body = plain_page(error)
    await exchange.respond(error.status, headers, body)


async def serve_http1(
    stream: trio.abc.Stream,
    handle: Answer,
    *,
    on_error: OnError = respond_plainly,
    refusal: Callable[[BadHead], Page] = plain_page,
    limits: Limits = Limits(),
    drain: Drain | None = None,
    seal: Seal | None = None,
    seat: Seat | None = None,
) -> None:
    """Serve one connection until it ends. The stream is closed on every way out.

    Args:
        handle: answers one request. What it raises before the head is sent becomes an answer:
            a TportError by `on_error`, anything else is logged and is a 500. Later it cuts the
            connection, so that half an answer is never taken for a whole one.
        refusal: the page for a request that can't be believed; the connection ends with it.
        drain: ends the connection when the service stops.
        seal: has the last word on the headers of every answer.
        seat: where the connection ends early when it rests and others need the room.
    """
    connection = _Connection(
        stream,
        handle,
        on_error=on_error,
        refusal=refusal,
        limits=limits,
        drain=drain or Drain(),
        seal=seal,
        seat=seat,
    )
    try:
        await connection.serve()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise


def open_http1(
    stream: trio.abc.Stream,
    handle: Answer,
    take: Take,
    *,
    by_task: Callable[[Work], None],
    closed: Callable[[], None],
    on_error: OnError = respond_plainly,
    refusal: Callable[[BadHead], Page] = plain_page,
    limits: Limits = Limits(),
    drain: Drain | None = None,
    seal: Seal | None = None,
    seat: Seat | None = None,
) -> Callable[[], None]:
    """Serve one connection, without a task as long as none is needed: only over TCP, on Linux.

    Args:
        take: answers at once what takes no waiting; see `Turns`.
        by_task: has a task do what is to be done. Whoever runs it closes the stream where it
            is over.
        closed: called once when it is over without a task; the stream is still to be closed.

    Returns:
        What ends it at once where no task has it: to be called before the stream is closed.
    """
    connection = _Connection(
        stream,
        handle,
        on_error=on_error,
        refusal=refusal,
        limits=limits,
        drain=drain or Drain(),
        seal=seal,
        seat=seat,
    )
    return connection.open(take, by_task, closed)


class _Connection:
    def __init__(
        self,
        stream: trio.abc.Stream,
        handle: Answer,
        *,
        on_error: OnError,
        refusal: Callable[[BadHead], Page],
        limits: Limits,
        drain: Drain,
        seal: Seal | None,
        seat: Seat | None,
    ) -> None:
        self._stream = stream
        self._handle = handle
        self._on_error = on_error
        self._refusal = refusal
        self._limits = limits
        self._drain = drain
        self._seal = seal
        self._now = trio.lowlevel.current_clock().current_time  # what trio.current_time ends in
        self._wire = Wire(stream, limits)
        self._seat = seat
        self._asked = 0  # requests
        self._is_shed = False
        self._is_at_it = False  # the task has begun
        self._exchange: Exchange | None = None  # the one that a task answers
        self._turns: Turns | None = None  # where nothing is taken without a task
        self._by_task: Callable[[Work], None] | None = None
        self._on_closed: Callable[[], None] | None = None
        if seat is not None:
            seat.end_if_resting = self._end_if_resting

    async def serve(self) -> None:
        """Serve the connection from its beginning to its end."""
        self._wire.scope = trio.CancelScope()
        await self._serve(None)

    def open(
        self, take: Take, by_task: Callable[[Work], None], closed: Callable[[], None]
    ) -> Callable[[], None]:
        """Take requests without a task; see `open_http1`."""
        assert self._wire.prompt is not None, "a stream that needs a task"
        self._by_task, self._on_closed = by_task, closed
        self._turns = Turns(
            self._wire.prompt,
            self._wire,
            self._limits,
            self._drain,
            exchange_for=self._exchange_for,
            take=take,
            handle=self._handle,
            by_task=self._begin_task,
            closed=self._closed,
        )
        self._turns.begin()
        return self._abandon

    def _closed(self) -> None:
        """The connection is over, without that a task had it."""
        self._turns = None  # which knows us, too: no cycle is left to the collector
        if self._on_closed is not None:
            self._on_closed()

    def _abandon(self) -> None:
        if self._turns is not None:
            self._turns.abandon()
        self._turns = None

    def _begin_task(self, begun: Begun | None) -> None:
        assert self._by_task is not None, "a task for what has one"
        self._exchange = None if begun is None else begun.exchange
        self._is_at_it = False
        self._wire.scope = trio.CancelScope()  # may be cancelled before the task has begun
        self._by_task(partial(self._serve, begun))

    async def _serve(self, begun: Begun | None) -> bool:
        """Answer what was begun, or comes next; tell whether the connection goes on without a task."""
        ending: _Ending | None = "cut"
        self._is_at_it = True
        try:
            with self._wire.scope as scope:
                ending = await self._serve_requests(begun)
            if scope.cancelled_caught:
                ending = await self._out_of_time()
        except ClientGone:
            ending = "cut"
        if ending is None and self._turns is not None:
            self._turns.begin()
            return True
        self._turns = None
        await self._end(ending or "cut")
        return False

    def _end_if_resting(self) -> bool:
        """See `Seat.end_if_resting`."""
        if self._turns is not None and self._turns.is_on:
            return self._turns.end_if_resting()
        is_strangers = self._seat is not None and not self._seat.is_known
        is_waiting = self._wire.waits_for_client or not self._is_at_it
        if self._exchange is not None and not (is_strangers and is_waiting):
            return False
        self._is_shed = True
        self._wire.scope.cancel()
        return True

    async def _serve_requests(self, begun: Begun | None) -> _Ending | None:
        """Answer one request after the other; return how the connection ends, None: it rests."""
        while True:
            if begun is not None:
                exchange, answer = begun
                begun = None
            else:
                try:
                    head = await self._read_head()
                    if head is None:
                        return "close"
                    request = parse_request_head(head)
                except BadHead as bad:
                    await self._refuse(bad)
                    return "linger"
                exchange, answer = self._exchange_for(request), self._handle
            self._exchange = exchange
            await self._answer(exchange, answer)
            ending = await self._after(exchange)
            if ending is not None:
                return ending
            self._exchange = None
            if self._turns is not None:
                return None

    def _exchange_for(self, request: RequestHead) -> Exchange:
        self._asked += 1
        return Exchange(
            request,
            self._wire,
            self._limits,
            began=self._now(),
            last=self._drain.begun or (self._asked >= STRANGER_REQUESTS and self._is_paced()),
            seal=self._seal,
            seat=self._seat,
        )

    def _is_paced(self) -> bool:
        """Tell whether who asks more has to connect anew, and wait for a turn."""
        return self._seat is not None and self._seat.is_paced

    async def _read_head(self) -> bytes | None:
        """Return the next head, None when the client sends no more.

        Raises:
            BadHead: it is too long.
        """
        buffer = self._wire.buffer
        if not buffer and not await self._read_first_bytes():
            return None
        until = trio.current_time() + self._limits.head
        searched = 0
        while (end := find_head_end(buffer, searched)) < 0:
            if len(buffer) > MAX_HEAD:
                raise BadHead(f"the head is longer than {MAX_HEAD} bytes", 431)
            searched = len(buffer)
            data = await self._wire.receive(until)
            if not data:
                return None
            buffer += data
        head = bytes(buffer[:end])
        del buffer[:end]
        return head

    async def _read_first_bytes(self) -> bool:
        scope = self._wire.scope
        self._drain.enter_idle(scope.cancel)
        try:
            data = await self._wire.receive(trio.current_time() + self._limits.idle)
        finally:
            self._drain.leave_idle(scope.cancel)
        if scope.cancel_called:
            return False  # the service stops, and the bytes came in the same instant
        self._wire.buffer += data
        return bool(data)

    # --- answering -----------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange, answer: Answer) -> None:
        """Let the handler answer; what it raises is answered here, or cuts the connection."""
        try:
            await answer(exchange)
            if not exchange.head_sent and not exchange.aborted:
                raise RuntimeError("the handler returned without an answer")
        except ClientGone:
            raise
        except Exception as error:
            await self._failed(exchange, error)

    async def _failed(self, exchange: Exchange, error: Exception) -> None:
        problem = _problem(error)
        if isinstance(problem, ClientGone):
            raise problem from None
        if problem is None:
            logger.exception("the handler of a request failed", exc_info=error)
            problem = TportError("something went wrong here; it has been logged")
        if exchange.finished:
            return  # the answer is whole: what came after it is the handler's own business
        if exchange.head_sent or exchange.aborted:
            exchange.abort()
            return
        try:
            await self._on_error(exchange, problem)
        except ClientGone:
            raise
        except Exception:
            logger.exception("the page about an error failed")
            if not exchange.head_sent:
                await respond_plainly(exchange, problem)

    async def _after(self, exchange: Exchange) -> _Ending | None:
        """Return how the connection ends after this exchange, None when it goes on."""
        if exchange.upgraded:
            return "cut" if exchange.aborted else "close"
        if exchange.aborted or not exchange.finished:
            return "cut"
        if not exchange.keep_alive:
            more = self._wire.buffer or not exchange.body_done
            return "linger" if more else "close"
        if not exchange.body_done and not await self._skip_body(exchange):
            return "linger"
        return None

    async def _skip_body(self, exchange: Exchange) -> bool:
        """Read what the handler left of a small body; tell whether it ended."""
        if exchange.waits_for_continue:
            return False  # it may come or not: the next bytes have two meanings
        limit = exchange.received + self._limits.drain
        with trio.move_on_after(self._limits.linger):
            try:
                while exchange.received <= limit:
                    if not await exchange.receive_body():
                        return True
            except RemoteProtocolError:
                return False
        return False

    # --- ending --------------------------------------------------------------------------------

    async def _refuse(self, bad: BadHead) -> None:
        headers, body = self._refusal(bad)
        if self._seal is not None:
            headers = self._seal.of(headers)
        head = write_response_head(bad.status, b"", headers, of_length(len(body)), keep_alive=False)
        await self._wire.send(head + body)

    async def _out_of_time(self) -> _Ending:
        """A deadline has passed: say so where that is still possible."""
        exchange = self._exchange
        if self._is_shed and (exchange or self._wire.buffer):
            return "cut"  # words would take the time that it was to save
        if exchange is None and not self._wire.buffer:
            return "close"  # it was idle
        if self._wire.torn or (exchange and (exchange.head_sent or exchange.aborted)):
            return "cut"
        with trio.move_on_after(self._limits.linger):
            await self._refuse(_SLOW)
            return "linger"
        return "cut"

    async def _end(self, ending: _Ending) -> None:
        """Close; cleanly unless that takes too long."""
        if ending == "cut":
            await cut(self._stream)
            return
        if ending == "linger":
            await self._linger()
        with trio.move_on_after(self._limits.linger):
            await self._stream.aclose()

    async def _linger(self) -> None:
        """Give the client time to read our last answer: unread input would make close a reset.

        Some of what it still sends is read and dropped; then it is left waiting, since a client
        that is told to stop and doesn't has no claim to our CPU.
        """
        dropped = 0
        with trio.move_on_after(self._limits.linger):
            try:
                while dropped < self._limits.drain:
                    data = await self._stream.receive_some(self._limits.drain)
                    if not data:
                        return
                    dropped += len(data)
            except trio.BrokenResourceError:
                return
            await trio.sleep_forever()


def _problem(error: BaseException) -> TportError | None:
    """Return what to tell about an error, or a group of them; None: it is a bug."""
    all_of_them = list(leaves(error))
    problems = [leaf for leaf in all_of_them if isinstance(leaf, TportError)]
    if len(problems) != len(all_of_them):
        return None
    return next((leaf for leaf in problems if isinstance(leaf, ClientGone)), problems[0])
