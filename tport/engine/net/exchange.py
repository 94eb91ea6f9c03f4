"""One request and its answer, as those see it who answer: values and bytes, no framing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import trio

from tport.engine.defaults import READ_AHEAD
from tport.engine.errors import RemoteProtocolError
from tport.engine.net.exchange_ends import AnswerSink, BodySource, UpgradedStream
from tport.engine.net.flow import Flow, Sink, Source
from tport.engine.net.http1_wire import PIECE, ClientGone, Limits, Wire
from tport.engine.net.seats import Seat
from tport.engine.proto.body import LAST_CHUNK, body_reader, encode_chunk
from tport.engine.proto.fields import Headers, Lines
from tport.engine.proto.framing import CHUNKED, NO_BODY, UNTIL_CLOSE, Framing
from tport.engine.proto.head import RequestHead
from tport.engine.proto.head_writer import write_response_head
from tport.engine.proto.sieve import read_lines, write_lines


class Seal(NamedTuple):
    """The last word on one header: each answer has it with this value, and with no other.

    Attributes:
        value: b"": no answer has it.
    """

    name: bytes
    value: bytes = b""

    def of(self, headers: Headers) -> Headers:
        """Return the headers as they are then."""
        kept = [field for field in headers if field[0].lower() != self.name]
        return [*kept, (self.name, self.value)] if self.value else kept

    def of_lines(self, lines: Lines) -> Lines:
        """Return the lines as they are then."""
        if lines.find(self.name) >= 0:  # by that name, or in somebody's value
            return write_lines(self.of(read_lines(lines)))
        return Lines(lines + b"%b: %b\r\n" % self) if self.value else lines


_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """A request to be answered, once.

    One task may receive the body while another sends the answer; two may not do the same. All
    methods raise ClientGone when the client has gone: let it pass, nobody needs to be told.

    Attributes:
        status: of the final head sent, 0 before.
        received: bytes of the request's body so far; after an upgrade, all that came since.
        sent: bytes of the answer's body so far; after an upgrade, all that was sent since.
        finished: the whole answer is sent.
        aborted: `abort` was called.
        upgraded: the connection has left HTTP.
        keep_alive: whether the connection may go on after this answer; settled by its head.
        on_head: makes the headers of the final head from those it was to have; None: they stay.
    """

    # As each request begins: of the class, for setting them takes as long as reading a head.
    status = 0
    received = 0
    sent = 0
    finished = False
    aborted = False
    upgraded = False
    on_head: Callable[[Headers], Headers] | None = None
    _body_got = 0  # bytes in this window
    _continuing: trio.Event | None = None  # while 100 is on its way
    _framing = NO_BODY

    def __init__(
        self,
        request: RequestHead,
        wire: Wire,
        limits: Limits,
        *,
        began: float = 0.0,
        last: bool = False,
        seal: Seal | None = None,
        seat: Seat | None = None,
    ) -> None:
        """
        Args:
            began: trio's time when it was read.
            last: the connection ends after this answer in any case.
            seal: has the last word on the headers of the final head; of 101, too.
            seat: the connection's; see `recognise`.
        """
        self.request = request
        self.began = began
        # Bytes after an upgrade that we refuse are no request, whatever they look like (HTTP-09).
        self.keep_alive = request.keep_alive and not request.upgrade and not last
        self._seal = seal
        self._seat = seat
        self._wire = wire
        self._limits = limits
        self._body = body_reader(request.framing)
        self._body_left = limits.body_grace + limits.body_window  # s for the bytes of this window
        self._continue_owed = request.expect_continue

    def recognise(self) -> None:
        """Note that the client has shown who they are: the connection is no stranger's any more."""
        if self._seat is not None:
            self._seat.recognise()

    # --- the request's body ------------------------------------------------------------------

    @property
    def body_done(self) -> bool:
        """Whether the request's body has been received to its end."""
        return self._body.done

    @property
    def waits_for_continue(self) -> bool:
        """Whether the client still waits to be told to send its body."""
        return self._continue_owed

    async def receive_body(self) -> bytes:
        """Return the next piece of the request's body, b"" at its end.

        A client that waits for 100 Continue gets it with the first call, unless the answer's
        head was sent before.

        Raises:
            RemoteProtocolError: its framing is broken.
        """
        body = self._body
        while not body.done:
            if self._continue_owed:
                await self._send_continue()
            if payload := self._payload_in(self._wire.take_buffer() or await self._receive_paced()):
                return payload
        return b""

    async def pass_body_on(self, sink: Sink, on_piece: Callable[[bytes], object]) -> None:
        """Let `sink` have the rest of the request's body, as `receive_body` would return it.

        Args:
            on_piece: is told of each piece.

        Raises:
            RemoteProtocolError: its framing is broken.
            Exception: whatever the sink raised.
        """
        if self._body.done:
            return
        if self._continue_owed:
            await self._send_continue()
        async with self._wire.open_end() as client:
            await Flow(BodySource(self, client), sink, on_piece).run()

    def _payload_in(self, data: bytes) -> bytes:
        """Return what of the body is in the client's next bytes."""
        if not data:
            raise ClientGone("the client closed the connection in the middle of its request")
        body = self._body
        try:
            payload = body.feed(data)
        except RemoteProtocolError:
            self.keep_alive = False
            raise
        if body.leftover:  # the next request, pipelined
            self._wire.buffer += body.leftover
        self.received += len(payload)
        return payload

    async def _receive_paced(self) -> bytes:
        """Receive; the connection ends when the body comes too slowly (DOS-01).

        The clock runs only in here: a handler that takes its time is not the client's fault.
        """
        until = trio.current_time() + self._body_left
        data = await self._wire.receive(until)
        self._body_left = until - trio.current_time()
        self._note_pace(len(data))
        return data

    def _note_pace(self, size: int) -> None:
        limits = self._limits
        self._body_got += size
        if self._body_got >= limits.body_rate * limits.body_window:
            self._body_got, self._body_left = 0, limits.body_window

    async def _send_continue(self) -> None:
        self._continue_owed = False
        if self._wire.buffer or self.head_sent:
            return  # it didn't wait; or it has its answer
        self._continuing = trio.Event()
        try:
            await self._wire.send(_CONTINUE)
        finally:
            self._continuing.set()
            self._continuing = None

    async def wait_closed(self) -> None:
        """Return once the client has closed the connection. Only after the body's end.

        What it sends meanwhile is kept, up to 64 KiB; beyond that nothing is read, and so its
        going isn't noticed here any more.
        """
        wire = self._wire
        try:
            while len(wire.buffer) < READ_AHEAD:
                data = await wire.receive()
                if not data:
                    return
                wire.buffer += data
        except ClientGone:
            return
        await trio.sleep_forever()

    # --- the answer ----------------------------------------------------------------------------

    @property
    def head_sent(self) -> bool:
        """Whether the final head was sent: whether it's too late to answer something else."""
        return self.status != 0

    @property
    def is_whole(self) -> bool:
        """Whether the client has all of the answer: it may hang up before `finish` is called."""
        if self.upgraded:
            return not self.aborted
        framing = self._framing
        has_all = framing.kind == "none" or self.sent == framing.length
        return self.finished or (self.head_sent and has_all)

    async def send_head(
        self,
        status: int,
        headers: Headers | Lines,
        *,
        reason: bytes = b"",
        framing: Framing | None = None,
        body: bytes = b"",
        end: bool = False,
    ) -> None:
        """Send a head; of status 1xx (but 101) any number before the final one.

        Raises ValueError, having sent nothing, where something in it can't be sent as it is.

        Args:
            headers: without Connection and framing, which are added here.
            framing: `of_length` where the length is known; anything else: it is not.
            body: the first piece of the body, which leaves in the same write.
            end: `body` is all of it; `finish` is done by that.
        """
        if status < 200 and not self.head_sent and status != 101:
            await self._send_informational(status, headers, reason)
            return
        head = self._final_head(status, headers, reason, framing)
        payload = self._framed(body, end=end)
        if len(payload) > PIECE:  # not worth a copy
            await self._write(head)
            await self._write(payload)
        else:
            await self._write(head + payload)
        self.finished = end

    def answer_nowait(
        self, status: int, headers: Headers | Lines, *, reason: bytes, framing: Framing, body: bytes
    ) -> None:
        """Send a whole answer without waiting, to a request that was taken by `Turns`.

        What the client has no room for is kept, and leaves before the connection goes on: `body`
        is no longer than a piece.
        """
        head = self._final_head(status, headers, reason, framing)
        is_last = not self.keep_alive and not self._wire.buffer
        self._wire.send_nowait(head + self._framed(body, end=True), last=is_last)
        self.finished = True

    def _final_head(
        self, status: int, headers: Headers | Lines, reason: bytes, framing: Framing | None
    ) -> bytes:
        """Settle what the answer will be, and return its head's bytes."""
        if self.head_sent or status == 101:
            raise RuntimeError("a second answer to one request, or 101 without upgrade()")
        self.status = status
        if self.on_head is not None:
            headers = self.on_head(read_lines(headers) if isinstance(headers, bytes) else headers)
        headers = self._sealed(headers)
        self._continue_owed = self._continue_owed and not self._body.done
        self._settle(framing)
        try:
            return write_response_head(
                status, reason, headers, self._told(framing), keep_alive=self.keep_alive
            )
        except ValueError:
            self.status = 0  # nothing was sent: something else still can be
            raise

    async def send_body(self, data: bytes | bytearray, *, end: bool = False) -> None:
        """Send a piece of the body; dropped where the answer has none (HEAD, 204, 304).

        `end`: it is the last one; `finish` is done by that, in the same write.
        """
        if not self.head_sent or self.finished:
            raise RuntimeError("a body before its head or after its end")
        wire_bytes = self._framed(data, end=end)
        if wire_bytes:
            await self._write(wire_bytes)
        self.finished = end

    async def send_rest(self, source: Source, at_end: Callable[[], bool]) -> None:
        """Send all that `source` has to say as the rest of the body, and end the answer.

        Args:
            at_end: whether the piece that was received last was the last one.

        Raises:
            RemoteProtocolError: the body is not as long as its head said; the connection is cut.
            Exception: whatever the source raised.
        """
        if not self.head_sent or self.finished:
            raise RuntimeError("a body before its head or after its end")
        if self._continuing is not None:
            await self._continuing.wait()
        async with self._wire.open_end() as client:
            answer = AnswerSink(self, client, at_end)
            await Flow(source, answer).run()
            self.finished = answer.is_ended
        await self.finish()

    async def finish(self) -> None:
        """End the answer.

        Raises:
            RemoteProtocolError: the body is shorter than its head said; the connection is cut.
        """
        if not self.finished:
            await self.send_body(b"", end=True)

    async def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Send a whole answer in one write."""
        framing = Framing("length", len(body))
        await self.send_head(status, headers, framing=framing, body=body, end=True)

    def abort(self) -> None:
        """Cut the connection when the handler returns: the client can't take this for whole."""
        self.aborted = True

    async def upgrade(self, headers: Headers | Lines) -> UpgradedStream:
        """Send 101 and return the connection as bytes, from the first that follow the request.

        Only for a request whose `upgrade` is set. HTTP never comes back on this connection.
        """
        if not self.request.upgrade or self.head_sent:
            raise RuntimeError("an upgrade that nobody asked for, or after the answer")
        head = write_response_head(
            101, b"", self._sealed(headers), NO_BODY, keep_alive=True, upgrade=self.request.upgrade
        )
        self.status = 101
        self.keep_alive = False
        self.upgraded = True
        await self._write(head)
        return UpgradedStream(self._wire, self)

    def _sealed(self, headers: Headers | Lines) -> Headers | Lines:
        if self._seal is None:
            return headers
        if isinstance(headers, bytes):
            return self._seal.of_lines(headers)
        return self._seal.of(headers)

    async def _send_informational(
        self, status: int, headers: Headers | Lines, reason: bytes
    ) -> None:
        if self.request.version != b"1.1":
            return  # RFC 9110 §15.2
        if status == 100:
            if not self._continue_owed:
                return  # it has been told, or never asked
            self._continue_owed = False
        await self._write(write_response_head(status, reason, headers, NO_BODY, keep_alive=True))

    def _settle(self, framing: Framing | None) -> None:
        """Decide how the body is framed, and whether the connection can go on after it."""
        if self.request.method == b"HEAD" or self.status in {204, 304}:
            self._framing = NO_BODY
        elif framing is not None and framing.length is not None:
            self._framing = framing
        elif self.request.version == b"1.1":
            self._framing = CHUNKED
        else:
            self._framing = UNTIL_CLOSE
            self.keep_alive = False
        if not self._body.done:
            length = self.request.framing.length
            unread = math.inf if length is None else length - self.received
            if self._continue_owed or unread > self._limits.drain:
                self.keep_alive = False  # nobody can tell what comes next (HTTP-10)

    def _told(self, framing: Framing | None) -> Framing:
        """Return the framing that the head tells: to HEAD, also the length of what isn't sent."""
        if self._framing == NO_BODY and self.status != 204 and framing and framing.kind == "length":
            return framing
        return self._framing

    def _framed(self, data: bytes | bytearray, *, end: bool) -> bytes | bytearray:
        kind = self._framing.kind
        if kind == "none":
            return b""
        self.sent += len(data)
        if kind == "length":
            length = self._framing.length or 0
            if self.sent > length or (end and self.sent < length):
                self.abort()
                raise RemoteProtocolError(f"the answer has {self.sent} bytes, not {length} as said")
        elif kind == "chunked":
            return encode_chunk(data) + LAST_CHUNK if end else encode_chunk(data)
        return data

    async def _write(self, data: bytes | bytearray) -> None:
        if self.aborted:
            raise ClientGone("the answer was aborted")
        if self._continuing is not None:
            await self._continuing.wait()
        await self._wire.send(data)
