"""One request on one stream of a tunnel, as the proxy carries it: nothing is buffered."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from tport.engine.defaults import ANSWER_DEADLINE, MAX_INFORMATIONAL, READ_SIZE
from tport.engine.errors import RemoteProtocolError
from tport.engine.net.exchange_ends import UpgradedEnd
from tport.engine.net.flow import Flow
from tport.engine.net.http1 import Exchange
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.framing import CHUNKED, Framing, of_length
from tport.engine.proto.tunnel import (
    MAX_ANSWER_MESSAGE,
    SPARE,
    Accepted,
    Answer,
    Inbox,
    NoAnswer,
    RequestHead,
    ResponseHead,
    answer_decoder,
    pack,
)
from tport.engine.proto.websocket import GOING_AWAY, POLICY_VIOLATION, FrameWalker, close_frame
from tport.engine.proxy.for_client import for_client
from tport.engine.proxy.tunnels import Tunnel

CLOSE_DEADLINE: Final = 1.0  # s in which an ended session's WebSocket reaches a frame boundary
# s that an agent may hear of a session's end before we do: it cuts at once, and only we say why.
LATE_NEWS: Final = 0.5
CLOSE_LINGER: Final = 0.8  # s for the browser to read our close frame: unread input resets it

# Times that an agent may say of one request that it waits for its application: each 30 s, for a month.
MOST_PATIENT: Final = 100_000

_LOST = "the agent's tunnel was lost in the middle"
LOST_UNHEARD: Final = NoAnswer(
    kind="broken", hop="agent", cause=_LOST
)  # before a byte of the answer
_LOST_LATER = NoAnswer(kind="broken", hop="agent", cause=f"{_LOST} of the answer")


class Begun:
    """A request that was sent without a task, whose answer may come whole in a moment.

    Attributes:
        inbox: what has come of its answer; None: nothing has.
        answer: the first message of it, where that came and was not for here.
        problem: what is wrong with it.
    """

    inbox: Inbox | None = None
    answer: Answer | None = None
    problem: RemoteProtocolError | None = None

    def __init__(
        self, exchange: Exchange, stream: MuxStream, tunnel: Tunnel, left: Callable[[], None]
    ) -> None:
        """`left`: called once, when the stream is over."""
        self._left: Callable[[], None] | None = left
        self.exchange = exchange
        self.stream = stream
        self.tunnel = tunnel
        self.began = exchange.began

    def end(self) -> None:
        """End the stream, cleanly if it has ended in both directions; again does nothing."""
        self.stream.reset()
        left, self._left = self._left, None
        if left is not None:
            left()

    def pass_on(self) -> bool:
        """Pass the answer on if all of it has come; False: let `Forwarder.forward` go on.

        Raises:
            ClientGone: nobody wants it.
        """
        stream = self.stream
        try:
            self.inbox = inbox = Inbox(stream.receive_nowait() or b"", limit=MAX_ANSWER_MESSAGE)
            self.answer = answer = inbox.take(answer_decoder)
        except RemoteProtocolError as problem:
            self.problem = problem
            return False
        except trio.BrokenResourceError:
            return False
        if not isinstance(answer, ResponseHead) or not stream.at_end or not _is_final(answer):
            return False
        try:
            self.exchange.answer_nowait(
                answer.status,
                for_client(answer.headers),
                reason=answer.reason,
                framing=_framing(answer),
                body=inbox.rest(),
            )
        except ValueError as bad:
            self.problem = _unfit(bad)
            return False
        return True


class Cut:
    """Ends a passage early. A WebSocket gets the chance to say why; see `Passage._websocket`."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.reason = ""
        self.code = POLICY_VIOLATION  # that a WebSocket is closed with
        self.gently: trio.CancelScope | None = None  # around a WebSocket's frames

    @property
    def is_websocket(self) -> bool:
        """Whether the request has become one by now."""
        return self.gently is not None

    def go_away(self) -> None:
        """End a WebSocket because this process ends: its page may connect anew at once."""
        self.code = GOING_AWAY
        self("the proxy stops or is being restarted")

    def __call__(self, reason: str) -> None:
        self.reason = reason
        if self.gently is None:
            self.scope.cancel()
        else:
            self.scope.deadline = trio.current_time() + CLOSE_DEADLINE
            self.gently.cancel()


class Body:
    """A request's body, whose start can be sent again."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._kept: list[bytes] = []
        self._size = 0
        self.committed = False  # more was sent than is kept: it can't be repeated

    @property
    def whole(self) -> bytes | None:
        """All of it, where it is known and can be sent in one piece; None: it can't."""
        if not self._exchange.body_done or self.committed:
            return None
        return b"".join(self._kept)

    async def send(
        self, stream: MuxStream, accepted: trio.Event, progress: Callable[[], None]
    ) -> None:
        """Send all of it and its end; what exceeds SPARE waits for `accepted`."""
        exchange = self._exchange
        for data in self._kept:
            await stream.send_all(data)
        while self._size < SPARE and (data := await exchange.receive_body()):
            self._kept.append(data)
            self._size += len(data)
            await stream.send_all(data)
            progress()
        if not exchange.body_done:
            await accepted.wait()
            self.committed = True
            self._kept.clear()
            await exchange.pass_body_on(stream, lambda _: progress())
        progress()
        await stream.send_eof()


class Passage:
    """One request on one stream. It stands in `Waiting` meanwhile, which may end it early.

    Attributes:
        give_up_at: see `Waits`.
        is_sent: see `Waits`.
        is_given_up: it was ended because the agent said nothing.
    """

    def __init__(
        self,
        exchange: Exchange,
        stream: MuxStream,
        body: Body,
        cut: Cut,
        begun: Begun | None,
    ) -> None:
        """`begun`: the request was sent already."""
        self._begun = begun
        self._exchange = exchange
        self._stream = stream
        self._body = body
        self._cut = cut
        self._accepted = trio.Event()
        self._inbox = (begun and begun.inbox) or Inbox(limit=MAX_ANSWER_MESSAGE)
        self._heard = False  # something of an answer has come
        self.give_up_at = trio.current_time() + ANSWER_DEADLINE
        self.is_sent = False
        self.is_given_up = False

    async def carry(self, head: RequestHead) -> NoAnswer | None:
        """Send `head` and the body, pass the answer on; return why there is none."""
        body = None if head.upgrade else self._body.whole
        try:
            if self._begun is not None:
                pass
            elif body is None:
                await self._stream.send_all(pack(head))
            else:
                await self._stream.send_last(pack(head) + body)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return LOST_UNHEARD
        if body is not None or head.upgrade:
            self.is_sent = not head.upgrade
            return await self._answer(head)
        problem: NoAnswer | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload)
            problem = await self._answer(head)
            nursery.cancel_scope.cancel()
        return problem

    async def _upload(self) -> None:
        try:
            await self._body.send(self._stream, self._accepted, self._progress)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the agent wants no more of it; what it answered can still be read
        self.is_sent = self._exchange.body_done

    def _progress(self) -> None:
        self.give_up_at = trio.current_time() + ANSWER_DEADLINE

    # --- Ended early: see `Waits` --------------------------------------------------------------

    async def client_gone(self) -> None:
        """Wait until the client has closed the connection.

        A client that closes its side alone is taken for gone: HTTP clients that want an answer
        keep the connection open.
        """
        await self._exchange.wait_closed()

    def leave(self) -> None:
        self._cut.scope.cancel()

    def give_up(self) -> None:
        self.is_given_up = True
        self._cut.scope.cancel()

    async def _answer(self, head: RequestHead) -> NoAnswer | None:
        unfit: RemoteProtocolError | None = None
        try:
            answer = await self._final(head)
            self.give_up_at = math.inf
        except RemoteProtocolError as error:
            return NoAnswer(kind="broken", hop="agent", cause=str(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return _LOST_LATER if self._heard else LOST_UNHEARD
        if isinstance(answer, NoAnswer):
            return answer
        try:
            if answer.status == 101:
                await self._websocket(answer)
            else:
                await self._download(answer)
        except* ValueError as bad:
            if self._exchange.head_sent:
                raise
            unfit = _unfit(bad.exceptions[0])
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            self._exchange.abort()  # the head is out: only a cut tells that the rest is missing
        return NoAnswer(kind="broken", hop="agent", cause=str(unfit)) if unfit else None

    async def _final(self, head: RequestHead) -> ResponseHead | NoAnswer:
        """Return the last head, passing on those before it.

        Raises:
            RemoteProtocolError: the agent makes no sense.
        """
        informational, patience = 0, MOST_PATIENT
        while True:
            if (answer := self._said_before()) is None:
                answer = self._inbox.take(answer_decoder)
            match answer:
                case None:
                    data = await self._stream.receive_some(READ_SIZE)
                    if not data:
                        raise RemoteProtocolError("the agent ended the stream without an answer")
                    self._heard = True
                    self._inbox.feed(data)
                case Accepted():
                    self._accepted.set()
                    if (patience := patience - 1) < 0:
                        raise RemoteProtocolError("the agent says the same again and again")
                    self._progress()  # said again and again for a slow application
                case NoAnswer():
                    return answer
                case ResponseHead(status=101) if head.upgrade:
                    return answer
                case ResponseHead(status=status) if 100 <= status < 200 and status != 101:
                    if (informational := informational + 1) > MAX_INFORMATIONAL:
                        raise RemoteProtocolError("the agent does not come to its answer")
                    try:
                        await self._exchange.send_head(
                            status, for_client(answer.headers), reason=answer.reason
                        )
                    except ValueError as bad:
                        raise _unfit(bad) from None
                case ResponseHead() if _is_final(answer):
                    return answer
                case ResponseHead():
                    raise RemoteProtocolError(f"the agent answered with status {answer.status}")

    def _said_before(self) -> Answer | None:
        """Return, once, what had come before this passage was made.

        Raises:
            RemoteProtocolError: the agent makes no sense.
        """
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        if begun.problem is not None:
            raise begun.problem
        self._heard = begun.answer is not None or not self._inbox.is_empty
        return begun.answer

    async def _download(self, answer: ResponseHead) -> None:
        """Pass the answer on; what has come by now, head and body, leaves in one write."""
        exchange, stream = self._exchange, self._stream
        await exchange.send_head(
            answer.status,
            for_client(answer.headers),
            reason=answer.reason,
            framing=_framing(answer),
            body=self._inbox.rest(),
            end=stream.at_end,
        )
        if not exchange.finished:
            await exchange.send_rest(stream, lambda: stream.at_end)

    # --- WebSocket ---------------------------------------------------------------------------

    async def _websocket(self, answer: ResponseHead) -> None:
        browser = await self._exchange.upgrade(for_client(answer.headers))
        async with browser.open_end() as end, trio.open_nursery() as nursery:
            nursery.start_soon(self._from_browser, end, nursery.cancel_scope)
            await self._to_browser(end)
            nursery.cancel_scope.cancel()
        if self._cut.reason:
            await _linger(browser)
        await browser.aclose()

    async def _from_browser(self, browser: UpgradedEnd, scope: trio.CancelScope) -> None:
        """Relay what the browser sends; when it breaks the connection, end all."""
        application = _ToApplication(self._stream)
        try:
            await Flow(browser, application).run()
        except trio.BrokenResourceError:
            self._exchange.abort()
            scope.cancel()
            return
        try:
            if application.is_there:
                await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has left just now

    async def _to_browser(self, browser: UpgradedEnd) -> None:
        """Relay frames; once cut, end at the next boundary between two, saying why."""
        walker, cut = FrameWalker(), self._cut
        with trio.CancelScope() as waiting:
            cut.gently = waiting
            if first := self._inbox.rest():
                walker.boundary_in(first)
                browser.send_nowait(first)
            try:
                await Flow(self._stream, browser, walker.boundary_in).run()
            except trio.BrokenResourceError:
                if self._stream.is_cut:
                    await trio.sleep(LATE_NEWS)  # why, may be told any moment
                raise
            return
        while not walker.at_boundary:
            if not (data := await self._stream.receive_some(READ_SIZE)):
                return
            boundary = walker.boundary_in(data)
            await browser.send_all(data[:boundary])
            if boundary is not None:
                break
        await browser.send_all(close_frame(cut.code, cut.reason))


class _ToApplication:
    """The way to an application, which may leave while its last words are still coming."""

    def __init__(self, stream: MuxStream) -> None:
        self._stream = stream
        self.is_there = True

    @property
    def on_room(self) -> Callable[[], None] | None:
        return self._stream.on_room

    @on_room.setter
    def on_room(self, told: Callable[[], None] | None) -> None:
        self._stream.on_room = told

    def send_nowait(self, data: bytes) -> bool:
        if self.is_there:
            try:
                return self._stream.send_nowait(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.is_there = False
        return True  # what comes for it is dropped


def _unfit(bad: BaseException) -> RemoteProtocolError:
    return RemoteProtocolError(f"the agent's answer can't be sent: {bad}")


def _is_final(answer: ResponseHead) -> bool:
    return 200 <= answer.status < 1000


def _framing(answer: ResponseHead) -> Framing:
    return CHUNKED if answer.length is None else of_length(answer.length)


async def _linger(browser: trio.abc.ReceiveStream) -> None:
    """Drop what the browser still sends, until it closes or a moment has passed."""
    with trio.move_on_after(CLOSE_LINGER):
        try:
            while await browser.receive_some(READ_SIZE):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
