"""One request through a tunnel: the head, the body up, the answer down, nothing buffered.

A request is sent again, to the next agent, only while nothing of it has reached the
application: the first SPARE bytes of a body are kept for that, and what follows waits until an
agent says that the application's connection stands.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from tport.engine.api.live import LiveStreams
from tport.engine.defaults import READ_SIZE
from tport.engine.errors import ConnectionProblem, LimitExceeded, RemoteProtocolError
from tport.engine.net.http1 import Exchange
from tport.engine.net.mux_stream import MuxStream
from tport.engine.proto.cookies import allowed_set_cookie, host_only
from tport.engine.proto.framing import CHUNKED, Framing, of_length
from tport.engine.proto.tunnel import (
    SPARE,
    Accepted,
    Inbox,
    NoAnswer,
    RequestHead,
    ResponseHead,
    answer_decoder,
    pack,
)
from tport.engine.proto.websocket import POLICY_VIOLATION, FrameWalker, close_frame
from tport.engine.proxy.app_session import Credentials
from tport.engine.proxy.tunnels import Tunnel

logger = logging.getLogger(__name__)

CLOSE_DEADLINE: Final = 5.0  # s in which an ended session's WebSocket reaches a frame boundary

_LOST = NoAnswer(kind="broken", hop="agent", cause="the agent's tunnel was lost in the middle")


class Forwarder:
    """Carries requests of live sessions to agents."""

    def __init__(self, *, credentials: Credentials, live: LiveStreams[str]) -> None:
        """
        Args:
            live: what runs now, by session id; the owner cuts it when a session ends.
        """
        self._credentials = credentials
        self._live = live

    async def forward(
        self, exchange: Exchange, head: RequestHead, tunnels: Sequence[Tunnel]
    ) -> NoAnswer | None:
        """Send the request through the first of `tunnels` that can; return why none could.

        None: the answer was sent, or was cut short in a way the client can't take for whole.

        Args:
            head: without a credential.
            tunnels: not empty, the preferred one first.

        Raises:
            NotSignedIn, AccessDenied: auth, asked for the credential, says no.
            Unavailable: auth can't be asked.
        """
        body = _Body(exchange)
        problem: NoAnswer | None = None
        for tunnel in tunnels:
            problem = await self._try(exchange, head, body, tunnel)
            if problem is None or body.committed or problem.kind != "unreachable":
                break
        return problem

    async def _try(
        self, exchange: Exchange, head: RequestHead, body: _Body, tunnel: Tunnel
    ) -> NoAnswer | None:
        """Send it through one tunnel, with the credential where the agent lacks it."""
        credential = await self._credentials.of(head.session)
        known = tunnel.has_credential(head.session, credential)
        problem = await self._send(exchange, head, body, tunnel, "" if known else credential)
        if problem is not None and problem.kind == "unknown-session" and not body.committed:
            problem = await self._send(exchange, head, body, tunnel, credential)
        return problem

    async def _send(
        self, exchange: Exchange, head: RequestHead, body: _Body, tunnel: Tunnel, credential: str
    ) -> NoAnswer | None:
        try:
            stream = tunnel.mux.open_stream()
        except (ConnectionProblem, LimitExceeded) as gone:
            return NoAnswer(kind="unreachable", hop="agent", cause=str(gone))
        if credential:
            head = msgspec.structs.replace(head, credential=credential)
            tunnel.told(head.session, credential)
        cut = _Cut()
        try:
            with self._live.hold(head.session, cut), cut.scope:
                return await _Passage(exchange, stream, body, cut).carry(head)
            exchange.abort()  # cut: the client must not take what it has for the whole
            return None
        finally:
            stream.reset()  # does nothing after a clean end in both directions


class _Cut:
    """Ends a passage early. A WebSocket gets the chance to say why; see `_Passage._websocket`."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.reason = ""
        self.gently: trio.CancelScope | None = None  # around a WebSocket's wait for bytes

    def __call__(self, reason: str) -> None:
        self.reason = reason
        if self.gently is None:
            self.scope.cancel()
        else:
            self.scope.deadline = trio.current_time() + CLOSE_DEADLINE
            self.gently.cancel()


class _Body:
    """A request's body, whose start can be sent again."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._kept: list[bytes] = []
        self._size = 0
        self._ended = False
        self.committed = False  # more was sent than is kept: it can't be repeated

    async def send(self, stream: MuxStream, accepted: trio.Event) -> None:
        """Send all of it and its end; what exceeds SPARE waits for `accepted`."""
        for data in self._kept:
            await stream.send_all(data)
        while not self._ended and self._size < SPARE:
            if data := await self._exchange.receive_body():
                self._kept.append(data)
                self._size += len(data)
                await stream.send_all(data)
            else:
                self._ended = True
        if not self._ended:
            await accepted.wait()
            self.committed = True
            self._kept.clear()
            while data := await self._exchange.receive_body():
                await stream.send_all(data)
            self._ended = True
        await stream.send_eof()


class _Passage:
    """One request on one stream."""

    def __init__(self, exchange: Exchange, stream: MuxStream, body: _Body, cut: _Cut) -> None:
        self._exchange = exchange
        self._stream = stream
        self._body = body
        self._cut = cut
        self._accepted = trio.Event()
        self._inbox = Inbox()

    async def carry(self, head: RequestHead) -> NoAnswer | None:
        """Send `head` and the body, pass the answer on; return why there is none."""
        try:
            await self._stream.send_all(pack(head))
            return await self._while_sending(head)
        except RemoteProtocolError as error:
            return NoAnswer(kind="broken", hop="agent", cause=str(error))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return self._broken()

    async def _while_sending(self, head: RequestHead) -> NoAnswer | None:
        """Receive the answer while the body goes up and the client is watched for leaving."""
        problem: NoAnswer | None = None
        async with trio.open_nursery() as nursery:
            if not head.upgrade:
                nursery.start_soon(self._upload, nursery.cancel_scope)
            problem = await self._answer()
            nursery.cancel_scope.cancel()
        return problem

    async def _upload(self, scope: trio.CancelScope) -> None:
        """Send the body; then see to it that nobody works for a client that has gone."""
        try:
            await self._body.send(self._stream, self._accepted)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the agent wants no more of it; what it answered can still be read
        if self._exchange.body_done:
            await self._exchange.wait_closed()
            self._exchange.abort()
            scope.cancel()

    def _broken(self) -> NoAnswer | None:
        if self._exchange.head_sent:
            self._exchange.abort()
            return None
        return _LOST

    async def _answer(self) -> NoAnswer | None:
        try:
            answer = await self._final()
            if isinstance(answer, NoAnswer):
                return answer
            if answer.status == 101:
                await self._websocket(answer)
            else:
                await self._download(answer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return self._broken()
        return None

    async def _final(self) -> ResponseHead | NoAnswer:
        while True:
            answer = self._inbox.take(answer_decoder)
            match answer:
                case None:
                    data = await self._stream.receive_some(READ_SIZE)
                    if not data:
                        raise RemoteProtocolError("the agent ended the stream without an answer")
                    self._inbox.feed(data)
                case Accepted():
                    self._accepted.set()
                case NoAnswer():
                    return answer
                case ResponseHead() if 100 <= answer.status < 200 and answer.status != 101:
                    await self._exchange.send_head(
                        answer.status, _for_client(answer), reason=answer.reason
                    )
                case ResponseHead():
                    return answer

    async def _download(self, answer: ResponseHead) -> None:
        await self._exchange.send_head(
            answer.status, _for_client(answer), reason=answer.reason, framing=_framing(answer)
        )
        data = self._inbox.rest() or await self._stream.receive_some(READ_SIZE)
        while data:
            await self._exchange.send_body(data)
            data = await self._stream.receive_some(READ_SIZE)
        await self._exchange.finish()

    # --- WebSocket ---------------------------------------------------------------------------

    async def _websocket(self, answer: ResponseHead) -> None:
        browser = await self._exchange.upgrade(_for_client(answer))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._from_browser, browser)
            await self._to_browser(browser)
            nursery.cancel_scope.cancel()
        await browser.aclose()

    async def _from_browser(self, browser: trio.abc.Stream) -> None:
        try:
            while data := await browser.receive_some(READ_SIZE):
                await self._stream.send_all(data)
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._stream.reset()  # the other direction ends by that

    async def _to_browser(self, browser: trio.abc.Stream) -> None:
        """Relay frames; once cut, end at the next boundary between two, saying why."""
        walker = FrameWalker()
        data: bytes | bytearray = self._inbox.rest()
        while True:
            if self._cut.reason and walker.at_boundary:
                await browser.send_all(close_frame(POLICY_VIOLATION, self._cut.reason))
                return
            if data:
                boundary = walker.boundary_in(bytes(data))
                if self._cut.reason and boundary is not None:
                    await browser.send_all(data[:boundary])
                    await browser.send_all(close_frame(POLICY_VIOLATION, self._cut.reason))
                    return
                await browser.send_all(data)
                data = b""
                continue
            with trio.CancelScope() as waiting:
                self._cut.gently = waiting
                data = await self._stream.receive_some(READ_SIZE)
                if not data:
                    return


def _for_client(answer: ResponseHead) -> list[tuple[bytes, bytes]]:
    """Return the headers a browser may have: no application sets cookies of ours, or for others.

    The agent has seen to it already (WEB-03, WEB-04); an agent is not believed.
    """
    return [
        (name, host_only(value) if name == b"set-cookie" else value)
        for name, value in answer.headers
        if name != b"set-cookie" or allowed_set_cookie(value)
    ]


def _framing(answer: ResponseHead) -> Framing:
    return CHUNKED if answer.length is None else of_length(answer.length)
