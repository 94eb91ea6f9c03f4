"""TLS over any trio stream.

Unlike trio.SSLStream it sends the alert that says why a handshake failed, tells a connection
that was cut from one that ended, and hands out everything that has arrived in one piece: one
wake-up, one result.

What TLS itself wants to say in between (a key update's answer, by RFC 8446 §4.6.3 due before the
next data) leaves with the next data. So the receiving side sends nothing while the connection lives,
and the two need no lock; where it broke, it sends the alert that says why, unless a sender is at it.
"""

from __future__ import annotations

import contextlib
import math
import ssl
from collections.abc import Callable
from typing import Final

import trio

from tport.engine.defaults import READ_SIZE, TUNNEL_WRITE
from tport.engine.net.tcp import Prompt, TcpStream

CLOSE_DEADLINE: Final = 1.0  # s to get a last word out: close_notify, or an alert
# Bytes that TLS may want to say at a time without our having sent anything: 600 answers to key
# updates, of which honest peers send one in an hour.
MAX_OWED: Final = 16 * 1024
_RECORD: Final = 16 * 1024  # bytes; TLS carries no more in one piece
# Bytes a recv: a full write of a tunnel as TLS 1.3 makes it, 22 more for each record. So none of it
# stays behind, and records don't come in halves.
_WIRE: Final = TUNNEL_WRITE // _RECORD * (_RECORD + 22)
# Bytes that are encrypted, and sent, at a time. A write of the tunnel, 97 KiB at most, leaves in one piece; and it
# is below the 128 KiB that malloc maps and unmaps.
_SEND: Final = 7 * _RECORD

# What is read is decrypted into one of these, and leaves it as bytes: a piece of its own for each record, joined, takes
# a quarter more CPU. Who reads has one for that moment; there are as many as threads read.
_ROOM: Final = max(READ_SIZE, TUNNEL_WRITE)  # what anybody asks for at a time
_rooms = [memoryview(bytearray(_ROOM))]


class TlsStream(trio.abc.Stream):
    """One end of a TLS connection over `transport`, which it owns.

    Call `do_handshake` first. Afterwards one task may send while another receives.

    Args:
        server_name: clients: SNI, and the name to verify where the context checks names.
        received: bytes of the peer that were read from the transport already.
        ragged_end: whether an end without close_notify is an end. HTTP says by itself when a
            message was cut, and browsers hang up like that; of anything else it is a cut.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str | None = None,
        received: bytes = b"",
        ragged_end: bool = False,
    ) -> None:
        self.transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._incoming.write(received)
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name
        )
        self._server_side = server_side
        self._ragged_end = ragged_end
        self._sending = self._receiving = False
        self._said_goodbye = False
        self._ready = False  # the handshake is done, and close_notify makes sense
        self._ended = self._closed = False
        self._left = True  # there may be more than was read from here; the handshake's end tells
        self._broken: Exception | None = None

    @property
    def prompt(self) -> Prompt | None:
        """The stream for those who use it without a task; None: its transport can't be."""
        return _PromptTls(self, self.transport) if isinstance(self.transport, TcpStream) else None

    @property
    def alpn(self) -> str | None:
        """The protocol both sides agreed upon, if any."""
        return self._tls.selected_alpn_protocol()

    @property
    def has_stirred(self) -> bool:
        """Whether bytes or an end have come that nobody has received yet, as far as TLS knows."""
        return (
            self._incoming.pending > 0
            or self._tls.pending() > 0
            or self._ended
            or self._broken is not None
        )

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate (DER); None: it showed none."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def version(self) -> str | None:
        """The version spoken, such as "TLSv1.3"."""
        return self._tls.version()

    async def do_handshake(self) -> None:
        """Shake hands. Once, before anything else.

        Raises:
            ssl.SSLError: either side refused; the other was told.
            trio.BrokenResourceError: the peer left.
        """
        try:
            while not self._step():
                if self._outgoing.pending:
                    await self.transport.send_all(self._outgoing.read())
                if not await self._pull():
                    raise self._hung_up()
        except ssl.SSLError as problem:
            self._broken = problem
            await self._last_word()
            raise
        if self._owes_now():
            await self.transport.send_all(self._outgoing.read())

    def shake_nowait(self) -> bool:
        """Go on with the handshake by what has come, without a task; tell whether it is done.

        Only over TCP. What the peer has no room for is `unsent` there: then go on by `do_handshake`.

        Raises:
            ssl.SSLError: either side refused; the other was told.
            trio.BrokenResourceError, trio.ClosedResourceError: the peer left.
        """
        transport = self.transport
        assert isinstance(transport, TcpStream), "a handshake that needs a task"
        try:
            while not self._step():
                if self._outgoing.pending:
                    transport.send_nowait(self._outgoing.read())
                if (data := transport.receive_nowait()) is None:
                    return False
                if not data:
                    raise self._hung_up()
                self._incoming.write(data)
        except ssl.SSLError as problem:
            self._broken = problem
            transport.send_nowait(self._outgoing.read())
            raise
        if self._owes_now():
            transport.send_nowait(self._outgoing.read())
        return True

    def _hung_up(self) -> trio.BrokenResourceError:
        self._broken = EOFError("the peer left during the handshake")
        return trio.BrokenResourceError(str(self._broken))

    def _owes_now(self) -> bool:
        """Tell whether the peer waits for what TLS has to say at the end of the handshake.

        What a server of TLS 1.3 has to say then is a ticket for the next time: it leaves with the
        first answer, which saves a packet.
        """
        if self._server_side and self.version == "TLSv1.3":
            return False
        return bool(self._outgoing.pending)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has arrived, at most READ_SIZE or `max_bytes`; b"": the peer has ended."""
        limit = READ_SIZE if max_bytes is None else max_bytes
        if not isinstance(limit, int):
            raise TypeError("max_bytes must be an integer or None")
        if limit < 1:
            raise ValueError("max_bytes must be >= 1")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this TLS stream")
        self._receiving = True
        try:
            if self._incoming.pending or self._tls.pending() or self._ended or self._broken:
                await trio.lowlevel.checkpoint()  # before reading: nothing is lost if cancelled
            while True:
                self._check_usable()
                data = self._read(limit)
                if data or self._ended:
                    return data
                if self._broken is not None:
                    await self._last_word()
                elif not await self._pull():
                    if not self._ragged_end:
                        self._broken = EOFError("the peer cut the connection")
                    self._ended = True
        finally:
            self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._begin_sending()
        try:
            self._check_usable()
            if not data:
                await trio.lowlevel.checkpoint()
            left = memoryview(data)
            while left:
                left = left[self._write(left[:_SEND]) :]
                try:
                    await self.transport.send_all(self._outgoing.read())
                except BaseException as error:  # also cancelled: half a record may have left
                    self._broken = error if isinstance(error, Exception) else EOFError("cut short")
                    raise
        finally:
            self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        self._begin_sending()
        try:
            self._check_usable()
            await self.transport.wait_send_all_might_not_block()
        finally:
            self._sending = False

    async def aclose(self) -> None:
        """Say goodbye, if that takes no longer than CLOSE_DEADLINE, and close the transport.

        Cancelled, as by `aclose_forcefully`, it says none: the peer is not to take this for an end.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if self._ready and self._broken is None and not _is_cancelled():
                self._say_goodbye()
                await self._last_word()
        finally:
            await self.transport.aclose()

    def _step(self) -> bool:
        """Go on with the handshake; tell whether it is done.

        Raises:
            ssl.SSLError: it failed.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._ready = True
        return True

    def _say_goodbye(self) -> None:
        """Queue close_notify, once. That of the peer is not waited for."""
        if not self._said_goodbye:
            self._said_goodbye = True
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass

    def _write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt it, in as many records as it takes; return how many bytes of it were."""
        try:
            return self._tls.write(data)
        except ssl.SSLError as error:
            self._broken = error
            raise trio.BrokenResourceError(str(error)) from error

    def _read(self, limit: int) -> bytes:
        """Decrypt what is there; b"" when it is not enough, or `_ended` or `_broken` was set."""
        if self._ended:
            return b""
        try:
            room = _rooms.pop()
        except IndexError:  # others have them
            room = memoryview(bytearray(_ROOM))
        try:
            size = self._read_into(room, min(limit, _ROOM))
            return bytes(room[:size])
        finally:
            _rooms.append(room)

    def _read_into(self, room: memoryview, limit: int) -> int:
        size = 0
        self._left = False
        incoming, tls = self._incoming, self._tls
        try:
            while size < limit:
                asked = min(_RECORD, limit - size)
                # typeshed doesn't know that with a buffer a number comes back.
                got: int = tls.read(asked, room[size:] if size else room)  # type: ignore[assignment]
                if not got:
                    self._ended = True
                    break
                size += got
                # Of a record nothing is left behind what is less than was asked for.
                if not incoming.pending and (got < asked or not tls.pending()):
                    break
            else:
                # There was more than may be returned at once, or the beginning of a record.
                self._left = bool(incoming.pending or tls.pending())
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._ended = True
        except ssl.SSLError as error:
            self._broken = error
        if self._outgoing.pending > MAX_OWED and self._broken is None:
            self._broken = EOFError("the peer asks for nothing but key updates")
        return size

    async def _pull(self) -> bool:
        """Take bytes from the transport; False: it has ended."""
        data = await self.transport.receive_some(READ_SIZE)
        self._incoming.write(data)
        return bool(data)

    async def _last_word(self) -> None:
        """Send what TLS has to say, unless a sender is at it, or the peer doesn't listen."""
        if self._sending or not self._outgoing.pending:
            return
        if isinstance(self.transport, TcpStream):
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                if self.transport.send_nowait(self._outgoing.read()):
                    return
        with (
            trio.move_on_after(CLOSE_DEADLINE),
            contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await self.transport.send_all(self._outgoing.read())

    def _check_usable(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this TLS stream was closed")
        if self._broken is not None:
            raise trio.BrokenResourceError(str(self._broken)) from self._broken

    def _begin_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this TLS stream")
        self._sending = True


def _is_cancelled() -> bool:
    return trio.current_effective_deadline() == -math.inf


class _PromptTls:
    """A TLS stream over TCP, used without a task: see `tcp.Prompt`."""

    def __init__(self, stream: TlsStream, transport: TcpStream) -> None:
        self._stream = stream
        self._transport = transport

    @property
    def on_arrival(self) -> Callable[[], None] | None:
        return self._transport.on_arrival

    @on_arrival.setter
    def on_arrival(self, told: Callable[[], None] | None) -> None:
        self._transport.on_arrival = told

    @property
    def on_room(self) -> Callable[[], None] | None:
        return self._transport.on_room

    @on_room.setter
    def on_room(self, told: Callable[[], None] | None) -> None:
        self._transport.on_room = told

    @property
    def may_have_come(self) -> bool:
        return self._transport.may_have_come or self._stream.has_stirred

    def has_stirred(self) -> bool:
        return self._transport.has_stirred() or self._stream.has_stirred

    def close(self) -> None:
        self._stream._closed = True
        self._transport.close()

    def end(self) -> None:
        stream = self._stream
        if not stream._closed and stream._broken is None:
            stream._say_goodbye()
            try:
                if stream._outgoing.pending:
                    self._transport.send_nowait(stream._outgoing.read())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        self.close()

    def receive_nowait(self, max_bytes: int = READ_SIZE) -> bytes | None:
        stream, transport = self._stream, self._transport
        while transport.may_have_come or stream._left or stream._ended or stream._broken:
            if stream._closed or stream._broken is not None:
                stream._check_usable()
            if stream._ended:
                return b""  # what follows a goodbye is nobody's
            data = self._come(max_bytes)
            if data is not None:
                if not data:
                    return self._end()
                stream._incoming.write(data)
            elif not stream._left:
                return None
            if (read := stream._read(max_bytes)) or stream._ended:
                return read
            if stream._broken is None and data is not None and len(data) >= READ_SIZE:
                # Four records at least, without a byte in them: an honest peer has no use for it.
                stream._broken = EOFError("the peer sends much, and no data")
            if stream._broken is not None:
                transport.send_nowait(stream._outgoing.read())  # the alert that says why
                stream._check_usable()
        return None

    def _come(self, max_bytes: int) -> bytes | None:
        """Take bytes from the transport, unless as many are left from before.

        Its end, and what is wrong with it, come behind those: it tells again when none is left.
        """
        stream = self._stream
        if not stream._left:
            return self._transport.receive_nowait(_WIRE)
        if stream._incoming.pending + stream._tls.pending() >= max_bytes:
            return None
        try:
            return self._transport.receive_nowait(_WIRE) or None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return None

    def _end(self) -> bytes:
        """The transport has ended: so has the stream, unless TLS should have said so."""
        stream = self._stream
        if not stream._ended and not stream._ragged_end:
            stream._broken = EOFError("the peer cut the connection")
            stream._check_usable()
        stream._ended = True
        return b""

    def send_nowait(self, data: bytes | bytearray | memoryview) -> bool:
        self._encrypt(data)
        return self._transport.send_nowait(self._stream._outgoing.read())

    def send_last(self, data: bytes | bytearray | memoryview) -> bool:
        self._encrypt(data)
        self._stream._say_goodbye()
        return self._transport.send_nowait(self._stream._outgoing.read())

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        stream = self._stream
        if stream._closed or stream._broken is not None:
            stream._check_usable()
        written = stream._write(data) if data else 0
        while written < len(data):
            written += stream._write(memoryview(data)[written:])

    async def flush(self) -> None:
        await self._transport.flush()
