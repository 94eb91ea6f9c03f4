"""A WebSocket application for tests, on wsproto: echoes, keeps what it heard, and says odd things when asked.

A text message `say NAME` makes it send the bytes that ODD has under that name; `cut` makes it reset
the connection, `leave` end it without a word. Everything else comes back as it was, a message at a time.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from tport.engine.proto.websocket import accept_key

MIB = 1024 * 1024
FIN = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x37\xfa\x21\x3d"
LINGER = 5.0  # s in which a client has to go once the connection is over


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = KEY,
    form: int = 0,
) -> bytes:
    """Write a frame, right or wrong.

    Args:
        rsv: the three reserved bits, 0 to 7.
        key: what the payload is masked with; None: it isn't, as a server's.
        form: 126 or 127: the length in that form though a shorter one would do.
    """
    size = len(payload)
    short = max(form, size if size < 126 else 126 if size < 65536 else 127)
    head = bytes(((FIN if fin else 0) | rsv << 4 | opcode, short | (0 if key is None else 0x80)))
    if short == 126:
        head += struct.pack("!H", size)
    elif short == 127:
        head += struct.pack("!Q", size)
    return head + (payload if key is None else key + masked(payload, key))


def masked(payload: bytes, key: bytes) -> bytes:
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(stream)).to_bytes(size)


def said(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Write a server's frame."""
    return frame(opcode, payload, fin=fin, rsv=rsv, key=None)


# What a server may say, and what none may: to the browser it comes as it is.
ODD: dict[str, bytes] = {
    "ping": said(PING, b"are you there"),
    "ping of 125": said(PING, b"p" * 125),
    "ping of 126": said(PING, b"p" * 126),
    "pong": said(PONG, b"nobody asked"),
    "fragments": said(TEXT, b"a", fin=False)
    + said(CONTINUATION, b"b", fin=False)
    + said(CONTINUATION, b"c"),
    "ping in fragments": said(BINARY, b"a", fin=False)
    + said(PING, b"x")
    + said(CONTINUATION, b"b"),
    "empty fragments": said(TEXT, fin=False) + said(CONTINUATION, fin=False) + said(CONTINUATION),
    "a long text": said(TEXT, b"x" * MIB),
    "a thousand": b"".join(said(TEXT, b"%d" % n) for n in range(1000)),
    "masked": frame(TEXT, b"hello"),
    "masked and long": frame(BINARY, b"x" * 70_000),
    "length in 126": frame(TEXT, b"short", key=None, form=126),
    "length in 127": frame(TEXT, b"short", key=None, form=127),
    "reserved bit": said(TEXT, b"x", rsv=2),
    "reserved opcode": said(3, b"x"),
    "reserved control": said(11, b"x"),
    "no utf-8": said(TEXT, b"\xff\xfe"),
    "a lone continuation": said(CONTINUATION, b"x"),
    "a fragmented ping": said(PING, b"x", fin=False),
    "half": said(TEXT, b"hello")[:4],
}


@dataclass
class Heard:
    """One connection as the application had it."""

    events: list[str] = field(default_factory=list)
    over: trio.Event = field(default_factory=trio.Event)


class WebSocketEcho:
    """Serves one connection after the other; `heard` has them in their order."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        heard = Heard()
        self.heard.append(heard)
        try:
            await _Talk(stream, heard).run()
        except trio.BrokenResourceError:
            heard.events.append("reset")
        finally:
            heard.over.set()


class _Talk:
    def __init__(self, stream: trio.SocketStream, heard: Heard) -> None:
        self._stream = stream
        self._heard = heard
        self._message = b""
        self._connection = Connection(ConnectionType.SERVER)
        self._over = False

    async def run(self) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._stream.receive_some()
        head, _, rest = data.partition(b"\r\n\r\n")
        if not await self._shake_hands(head):
            return
        while True:
            self._connection.receive_data(rest)
            for event in self._connection.events():
                await self._hear(event)
                if self._over:
                    await self._linger()
                    return
            rest = await self._stream.receive_some()
            if not rest:
                self._heard.events.append("end")
                return

    async def _shake_hands(self, head: bytes) -> bool:
        lines = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
        }
        protocols = lines.get(b"sec-websocket-protocol", b"")
        if protocols == b"nothing-i-speak":
            await self._stream.send_all(
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
            )
            return False
        answer = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Accept: " + accept_key(lines[b"sec-websocket-key"]),
        ]
        if protocols:
            answer.append(b"Sec-WebSocket-Protocol: " + protocols.split(b",")[-1].strip())
        if offer := lines.get(b"sec-websocket-extensions"):
            deflate = PerMessageDeflate()
            accepted = deflate.accept(offer.decode())
            assert isinstance(accepted, str)
            self._connection = Connection(ConnectionType.SERVER, [deflate])
            answer.append(f"Sec-WebSocket-Extensions: {deflate.name}; {accepted}".encode())
        await self._stream.send_all(b"\r\n".join([*answer, b"", b""]))
        return True

    async def _hear(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                data = event.data
                self._message += data.encode() if isinstance(data, str) else data
                if event.message_finished:
                    message, self._message = self._message, b""
                    await self._answer(message, text=isinstance(event, TextMessage))
            case Ping():
                self._heard.events.append(f"ping {bytes(event.payload)!r}")
                await self._send(event.response())
            case Pong():
                self._heard.events.append(f"pong {bytes(event.payload)!r}")
            case CloseConnection():
                self._heard.events.append(f"close {int(event.code)} {event.reason!r}")
                if self._connection.state is not ConnectionState.CLOSED:
                    await self._send(event.response())
                self._over = True

    async def _answer(self, message: bytes, *, text: bool) -> None:
        self._heard.events.append(f"{'text' if text else 'bytes'} {len(message)} {message[:40]!r}")
        if message == b"cut":
            now = struct.pack("ii", 1, 0)
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
            await trio.aclose_forcefully(self._stream)
            self._over = True
        elif message == b"leave":
            self._over = True
        elif message.startswith(b"say "):
            await self._stream.send_all(ODD[message[4:].decode()])
        elif message.startswith(b"close "):
            await self._send(CloseConnection(int(message[6:10]), message[11:].decode()))
        elif text:
            await self._send(TextMessage(message.decode()))
        else:
            await self._send(BytesMessage(message))

    async def _send(self, event: Event) -> None:
        await self._stream.send_all(self._connection.send(event))

    async def _linger(self) -> None:
        """End our side, and take what the client still says: unread, it would make the end a reset."""
        with trio.move_on_after(LINGER):
            try:
                await self._stream.send_eof()
                while await self._stream.receive_some():
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
