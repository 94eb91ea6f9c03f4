"""One HTTP/1.1 connection to an application, used for one request after the other.

It waits for as long as it is told to: deadlines are the caller's, who knows what the wait is for.
"""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLError
from typing import Final

import trio

from tport.engine.defaults import MAX_HEAD, MAX_INFORMATIONAL, READ_SIZE
from tport.engine.errors import RemoteProtocolError, TportError
from tport.engine.net.flow import End, Flow, Sink, Source, open_end
from tport.engine.net.sockets import is_readable, prompt_of
from tport.engine.net.tls import tls_problem
from tport.engine.proto.body import LAST_CHUNK, BodyReader, body_reader, encode_chunk
from tport.engine.proto.fields import Headers, Lines, values
from tport.engine.proto.framing import NO_BODY, Framing
from tport.engine.proto.head import ResponseHead, find_head_end, parse_response_head
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proto.head_writer import write_request_head
from tport.engine.proto.sieve import read_lines, write_lines
from tport.engine.proto.websocket import accept_key

# Schemes that sign a connection in and not a request: RFC 4559 §6. Who asks by it next would be
# taken for the same person.
_AUTHORIZATION: Final = b"authorization: "
_BINDING: Final = (b"negotiate", b"nego2", b"ntlm", b"kerberos")

_CLOSED: Final = "the application closed the connection"


class UpstreamGone(TportError):
    """The application hung up. See `ClientConnection.answer_begun` for whether to try again."""

    status = 502


class ClientConnection:
    """The asking side. One task may send while another receives.

    Requests don't overlap: a further one may be sent once `reusable` says so. After any
    exception the connection is of no more use: close it.

    Attributes:
        answer_begun: bytes of an answer to the current request have come.
        prompt: the stream for who uses it without a task; None: it can't be.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.answer_begun = False
        self.prompt = prompt_of(stream)
        self._stream = stream
        self._buffer = bytearray()
        self._method = b""
        self._websocket_key = b""
        self._request = NO_BODY
        self._request_left = 0  # bytes of a body of known length still to be sent
        self._request_sent = False
        self._informational = 0
        self._keep_alive = False
        self._body: BodyReader | None = None  # of the answer, once its final head is here

    # --- asking ----------------------------------------------------------------------------

    async def send_head(
        self,
        method: bytes,
        target: bytes,
        headers: Headers | Lines,
        framing: Framing,
        *,
        upgrade: bytes = b"",
        keep_alive: bool = True,
        body: bytes = b"",
    ) -> None:
        """Send a request's head, and the start of its body in the same write.

        A body that is none, or is all here, needs no `end_body`.

        Raises:
            UpstreamGone: the connection is broken.
            ValueError: something in the head can't be sent as it is.
        """
        framed = self._begin(method, target, headers, framing, upgrade, keep_alive, body)
        await self._send(framed)
        self._request_sent = framing.length is not None and self._request_left == 0

    def ask_nowait(self, method: bytes, target: bytes, headers: Headers | Lines) -> bool:
        """Send a request without a body, without waiting; only where there is a `prompt`.

        Returns:
            Whether all of it has left; else `prompt.flush` waits for the rest.

        Raises:
            UpstreamGone, ValueError: as `send_head`.
        """
        framed = self._begin(method, target, headers, NO_BODY, b"", True, b"")
        self._request_sent = True
        assert self.prompt is not None, "a connection that needs a task"
        try:
            return self.prompt.send_nowait(framed)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise UpstreamGone(_CLOSED) from None

    def _begin(
        self,
        method: bytes,
        target: bytes,
        headers: Headers | Lines,
        framing: Framing,
        upgrade: bytes,
        keep_alive: bool,
        body: bytes,
    ) -> bytes:
        """Begin a request; return the bytes to send."""
        self.answer_begun = False
        self._method = method
        self._websocket_key = _websocket_key(headers, upgrade) if upgrade else b""
        self._request = framing
        self._request_left = framing.length or 0
        self._request_sent = False
        self._informational = 0
        self._keep_alive = keep_alive and not upgrade and not _binds(headers)
        self._body = None
        head = write_request_head(
            method, target, headers, framing, keep_alive=keep_alive, upgrade=upgrade
        )
        return head + self._framed(body)

    async def send_body(self, data: bytes) -> None:
        """Send a piece of the request's body.

        Raises:
            UpstreamGone: the application takes no more; it may have answered nevertheless.
            RemoteProtocolError: the body is longer than its head said.
        """
        if framed := self._framed(data):
            await self._send(framed)

    async def send_body_from(self, source: Source, on_piece: Callable[[bytes], object]) -> None:
        """Send all that `source` has to say as the rest of the body; `end_body` follows it.

        Args:
            on_piece: is told of each piece.

        Raises:
            UpstreamGone, RemoteProtocolError: as `send_body`.
            Exception: whatever the source raised.
        """
        async with open_end(self._stream) as end:
            await Flow(source, _RequestSink(self, end), on_piece).run()

    async def end_body(self) -> None:
        """End the request's body.

        Raises:
            UpstreamGone: the application takes no more; it may have answered nevertheless.
            RemoteProtocolError: the body is shorter than its head said.
        """
        if self._request.kind == "chunked":
            await self._send(LAST_CHUNK)
        elif self._request_left:
            raise RemoteProtocolError(f"{self._request_left} bytes of the request are missing")
        self._request_sent = True

    def _framed(self, data: bytes) -> bytes:
        if self._request.kind == "chunked":
            return encode_chunk(data)
        self._request_left -= len(data)
        if self._request_left < 0:
            raise RemoteProtocolError("the request is longer than its head said")
        return data

    async def _send(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise UpstreamGone(_CLOSED) from None

    # --- being answered --------------------------------------------------------------------

    async def receive_head(self) -> ResponseHead:
        """Return the next head: informational ones (status < 200, at most 8), then the final one.

        A 101 is final; `detach` follows it.

        Raises:
            UpstreamGone: the connection ended before a whole head.
            BadHead: the head can't be believed, or switches protocols unasked.
        """
        buffer = self._buffer
        searched = 0
        while (end := find_head_end(buffer, searched)) < 0:
            if len(buffer) > MAX_HEAD:
                raise BadHead(f"the head is longer than {MAX_HEAD} bytes", 502)
            searched = len(buffer)
            data = await self._receive()
            if not data:
                raise UpstreamGone("the application closed the connection without an answer")
            self.answer_begun = True
            buffer += data
        return self._understand(end)

    def head_nowait(self) -> ResponseHead | None:
        """Return the final head if it is all here, without waiting; None: `receive_head` goes on.

        Raises:
            BadHead: as `receive_head`.
        """
        assert self.prompt is not None, "a connection that needs a task"
        buffer = self._buffer
        try:
            while len(buffer) <= MAX_HEAD and (data := self.prompt.receive_nowait()):
                self.answer_begun = True
                buffer += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # `receive_head` finds out the same way
        end = find_head_end(buffer)
        if end < 0 or buffer[9:10] == b"1":
            return None  # informational ones are passed on by who can wait
        return self._understand(end)

    def _understand(self, end: int) -> ResponseHead:
        """Take the next head, which ends at `end` of the buffer."""
        buffer = self._buffer
        head = parse_response_head(bytes(buffer[:end]), request_method=self._method)
        del buffer[:end]
        if head.status == 101:
            self._check_switch(head)
        elif head.status < 200:
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                raise BadHead(f"more than {MAX_INFORMATIONAL} informational answers", 502)
        else:
            self._keep_alive = self._keep_alive and head.keep_alive
            self._body = body_reader(head.framing, tiny_chunks=True)
        return head

    @property
    def body_done(self) -> bool:
        """Whether all of the answer's body has been received."""
        return self._body is not None and self._body.done

    def body_here(self) -> bytes:
        """Return what of the answer's body came with its head, without waiting for more.

        Raises:
            RemoteProtocolError: its framing is broken.
        """
        body = self._body
        assert body is not None, "a body before its head"
        if body.done or not self._buffer:
            return b""
        data = bytes(self._buffer)
        self._buffer.clear()
        return self._payload_in(body, data)

    def _payload_in(self, body: BodyReader, data: bytes) -> bytes:
        payload = body.feed(data)
        if body.leftover:
            self._buffer += body.leftover
        return payload

    async def receive_body(self) -> bytes:
        """Return the next piece of the answer's body, b"" at its end.

        Raises:
            UpstreamGone: the connection broke before its end.
            RemoteProtocolError: its framing is broken, or cut short.
        """
        body = self._body
        assert body is not None, "a body before its head"
        while not body.done:
            if not self._buffer:
                data = await self._receive()
                if not data:
                    body.end()
                    break
                self._buffer += data
            if payload := self.body_here():
                return payload
        return b""

    async def pass_body_on(self, sink: Sink, patience: float) -> None:
        """Let `sink` have the rest of the answer's body, as `receive_body` would return it.

        Args:
            patience: s that the application may be silent.

        Raises:
            Silent: it was, for longer.
            UpstreamGone, RemoteProtocolError: as `receive_body`.
            Exception: whatever the sink raised.
        """
        async with open_end(self._stream) as end:
            await Flow(_AnswerSource(self, end), sink).run(patience)

    def _check_switch(self, head: ResponseHead) -> None:
        if not self._websocket_key:
            raise BadHead("the application switches protocols unasked", 502)
        if head.values(b"sec-websocket-accept") != [accept_key(self._websocket_key)]:
            raise BadHead("the application answers another WebSocket handshake", 502)

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_SIZE))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
            raise self._reset(broken) from None

    def _reset(self, broken: Exception) -> UpstreamGone:
        # In TLS 1.3 a server says only now what it thinks of our certificate.
        why = f": {tls_problem(broken)[0]}" if isinstance(broken.__cause__, SSLError) else ""
        when = "in the middle of its answer" if self.answer_begun else "before it answered"
        return UpstreamGone(f"the application reset the connection {when}{why}")

    # --- afterwards ------------------------------------------------------------------------

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent: all of this one is over, with nothing left."""
        return (
            self._keep_alive
            and self._request_sent
            and self._body is not None
            and self._body.done
            and not self._buffer
        )

    def has_stirred(self) -> bool:
        """Tell whether bytes or an end have arrived while it was kept: not to be used then.

        The system is asked: what an application sends unasked may have come in the same pass
        as the next request, and would be taken for its answer.
        """
        return is_readable(self._stream) if self.prompt is None else self.prompt.has_stirred()

    def detach(self) -> tuple[trio.abc.Stream, bytes]:
        """Return the stream and what was read beyond a 101. The connection is over by that."""
        leftover = bytes(self._buffer)
        self._buffer.clear()
        self._keep_alive = False
        return self._stream, leftover

    async def aclose(self) -> None:
        await self._stream.aclose()


class _RequestSink:
    """The application as it is asked: an end of flows, which frames the body."""

    def __init__(self, connection: ClientConnection, end: End) -> None:
        self._connection = connection
        self._end = end

    @property
    def on_room(self) -> Callable[[], None] | None:
        return self._end.on_room

    @on_room.setter
    def on_room(self, told: Callable[[], None] | None) -> None:
        self._end.on_room = told

    def send_nowait(self, data: bytes) -> bool:
        framed = self._connection._framed(data)
        try:
            return self._end.send_nowait(framed)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise UpstreamGone(_CLOSED) from None


class _AnswerSource:
    """The application as it answers: an end of flows, which takes the body out of its frames."""

    def __init__(self, connection: ClientConnection, end: End) -> None:
        self._connection = connection
        self._end = end

    @property
    def on_arrival(self) -> Callable[[], None] | None:
        return self._end.on_arrival

    @on_arrival.setter
    def on_arrival(self, told: Callable[[], None] | None) -> None:
        self._end.on_arrival = told

    def receive_nowait(self) -> bytes | None:
        connection = self._connection
        body = connection._body
        assert body is not None, "a body before its head"
        payload = connection.body_here()
        while not (payload or body.done):
            try:
                data = self._end.receive_nowait()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as broken:
                raise connection._reset(broken) from None
            if data is None:
                return None
            if data:
                payload = connection._payload_in(body, data)
            else:
                body.end()
        return payload


def _binds(headers: Headers | Lines) -> bool:
    """Tell whether a request may sign in whoever uses its connection."""
    lines = headers if isinstance(headers, bytes) else write_lines(headers)
    at = lines.find(_AUTHORIZATION)
    while at >= 0:  # in some value, maybe, and not where a line begins
        begins = at == 0 or lines[at - 1 : at] == b"\n"
        start = at + len(_AUTHORIZATION)
        if begins and lines[start : start + 16].lower().startswith(_BINDING):
            return True
        at = lines.find(_AUTHORIZATION, start)
    return False


def _websocket_key(headers: Headers | Lines, upgrade: bytes) -> bytes:
    """Return the key of a WebSocket's handshake.

    Raises:
        ValueError: it is none.
    """
    fields = read_lines(headers) if isinstance(headers, bytes) else headers
    keys = values(fields, b"sec-websocket-key")
    if upgrade != b"websocket" or len(keys) != 1:
        raise ValueError("an upgrade that is no WebSocket's handshake")
    return keys[0]
