"""Requests answered as they come, as long as none takes waiting: the quick half of a connection.

    bytes arrive ──► a whole head ──► take(exchange, turns) ──► sent on, its answer awaited
                        │ no             │ False                    │ comes whole: turns.done()
                        ▼                ▼                          ▼ doesn't:  turns.wait(answer)
                     a task is begun, which goes on from there: `http1`

Most requests are whole when they come, are let through by what is known already, and are answered
whole within milliseconds. Those are carried here by plain calls, one from where bytes arrive and
one from where the answer does, without that a task wakes. Nothing is decided here, nor judged by
other rules: whatever is not as plain as that is left to a task with all that was done so far, and so
is what takes longer than a moment (`moments`). A connection that rests has no task at all: when it
has done so for too long, `patience` tells.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import trio

from tport.engine.defaults import READ_AHEAD
from tport.engine.net.exchange import Exchange
from tport.engine.net.http1_wire import Drain, Limits, Wire
from tport.engine.net.patience import patience
from tport.engine.net.tcp import Prompt
from tport.engine.proto.head import RequestHead, find_head_end, parse_request_head
from tport.engine.proto.head_meaning import BadHead

Answer = Callable[[Exchange], Awaitable[None]]

logger = logging.getLogger(__name__)


class Begun(NamedTuple):
    """A request that a task is to answer, or to end answering, by `answer`."""

    exchange: Exchange
    answer: Answer


class Turns:
    """The requests of one connection that are taken without a task, one at a time.

    Attributes:
        on_gone: called when the client goes while its request is being answered: set it where
            one is taken. It must not block or raise.
    """

    def __init__(
        self,
        prompt: Prompt,
        wire: Wire,
        limits: Limits,
        drain: Drain,
        *,
        exchange_for: Callable[[RequestHead], Exchange],
        take: Callable[[Exchange, Turns], bool],
        handle: Answer,
        by_task: Callable[[Begun | None], None],
        closed: Callable[[], None],
    ) -> None:
        """
        Args:
            exchange_for: makes the exchange of a request.
            take: begins to answer a request; False: it did nothing, for that would take waiting.
                Having taken it, it calls `done` or `wait` once, from wherever.
            handle: answers what was not taken.
            by_task: has a task answer a request, or go on with what has been read, or comes next.
            closed: called once the connection is over, without that `by_task` was.
        """
        self.on_gone: Callable[[], None] | None = None
        self._prompt = prompt
        self._wire = wire
        self._drain = drain
        self._exchange_for = exchange_for
        self._take = take
        self._handle = handle
        self._by_task = by_task
        self._closed = closed
        self._patience = patience(limits.idle)
        self._exchange: Exchange | None = None  # the one that was taken
        self._is_ended = False  # the client sends no more
        self._has_asked = False  # here: what a task has read comes after the first
        self._is_over = True

    def begin(self) -> None:
        """Take requests as they come, until one needs a task or the connection is over."""
        self._is_over = False
        self._prompt.on_arrival = self._arrived
        self._patience.begin(self)
        self._drain.enter_idle(self._end_if_idle)
        self._arrived()  # what came before anybody listened

    @property
    def is_on(self) -> bool:
        """Whether requests are taken here now, and no task has the connection."""
        return not self._is_over

    def end_if_resting(self) -> bool:
        """End the connection if no answer is awaited; tell whether it was ended."""
        if self._exchange is not None:
            return False
        self._close()
        return True

    def abandon(self) -> None:
        """End at once, whatever is under way: whoever has the stream closes it."""
        self._leave()

    def late(self) -> None:
        """It was idle for too long."""
        self._end_if_idle()

    def _leave(self) -> None:
        """Listen no more. Of a request that was taken, nobody takes the answer here."""
        self._is_over = True
        self._prompt.on_arrival = None
        self._patience.end(self)
        self._drain.leave_idle(self._end_if_idle)
        self._leave_client()

    def _end_if_idle(self) -> None:
        """End the connection, after the answer that is under way."""
        if self._exchange is not None:
            self._exchange.keep_alive = False
            self._patience.begin(self)
        elif self._has_asked or not self._drain.is_patient:
            self._close()

    def _leave_client(self) -> None:
        """Of a request that was taken and is not answered, nobody will take the answer here."""
        if self._exchange is not None and self.on_gone is not None:
            self._exchange = None
            try:
                self.on_gone()
            except Exception:  # a bug there must not leave the connection without its end
                logger.exception("what a client asked for could not be given up")

    # --- What comes ------------------------------------------------------------------------------

    def _arrived(self) -> None:
        """Read what has come, and take the requests in it."""
        buffer = self._wire.buffer
        if buffer:
            self._take_next()
        while not self._is_over and (self._exchange is None or len(buffer) < READ_AHEAD):
            try:
                data = self._prompt.receive_nowait()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._client_broke()
                return
            if data is None:
                return
            if not data:
                self._client_ended()
                return
            if not buffer and self._exchange is None and find_head_end(data) == len(data):
                self._take_head(data)  # one request, whole, as nearly always
                continue
            buffer += data
            self._take_next()

    def _take_next(self) -> None:
        """Take the requests that are there, until one has to wait for its answer."""
        buffer = self._wire.buffer
        while buffer and self._exchange is None and not self._is_over:
            if (end := find_head_end(buffer)) < 0:
                self._stop(None)  # for the rest of a head there is a deadline, and that is a task's
                return
            head = bytes(buffer[:end])
            del buffer[:end]
            self._take_head(head)

    def _take_head(self, head: bytes) -> None:
        try:
            request = parse_request_head(head)
        except BadHead:
            self._wire.buffer[:0] = head
            self._stop(None)  # it is judged again, and refused, by the task
            return
        self._has_asked = True
        self._exchange = exchange = self._exchange_for(request)
        self._patience.begin(self, exchange.began)
        if request.framing.length != 0 or request.upgrade or not self._taken(exchange):
            self._stop(Begun(exchange, self._handle))

    def _taken(self, exchange: Exchange) -> bool:
        try:
            return self._take(exchange, self)
        except Exception as error:  # whatever it is: the task tells, and nobody is let through
            self.fail(error)
            return True

    def _client_ended(self) -> None:
        """It sends no more; it may still want its answer, if that doesn't take longer than a moment."""
        self._is_ended = True
        if self._exchange is None:
            self._close()

    def _client_broke(self) -> None:
        if not self._is_over:
            self._leave()
            self._closed()

    def _close(self) -> None:
        if not self._is_over:
            self._leave()
            self._prompt.end()
            self._closed()

    def _stop(self, begun: Begun | None) -> None:
        if not self._is_over:
            self._exchange = self.on_gone = None
            self._leave()
            self._by_task(begun)

    # --- What becomes of the request that was taken ----------------------------------------------

    def done(self) -> None:
        """The answer is sent, or kept in the stream: go on with the next request."""
        exchange, self._exchange, self.on_gone = self._exchange, None, None
        assert exchange is not None, "an end to a request that was not taken"
        if self._wire.unsent:
            self._stop(Begun(exchange, self._flush))
        elif not exchange.keep_alive and self._wire.buffer:
            self._stop(Begun(exchange, _nothing))  # which lingers
        elif not exchange.keep_alive:
            self._close()
        elif self._wire.buffer or self._is_ended:  # more has come, or is to be read
            self._arrived()

    def wait(self, answer: Answer) -> None:
        """Let a task answer the request from here on, by `answer`."""
        exchange = self._exchange
        assert exchange is not None, "a request that was not taken"
        self._stop(Begun(exchange, answer))

    def fail(self, error: Exception) -> None:
        """Let a task tell what went wrong."""
        self.wait(partial(_raise, error))

    async def _flush(self, _: Exchange) -> None:
        await self._wire.flush()


async def _nothing(_: Exchange) -> None:
    """There is nothing left to answer."""


async def _raise(error: Exception, _: Exchange) -> None:
    raise error
