"""A WebSocket through proxy and agent is the WebSocket that it is without them: RFC 6455, case by case.

Each case is bytes, right or wrong, sent to an echo server twice: straight, and through a whole
cluster. What the server heard, and every byte that came back until the end, must be the same.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest
import trio

from tests.e2e.websocket_echo import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MIB,
    ODD,
    PING,
    PONG,
    TEXT,
    WebSocketEcho,
    frame,
)
from tests.stack import Person, Stack, open_stack

SIZES = (0, 1, 125, 126, 127, 65535, 65536, MIB)
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
)
DEFLATE = ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",)


@dataclass(frozen=True)
class Case:
    """What a client sends after its handshake.

    Attributes:
        code: with which the server closes; 0: it doesn't say.
        piece: bytes sent at a time; 0: all at once.
        leaves: the client hangs up after that; else it waits for the server's end.
    """

    name: str
    data: bytes
    code: int = 1000
    piece: int = 0
    headers: Sequence[str] = ()
    leaves: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a case: on the server's side, and on the client's."""

    heard: Sequence[str]
    status: int
    agreed: Sequence[str]  # what the server's handshake says of protocol and extensions
    received: bytes


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason)


def fragments(opcode: int, *pieces: bytes, between: bytes = b"") -> bytes:
    frames = [
        frame(CONTINUATION if n else opcode, piece, fin=n == len(pieces) - 1)
        for n, piece in enumerate(pieces)
    ]
    return between.join(frames)


def cases() -> Iterator[Case]:
    yield from lengths()
    yield from fragmentation()
    yield from controls()
    yield from closes()
    yield from reserved()
    yield from encodings()
    yield from departures()
    yield from handshakes()
    for name in ODD.keys() - {"half"}:
        yield Case(f"server says {name}", frame(TEXT, f"say {name}".encode()) + close())
    for code in (1000, 1001, 1008, 1011, 3000, 4999):
        yield Case(
            f"server closes with {code}",
            frame(TEXT, f"close {code} enough".encode()) + close(code),
            code,
        )


def lengths() -> Iterator[Case]:
    for size in SIZES:
        yield Case(f"text of {size}", frame(TEXT, b"t" * size) + close())
        yield Case(f"bytes of {size}", frame(BINARY, bytes(n & 255 for n in range(size))) + close())
    for size in (0, 1, 125, 126):
        yield Case(f"text of {size} byte by byte", frame(TEXT, b"t" * size) + close(), piece=1)
    for size in (65535, 65536):
        yield Case(f"bytes of {size} by 997", frame(BINARY, b"b" * size) + close(), piece=997)
    yield Case("a thousand messages", frame(TEXT, b"x") * 1000 + close())
    yield Case("length 5 in 126", frame(TEXT, b"hello", form=126) + close(), 1002)
    yield Case("length 5 in 127", frame(TEXT, b"hello", form=127) + close(), 1002)
    yield Case("length 200 in 127", frame(TEXT, b"h" * 200, form=127) + close(), 1002)
    yield Case("length of 2**63", b"\x82\xff" + b"\x80" + bytes(7) + b"abcd" + close(), 1002)


def fragmentation() -> Iterator[Case]:
    for count in (2, 3, 10, 500):
        yield Case(f"text in {count}", fragments(TEXT, *[b"piece"] * count) + close())
        yield Case(f"bytes in {count}", fragments(BINARY, *[b"\0\xff"] * count) + close())
    yield Case("1 MiB in 16", fragments(BINARY, *[b"x" * 65536] * 16) + close())
    yield Case("empty fragments", fragments(TEXT, b"", b"", b"") + close())
    yield Case("empty first fragment", fragments(TEXT, b"", b"x") + close())
    yield Case("empty last fragment", fragments(TEXT, b"x", b"") + close())
    yield Case("a character in two", fragments(TEXT, b"\xe2\x82", b"\xac") + close())
    yield Case(
        "a character byte by byte", fragments(TEXT, b"\xf0", b"\x9f", b"\x98", b"\x80") + close()
    )
    yield Case("cut between fragments", fragments(TEXT, b"a", b"b") + close(), piece=3)
    yield Case("continuation of nothing", frame(CONTINUATION, b"x") + close(), 1002)
    yield Case("open continuation of nothing", frame(CONTINUATION, fin=False) + close(), 1002)
    yield Case(
        "continuation after the end",
        fragments(TEXT, b"a", b"b") + frame(CONTINUATION, b"c") + close(),
        1002,
    )
    for opcode in (TEXT, BINARY):
        yield Case(
            f"new message {opcode} inside of one",
            frame(TEXT, b"a", fin=False) + frame(opcode, b"b") + close(),
            1002,
        )


def controls() -> Iterator[Case]:
    for size in (0, 1, 4, 125):
        yield Case(f"ping of {size}", frame(PING, b"p" * size) + close())
        yield Case(f"pong of {size}", frame(PONG, b"p" * size) + close())
    yield Case("ping of bytes", frame(PING, bytes(range(130, 250))) + close())
    yield Case("ten pings", b"".join(frame(PING, b"%d" % n) for n in range(10)) + close())
    yield Case("ping byte by byte", frame(PING, b"slow") + close(), piece=1)
    for opcode, name in ((PING, "ping"), (PONG, "pong")):
        yield Case(f"{name} of 126", frame(opcode, b"p" * 126) + close(), 1002)
        yield Case(f"{name} of 64 KiB", frame(opcode, b"p" * 65536) + close(), 1002)
        yield Case(f"fragmented {name}", frame(opcode, b"p", fin=False) + close(), 1002)
        yield Case(
            f"{name} between fragments",
            fragments(TEXT, b"a", b"b", b"c", between=frame(opcode, b"now")) + close(),
        )
    yield Case(
        "pings between fragments, byte by byte",
        fragments(BINARY, b"a", b"b", between=frame(PING, b"1") + frame(PING, b"2")) + close(),
        piece=1,
    )
    yield Case("close between fragments", frame(TEXT, b"a", fin=False) + close())
    yield Case("ping before the message", frame(PING) + frame(TEXT, b"x") + close())


def closes() -> Iterator[Case]:
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"close with {code}", close(code, b"because"), code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"close with {code}, which is none", close(code), 1002)
    yield Case("close without a code", close(None), 0)
    yield Case("close with half a code", frame(CLOSE, b"\x03"), 1002)
    yield Case("close with the longest reason", close(1000, b"r" * 123))
    yield Case("close with too long a reason", close(1000, b"r" * 124), 1002)
    yield Case("close with a reason in no utf-8", close(1000, b"\xff"), 1007)
    yield Case("close with a reason in utf-8", close(1000, "tschüß".encode()))
    yield Case("fragmented close", frame(CLOSE, b"\x03\xe8", fin=False), 1002)
    yield Case("text after close", close() + frame(TEXT, b"too late"))
    yield Case("ping after close", close() + frame(PING, b"too late"))
    yield Case("close after close", close(1000) + close(1001))
    yield Case("1 MiB after close", close() + frame(BINARY, b"x" * MIB))
    yield Case("close byte by byte", close(1000, b"slowly"), piece=1)


def reserved() -> Iterator[Case]:
    for bits in range(1, 8):
        yield Case(f"reserved bits {bits}", frame(TEXT, b"x", rsv=bits) + close(), 1002)
    for opcode in (BINARY, CLOSE, PING, PONG):
        yield Case(f"reserved bit on {opcode}", frame(opcode, rsv=4) + close(), 1002)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield Case(f"reserved opcode {opcode}", frame(opcode, b"x") + close(), 1002)
    for opcode in (TEXT, BINARY, PING, CLOSE):
        yield Case(f"opcode {opcode} without a mask", frame(opcode, key=None) + close(), 1002)
    yield Case("mask of zeros", frame(TEXT, b"hello", key=bytes(4)) + close())
    yield Case("mask of ones", frame(TEXT, b"hello", key=b"\xff" * 4) + close())
    yield Case("1 MiB with a reserved bit", frame(BINARY, b"x" * MIB, rsv=2) + close(), 1002)


def encodings() -> Iterator[Case]:
    good = {
        "two bytes": "äß",
        "three bytes": "€",
        "four bytes": "😀",
        "the last character": "\U0010ffff",
        "NUL": "\0",
        "byte order mark": "\ufeffx",
        "no character": "\ufffe",
    }
    for name, text in good.items():
        yield Case(f"utf-8: {name}", frame(TEXT, text.encode()) + close())
        yield Case(f"utf-8: {name}, byte by byte", frame(TEXT, text.encode()) + close(), piece=1)
    bad = {
        "overlong": b"\xc0\x80",
        "overlong slash": b"\xe0\x80\xaf",
        "surrogate": b"\xed\xa0\x80",
        "pair of surrogates": b"\xed\xa0\x80\xed\xb0\x80",
        "beyond the last": b"\xf4\x90\x80\x80",
        "lone continuation": b"a\x80",
        "cut short": b"a\xe2\x82",
        "0xff": b"\xff",
        "0xfe": b"ok\xfe",
        "five bytes": b"\xf8\x88\x80\x80\x80",
    }
    for name, wrong in bad.items():
        yield Case(f"no utf-8: {name}", frame(TEXT, wrong) + close(), 1007)
        yield Case(f"no utf-8, as bytes: {name}", frame(BINARY, wrong) + close())
    yield Case("no utf-8 over fragments", fragments(TEXT, b"\xe2\x82", b"x") + close(), 1007)
    yield Case("no utf-8 at the end", fragments(TEXT, b"fine", b"\xe2") + close(), 1007)


def departures() -> Iterator[Case]:
    whole = frame(TEXT, b"hello")
    for name, data in {
        "at once": b"",
        "after a frame": frame(PONG),  # an answer left unread would make a reset of it
        "in a head": whole[:1],
        "in a long head": frame(BINARY, b"x" * 70_000)[:6],
        "in a mask": whole[:4],
        "in a payload": whole[:-1],
        "between fragments": frame(TEXT, b"a", fin=False),
    }.items():
        yield Case(f"client leaves {name}", data, 0, leaves=True)
    yield Case("server leaves without a word", frame(TEXT, b"leave"), 0)
    yield Case(
        "server leaves in a frame's middle", frame(TEXT, b"say half") + frame(TEXT, b"leave"), 0
    )
    yield Case("server cuts", frame(TEXT, b"cut"), 0)


def handshakes() -> Iterator[Case]:
    asks = "Sec-WebSocket-Protocol: "
    yield Case("one protocol", frame(TEXT, b"x") + close(), headers=[f"{asks}chat.v1"])
    yield Case("two protocols", frame(TEXT, b"x") + close(), headers=[f"{asks}chat.v1, chat.v2"])
    yield Case("refused by the server", b"", 0, headers=[f"{asks}nothing-i-speak"])
    for name, text in (("short", b"hello"), ("long", b"hello " * 100_000), ("empty", b"")):
        yield Case(f"deflated, {name}", deflated(text) + close(), headers=DEFLATE)
    yield Case("not deflated though agreed", frame(TEXT, b"x") + close(), headers=DEFLATE)
    yield Case("deflated nonsense", frame(TEXT, b"\xff" * 9, rsv=4) + close(), 0, headers=DEFLATE)


def deflated(text: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-15)
    data = deflate.compress(text) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return frame(TEXT, data.removesuffix(b"\0\0\xff\xff"), rsv=4)


# --- Running them -------------------------------------------------------------------------------


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    person = await stack.user("alice")
    stack.raw_app.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
    assert (await person.get("raw")).status == 200
    return person


async def test_no_verdict_differs_from_the_one_without_us(stack: Stack, alice: Person) -> None:
    echo = WebSocketEcho()
    stack.raw_app.script = echo.serve
    host = stack.host("raw")
    ours = (f"Host: {host}:{stack.port}", f"Cookie: {alice.cookie('raw')}")
    every = list(cases())
    differing, wrong = [], []

    async def connect() -> trio.abc.Stream:
        return await trio.open_tcp_stream("127.0.0.1", stack.raw_app.port)

    async def connect_through() -> trio.abc.Stream:
        return await stack.connect(host)

    for case in every:
        direct = await judge(case, echo, connect, ["Host: 127.0.0.1"])
        passed = await judge(case, echo, connect_through, ours)
        if direct != passed:
            differing.append(f"{case.name}: {shown(direct)}, through us {shown(passed)}")
        if case.code and case.code != closed_with(direct.received):
            wrong.append(f"{case.name}: {shown(direct)}")

    assert len({case.name for case in every}) == len(every) >= 120
    assert wrong == []  # or a case is not what its name says
    assert differing == []


def shown(verdict: Verdict) -> str:
    size = len(verdict.received)
    return f"{verdict.status} {verdict.heard} {size} bytes: {verdict.received[:100]!r}"


async def judge(
    case: Case,
    echo: WebSocketEcho,
    connect: Callable[[], Awaitable[trio.abc.Stream]],
    headers: Sequence[str],
) -> Verdict:
    """Run one case on a fresh connection to the echo server, straight or not."""
    before = len(echo.heard)
    received = b""
    with trio.fail_after(20):
        async with await connect() as stream, trio.open_nursery() as nursery:
            lines = ["GET /ws HTTP/1.1", *headers, *UPGRADE, *case.headers, "", ""]
            await stream.send_all("\r\n".join(lines).encode())
            head, received = await read_head(stream)
            nursery.start_soon(send, stream, case)
            if not case.leaves:
                try:
                    while data := await stream.receive_some():
                        received += data
                except trio.BrokenResourceError:
                    pass  # without a close frame it's 1006, however TCP ended (RFC 6455 §7.1.5)
                nursery.cancel_scope.cancel()
        [heard] = echo.heard[before:]
        await heard.over.wait()
    status, *fields = head.split("\r\n")
    agreed = [field for field in fields if field.lower().startswith("sec-websocket-")]
    return Verdict(heard.events, int(status.split()[1]), sorted(agreed), received)


async def send(stream: trio.abc.SendStream, case: Case) -> None:
    size = case.piece or len(case.data) or 1
    try:
        for start in range(0, len(case.data), size):
            await stream.send_all(case.data[start : start + size])
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the server has left; what it said before is being read


async def read_head(stream: trio.abc.ReceiveStream) -> tuple[str, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        assert more, data
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode().lower(), rest


def closed_with(received: bytes) -> int:
    """The code of the last frame, when that is a close frame."""
    position = 0
    code = -1
    while position + 2 <= len(received):
        opcode, short = received[position] & 15, received[position + 1]
        extra = {126: 2, 127: 8}.get(short & 127, 0)
        size = (
            int.from_bytes(received[position + 2 : position + 2 + extra]) if extra else short & 127
        )
        start = position + 2 + extra + (4 if short & 128 else 0)
        position = start + size
        code = -1
        if opcode == CLOSE and size >= 2:
            code = int.from_bytes(received[start : start + 2])
    return code
