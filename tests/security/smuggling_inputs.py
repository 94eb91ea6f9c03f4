"""Messages that two servers could end in different places, and plain ones beside them.

    for name, make in INPUTS.items():
        pieces = make(Place(n=7, host="app.test", cookie="a=b"))

Each holds, where another reading would find a request, one for `/<n>/smuggled`. Behind each stands
`/<n>/end`, a good request that asks to close: whoever loses count takes it for something else.

Sources: RFC 9112 §6, §11.2; PortSwigger's desync families; the trophies of the HTTP Garden;
CVE-2021-40346, CVE-2022-31813, CVE-2023-25725, CVE-2023-40225, CVE-2025-43859, CVE-2025-55315.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

END = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


@dataclass(frozen=True)
class Place:
    """Whom an input asks, in whose name, and by which number its targets are known."""

    n: int
    host: str
    cookie: str

    def message(self, line: bytes, *headers: bytes, body: bytes = b"", host: bool = True) -> bytes:
        """Write a request as it comes; NAME in its first line becomes this place's own target."""
        lines = [line.replace(b"NAME", b"/%d" % self.n)]
        lines += [b"Host: " + self.host.encode()] if host else []
        lines += [b"Cookie: " + self.cookie.encode(), *headers]
        return b"\r\n".join([*lines, b"", b""]) + body

    def get(self, name: bytes, *headers: bytes) -> bytes:
        return self.message(b"GET NAME/%b HTTP/1.1" % name, *headers)

    def post(self, *headers: bytes, body: bytes = b"") -> bytes:
        return self.message(b"POST NAME/first HTTP/1.1", *headers, body=body)

    @property
    def smuggled(self) -> bytes:
        return self.get(b"smuggled")

    @property
    def end(self) -> bytes:
        return self.get(b"end", b"Connection: close")


Pieces = tuple[bytes, ...]  # sent one after the other, with a pause between
Make = Callable[[Place], Pieces]


# --- Content-Length and Transfer-Encoding ----------------------------------------------------------


def ends_early(place: Place, *headers: bytes) -> Pieces:
    """By chunks the message ends before what its length, N, holds: the smuggled request."""
    body = END + place.smuggled
    return (place.post(*_counted(headers, len(body)), body=body) + place.end,)


def ends_late(place: Place, *headers: bytes) -> Pieces:
    """By its length, N, the message ends before its first chunk: the smuggled request."""
    size = b"%x\r\n" % len(place.smuggled)
    body = size + place.smuggled + b"\r\n" + END
    return (place.post(*_counted(headers, len(size)), body=body) + place.end,)


def _counted(headers: tuple[bytes, ...], length: int) -> list[bytes]:
    return [header.replace(b"N!", b"%d" % length) for header in headers]


CODINGS = [
    *(b": chunked", b":chunked", b": Chunked", b": CHUNKED", b":\tchunked", b": chunked ", b":  chunked"),
    *(b": chunked\t", b" : chunked", b"\t: chunked", b": xchunked", b": chunkedx", b": chunk", b": x"),
    *(b": chunked, chunked", b": gzip, chunked", b": chunked, gzip", b": identity", b": identity, chunked"),
    *(b": chunked, identity", b": chunked,", b": ,chunked", b":", b": ", b": ,", b': "chunked"', b": 'chunked'"),
    *(b": chunked;a=b", b": chunked; q=0", b": chunked\x0b", b": \x0bchunked", b": \x0cchunked", b": \x00chunked"),
    *(b": chunked\x00", b": \x7fchunked", b": \xa0chunked", b": \x85chunked", b": chunked\xa0", b": \xffchunked"),
    *(b": chu\r\n nked", b":\r\n chunked", b":\r\n\tchunked", b":\n chunked", b": chunked\r", b": \rchunked"),
    *(b": chunked\nX: y", b": x\nTransfer-Encoding: chunked", b": chunked\r\n\tx", b": \xef\xbd\x83hunked"),
    *(b": c\xc5\xbfhunked", b": chun\xe2\x84\xaaed", b": trailers, chunked", b": chunked chunked", b": none"),
]  # fmt: skip
NAMES = [
    *(b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer_Encoding", b"Transfer.Encoding"),
    *(b"Transfer-Encoding-", b" Transfer-Encoding", b"\tTransfer-Encoding", b"X\r\nTransfer-Encoding"),
    *(b"Transfer Encoding", b"Transfer-Encoding\x00", b"\x00Transfer-Encoding", b"X: y\nTransfer-Encoding"),
    *(b"X: y\rTransfer-Encoding", b"Transfer\xadEncoding", b"Tran\xc5\xbffer-Encoding", b"\xffTransfer-Encoding"),
    *(b"X: y\r\rTransfer-Encoding", b"X: y\r\n\r Transfer-Encoding", b":Transfer-Encoding", b"TE"),
]  # fmt: skip
LENGTHS = [
    *(b": N!", b":N!", b":\tN! ", b": +N!", b": -N!", b": 0N!", b": 00000N!", b": N!.0", b": N!e0", b": 0xN!"),
    *(b": N!_0", b": N!,", b": ,N!", b": N!, N!", b": N!,0", b": 0, N!", b": N! 0", b": N! N!", b": N!;a", b': "N!"'),
    *(b":", b": ", b": x", b": -0", b": +0", b": 0", b": 0x0", b": 00", b": \xd9\xa5", b": N!\x00", b": N!\x0b"),
    *(b": N!\xa0", b": \x0bN!", b": \xa0N!", b": 18446744073709551616", b": 9223372036854775808", b": 4294967296"),
    *(b": 99999999999999999999999999", b" : N!", b"\t: N!", b":\r\n N!", b": \r\n\tN!", b": N!\r\n 0", b": N!\r"),
    *(b": N!\nX: y", b": 0\r\nContent-Length: N!", b": N!\r\nContent-Length: 0", b": N!\r\nContent-Length: N!"),
    *(b": N!\r\nContent_Length: 0", b": N!\r\ncontent-length : 0", b": N!\r\nContent-Length:", b": x\r\nContent-Length: N!"),
]  # fmt: skip


def framings() -> Iterator[tuple[str, Make]]:
    length = b"Content-Length: N!"
    for coding in CODINGS:
        header = b"Transfer-Encoding" + coding
        yield f"{header!r}", _with(ends_early, header)
        yield f"{header!r} after a length", _with(ends_early, length, header)
        yield f"{header!r} before a length", _with(ends_late, header, length)
    for name in NAMES:
        header = name + b": chunked"
        yield f"{header!r} after a length", _with(ends_early, length, header)
        yield f"{header!r} before a length", _with(ends_late, header, length)
    for value in LENGTHS:
        header = b"Content-Length" + value
        yield f"{header!r}", _with(ends_early, header)
    for coding in (CHUNKED + b"\r\n" + CHUNKED, CHUNKED + b"\r\nTransfer-Encoding: identity"):
        yield f"{coding!r}", _with(ends_early, coding)
        yield f"{coding!r} after a length", _with(ends_early, length, coding)
    for version in (b"1.0", b"1.2", b"2.0", b"0.9"):
        line = b"POST NAME/first HTTP/" + version
        yield f"chunks in {version!r}", _old(line, CHUNKED)
        yield f"a length in {version!r}", _old(line, length)
        yield f"both in {version!r}", _old(line, length, CHUNKED, b"Connection: keep-alive")


def _with(make: Callable[..., Pieces], *headers: bytes) -> Make:
    return lambda place: make(place, *headers)


def _old(line: bytes, *headers: bytes) -> Make:
    def make(place: Place) -> Pieces:
        body = END + place.smuggled
        return (place.message(line, *_counted(headers, len(body)), body=body) + place.end,)

    return make


# --- Chunks ----------------------------------------------------------------------------------------

BODIES = {  # of a chunked message: HIDDEN is the smuggled request
    "an extension": b"5;a=b\r\nhello\r\n" + END,
    "an extension after a blank": b"5 ;a\r\nhello\r\n" + END,
    "an extension with LF": b"5;a\nhello\r\n" + END,
    "an extension with CR": b"5;a\rhello\r\n" + END,
    "an extension in quotes over lines": b'5;a="\r\nhello\r\n0\r\n\r\nHIDDEN"\r\n' + END,
    "an extension that hides a size": b"2;\nxx\r\n28\r\n0\r\n\r\nHIDDEN" + END,
    "a size without digits": b"\r\nhello\r\n" + END,
    "a semicolon alone": b";\r\nhello\r\n" + END,
    "0x5": b"0x5\r\nhello\r\n" + END,
    "0x": b"0x\r\n\r\nHIDDEN",
    "+5": b"+5\r\nhello\r\n" + END,
    "-5": b"-5\r\nhello\r\n" + END,
    "-0": b"-0\r\n\r\nHIDDEN",
    "+0": b"+0\r\n\r\nHIDDEN",
    "1_0": b"1_0\r\n0123456789abcdef\r\n" + END,
    "5_": b"5_\r\nhello\r\n" + END,
    "5 and a blank": b"5 \r\nhello\r\n" + END,
    "a blank and 5": b" 5\r\nhello\r\n" + END,
    "a tab and 5": b"\t5\r\nhello\r\n" + END,
    "5 and VT": b"5\x0b\r\nhello\r\n" + END,
    "5 and NUL": b"5\x00\r\nhello\r\n" + END,
    "5 and NBSP": b"5\xa0\r\nhello\r\n" + END,
    "5G": b"5G\r\nhello\r\n" + END,
    "decimal point": b"5.0\r\nhello\r\n" + END,
    "other digits": b"\xd9\xa5\r\nhello\r\n" + END,
    "full width": b"\xef\xbc\x95\r\nhello\r\n" + END,
    "005": b"005\r\nhello\r\n" + END,
    "00000005": b"00000005\r\nhello\r\n" + END,
    "nine digits": b"000000005\r\nhello\r\n" + END,
    "seventeen digits": b"00000000000000005\r\nhello\r\n" + END,
    "2**32 + 5": b"100000005\r\nhello\r\n" + END,
    "2**64 + 5": b"10000000000000005\r\nhello\r\n" + END,
    "2**64 - 1": b"ffffffffffffffff\r\nhello\r\n" + END,
    "2**63": b"8000000000000000\r\n" + END + b"HIDDEN",
    "many zeros at the end": b"5\r\nhello\r\n" + b"0" * 30 + b"\r\n\r\nHIDDEN",
    "00 at the end": b"5\r\nhello\r\n00\r\n\r\n",
    "upper case": b"A\r\n0123456789\r\na\r\n0123456789\r\n" + END,
    "LF after a size": b"5\nhello\r\n" + END,
    "LF after data": b"5\r\nhello\n" + END,
    "CR after a size": b"5\rhello\r\n" + END,
    "CR after data": b"5\r\nhello\r" + END,
    "CR CR LF after a size": b"5\r\r\nhello\r\n" + END,
    "nothing after data": b"5\r\nhello" + END,
    "two bytes after data": b"5\r\nhelloXX" + END,
    "two bytes that fit": b"5\r\nhello0\r\n" + b"\r\nHIDDEN",
    "more data than said": b"3\r\nhello\r\n" + END,
    "less data than said": b"f\r\nhello\r\n" + END,
    "LF at the end": b"5\r\nhello\r\n0\n\nHIDDEN",
    "LF at the very end": b"5\r\nhello\r\n0\r\n\nHIDDEN",
    "CR at the end": b"5\r\nhello\r\n0\r\r\nHIDDEN",
    "no empty line at the end": b"5\r\nhello\r\n0\r\nHIDDEN",
    "an extension at the end": b"5\r\nhello\r\n0;a\r\n\r\nHIDDEN",
    "a trailer": b"5\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n",
    "a framing trailer": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
    "a coding trailer": b"5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a Host trailer": b"5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n",
    "a folded trailer": b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    "a trailer with LF": b"5\r\nhello\r\n0\r\nX: y\n\nHIDDEN",
    "a trailer without a name": b"5\r\nhello\r\n0\r\n: y\r\n\r\n",
    "a trailer without a colon": b"5\r\nhello\r\n0\r\nhello\r\n\r\n",
    "a trailer with a blank": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "a request for a trailer": b"5\r\nhello\r\n0\r\nHIDDEN",
    "a size line and no more": b"5\r\n",
    "half of the data": b"5\r\nhel",
    "no end": b"5\r\nhello\r\n",
    "the end only": END,
    "a request in a chunk": b"SIZE\r\nHIDDEN\r\n" + END,
}  # fmt: skip


def chunks() -> Iterator[tuple[str, Make]]:
    for name, body in BODIES.items():
        yield f"chunks: {name}", _chunked(body)


def _chunked(body: bytes) -> Make:
    def make(place: Place) -> Pieces:
        size = b"%x" % len(place.smuggled)
        full = body.replace(b"SIZE", size).replace(b"HIDDEN", place.smuggled)
        return (place.post(CHUNKED, body=full) + place.end,)

    return make


# --- Request lines ---------------------------------------------------------------------------------

LINES = [
    *(b"GET NAME/first", b"GET NAME/first ", b"GET  NAME/first HTTP/1.1", b"GET NAME/first  HTTP/1.1"),
    *(b"GET\tNAME/first\tHTTP/1.1", b" GET NAME/first HTTP/1.1", b"GET NAME/first HTTP/1.1 ", b"GET NAME/a b HTTP/1.1"),
    *(b"GET NAME/first HTTP/1.1\tx", b"GET NAME/first HTTP/1.1 HTTP/1.1", b"GET NAME/first HTTP /1.1"),
    *(b"GET NAME/first http/1.1", b"GET NAME/first HTTP/1", b"GET NAME/first HTTP/1.", b"GET NAME/first HTTP/.1"),
    *(b"GET NAME/first HTTP/11", b"GET NAME/first HTTP/1.10", b"GET NAME/first HTTP/01.1", b"GET NAME/first HTTP/1,1"),
    *(b"GET NAME/first HTTP/1.9", b"GET NAME/first HTTP/2.0", b"GET NAME/first HTTP/3", b"GET NAME/first FTP/1.1"),
    *(b"GET NAME/first HTTP/\xd9\xa1.1", b"GET NAME/first HTTPS/1.1", b"GET NAME/first HTTP/1.1\x00"),
    *(b"GET NAME/first#x HTTP/1.1", b"GET NAME/\xff HTTP/1.1", b"GET NAME/\x00 HTTP/1.1", b"GET NAME/\x7f HTTP/1.1"),
    *(b"GET NAME/\x0b HTTP/1.1", b"GET NAME/a\xa0b HTTP/1.1", b"GET NAME/a\rb HTTP/1.1", b"GET NAME/a\nb HTTP/1.1"),
    *(b"GET http://evil.testNAME/first HTTP/1.1", b"GET HTTP://evil.testNAME HTTP/1.1", b"GET evil.test:80 HTTP/1.1"),
    *(b"GET //evil.testNAME HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET ?NAME HTTP/1.1", b"GET  HTTP/1.1"),
    *(b"CONNECT evil.test:443 HTTP/1.1", b"TRACE NAME/first HTTP/1.1", b"get NAME/first HTTP/1.1", b"Get NAME HTTP/1.1"),
    *(b"GE(T NAME/first HTTP/1.1", b"G\x00T NAME/first HTTP/1.1", b"GET\xa0NAME/first HTTP/1.1", b"\xffGET NAME HTTP/1.1"),
    *(b"PRI * HTTP/2.0", b"GET NAME/first HTTP/1.1\r", b"GET NAME/first HTTP/1.1\nX: y", b"\r\r\nGET NAME/first HTTP/1.1"),
    *(b"\r\nGET NAME/first HTTP/1.1", b"\nGET NAME/first HTTP/1.1", b"\r\n\r\nGET NAME/first HTTP/1.1"),
    *(b"\rGET NAME/first HTTP/1.1", b"\x00GET NAME/first HTTP/1.1", b"\xef\xbb\xbfGET NAME/first HTTP/1.1"),
    *(b"GET NAME/%0d%0aX:%20y HTTP/1.1", b"GET NAME/../x HTTP/1.1", b'GET NAME/"<>\\^`{|} HTTP/1.1', b"GET NAME/?a?b HTTP/1.1"),
]  # fmt: skip


def lines() -> Iterator[tuple[str, Make]]:
    for line in LINES:
        yield f"line: {line!r}", _line(line)


def _line(line: bytes) -> Make:
    return lambda place: (place.message(line) + place.end,)


# --- Header lines ----------------------------------------------------------------------------------

HEADERS: list[tuple[bytes, ...]] = [
    *((b"X: a", b" b"), (b"X: a", b"\tb"), (b"X: a", b" b: c"), (b"X:", b" Host: evil.test"), (b"X: a", b" ")),
    *((b"X: a\nY: b",), (b"X: a\rY: b",), (b"X: a\r",), (b"X: a\n",), (b"X: a\x00b",), (b"X: \x01",), (b"X: \x7f",)),
    *((b": a",), (b":",), (b"X",), (b"X ",), (b"X : a",), (b"X\t: a",), (b" X: a",), (b"X\x00: a",), (b"X\xff: a",)),
    *((b"X(: a",), (b'"X": a',), (b"X\x0b: a",), (b"X Y: a",), (b"X@: a",), (b"X:Y: a",), (b"X: a", b"X: b")),
    *((b"X: \xff\xfe",), (b"X:" + b" " * 300 + b"a",), (b"X: " + b"a" * 4000,), (b"X_Y.Z: a",), (b"X: a\r\n\r",)),
    *((b"X: a\r\n\nY: b",), (b"X: a\n\r\nY: b",), (b"X: a\r\n\r\rY: b",), (b"X: a\r\n:\r\nY: b",), (b"X: a\n\nGET /b HTTP/1.1",)),
    *((b"Host: HOST",), (b"Host: evil.test",), (b"host: HOST",), (b" Host: evil.test",), (b"Host : evil.test",)),
    *((b"Host:",), (b"Host",), (b"X: y\nHost: evil.test",), (b"X-Host: evil.test", b"Forwarded: host=evil.test")),
    *((b"Connection: keep-alive",), (b"Connection: Keep-Alive, X",), (b"Connection:",), (b"Connection: ,",)),
    *((b"Connection: close",), (b"Connection: close, close",), (b"Connection: close", b"Connection: keep-alive")),
    *((b"Connection: Host",), (b"Connection: Cookie",), (b"Connection: Content-Length",), (b"Connection: a b",)),
    *((b"Connection: Transfer-Encoding",), (b"Connection: X-Forwarded-For",), (b"Connection: teleport-jwt-assertion",)),
    *((b"Connection: X-A", b"X-A: 1"), (b"Proxy-Connection: close",), (b"Keep-Alive: timeout=1",), (b"TE: trailers",)),
    *((b"Connection: Upgrade", b"Upgrade: h2c"), (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")),
    *((b"Connection: Upgrade", b"Upgrade: websocket", KEY, b"Sec-WebSocket-Version: 8"), (b"Upgrade: websocket",)),
    *((b"Connection: Upgrade", b"Upgrade: websocket, h2c", KEY, b"Sec-WebSocket-Version: 13"), (b"Upgrade: TLS/1.0",)),
    *((b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"), (b"Connection: Upgrade",)),
    *((b"Connection: Upgrade", b"Upgrade: websocket", KEY, b"Sec-WebSocket-Version: 13"),),
    *((b"Connection: Upgrade", b"Upgrade: websocket", KEY, KEY, b"Sec-WebSocket-Version: 13"),),
    *((b"Expect: 100-continue",), (b"Expect: 100-Continue, x",), (b"Expect: x",), (b"Expect:",), (b"Expect: 100-continue ",)),
    *((b"Content-Length: 0",), (b"Content-Length: 0", b"Expect: 100-continue"), (b"Trailer: Content-Length",)),
    *((b"X-HTTP-Method-Override: DELETE",), (b"X-Original-Url: /smuggled",), (b"X-Rewrite-Url: /smuggled",)),
]  # fmt: skip


def headers() -> Iterator[tuple[str, Make]]:
    for fields in HEADERS:
        yield f"headers: {fields!r}", _headed(fields)


def _headed(fields: tuple[bytes, ...]) -> Make:
    def make(place: Place) -> Pieces:
        named = [field.replace(b"HOST", place.host.encode()) for field in fields]
        return (place.get(b"first", *named) + place.end,)

    return make


# --- Several messages, and halves --------------------------------------------------------------------


def _all_lf(place: Place) -> Pieces:
    return (place.get(b"first").replace(b"\r\n", b"\n") + place.end,)


def _in_three(place: Place) -> Pieces:
    whole = place.post(b"Content-Length: 5", body=b"hello") + place.end
    return whole[:9], whole[9:-20], whole[-20:]


def _chunk_in_halves(place: Place) -> Pieces:
    head = place.post(CHUNKED)
    return head + b"5\r", b"\nhel", b"lo\r", b"\n0\r\n\r", b"\n" + place.end


def _smuggled_later(place: Place) -> Pieces:
    """The rest of a body comes late, and looks like a request."""
    hidden = place.smuggled
    return place.post(b"Content-Length: %d" % len(hidden)), hidden[:10], hidden[10:] + place.end


SEVERAL: dict[str, Make] = {
    "two": lambda p: (p.get(b"first") + p.end,),
    "five": lambda p: (b"".join(p.get(b"%d" % i) for i in range(4)) + p.end,),
    "twenty": lambda p: (b"".join(p.get(b"%d" % i) for i in range(19)) + p.end,),
    "bodies in turn": lambda p: (
        p.post(b"Content-Length: 5", body=b"hello")
        + p.post(CHUNKED, body=b"5\r\nhello\r\n" + END)
        + p.post(b"Content-Length: 0")
        + p.end,
    ),
    "a GET with a body": lambda p: (p.get(b"first", b"Content-Length: 5") + b"hello" + p.end,),
    "a GET with a request for its body": lambda p: (
        p.get(b"first", b"Content-Length: %d" % len(p.smuggled)) + p.smuggled + p.end,
    ),
    "a GET with chunks": lambda p: (p.get(b"first", CHUNKED) + b"5\r\nhello\r\n" + END + p.end,),
    "a GET with a body that isn't said": lambda p: (p.get(b"first") + b"hello\r\n" + p.end,),
    "a DELETE with a body": lambda p: (
        p.message(b"DELETE NAME/first HTTP/1.1", b"Content-Length: 5", body=b"hello") + p.end,
    ),
    "a body that is expected": lambda p: (
        p.post(b"Content-Length: 5", b"Expect: 100-continue", body=b"hello") + p.end,
    ),
    "expected chunks": lambda p: (
        p.post(CHUNKED, b"Expect: 100-continue", body=b"5\r\nhello\r\n" + END) + p.end,
    ),
    "a body of CRLF": lambda p: (p.post(b"Content-Length: 4", body=b"\r\n\r\n") + p.end,),
    "a line more than the body": lambda p: (p.post(b"Content-Length: 5", body=b"hello\r\n") + p.end,),
    "two lines more than the body": lambda p: (
        p.post(b"Content-Length: 5", body=b"hello\r\n\r\n") + p.end,
    ),
    "a byte more than the body": lambda p: (p.post(b"Content-Length: 5", body=b"hellox") + p.end,),
    "a byte less than the body": lambda p: (p.post(b"Content-Length: 6", body=b"hello"),),
    "half a head": lambda p: (p.get(b"first") + p.get(b"smuggled")[:-2],),
    "half a head, closed": lambda p: (p.get(b"first")[:-4],),
    "a request after close": lambda p: (p.get(b"first", b"Connection: close") + p.smuggled,),
    "a request after 1.0": lambda p: (p.message(b"GET NAME/first HTTP/1.0") + p.smuggled,),
    "1.0 that would stay": lambda p: (
        p.message(b"GET NAME/first HTTP/1.0", b"Connection: keep-alive") + p.smuggled,
    ),
    "a request after an upgrade": lambda p: (
        p.get(
            *(b"first", b"Connection: Upgrade", b"Upgrade: websocket"),
            *(KEY, b"Sec-WebSocket-Version: 13"),
        )
        + p.smuggled,
    ),
    "HTTP/0.9": lambda p: (b"GET /%d/first\r\n" % p.n + p.smuggled,),
    "no Host": lambda p: (p.message(b"GET NAME/first HTTP/1.1", host=False) + p.end,),
    "an old one without Host": lambda p: (
        p.message(b"GET NAME/first HTTP/1.0", host=False) + p.smuggled,
    ),
    "LF everywhere": _all_lf,
    "three pieces": _in_three,
    "chunks in halves": _chunk_in_halves,
    "a request for the rest of a body": _smuggled_later,
}  # fmt: skip

INPUTS: dict[str, Make] = {**dict(framings()), **dict(chunks()), **dict(lines()), **dict(headers())}
INPUTS |= SEVERAL

TRICKS = (
    *(b"\n", b"\r", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\0", b"\x0b", b"\xa0", b",", b";", b":", b"0", b"5", b"a"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"chunked"),
    *(b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b"HTTP/1.0"),
)  # fmt: skip


def mangled(data: bytes, draw: Random) -> bytes:
    """Return a message with one to three changes: a byte, a run that is gone or twice, a trick."""
    for _ in range(draw.randint(1, 3)):
        at, size = draw.randrange(len(data) + 1), draw.randint(1, 12)
        match draw.randrange(4):
            case 0:
                data = data[:at] + draw.randbytes(1) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at + size :]
            case 2:
                data = data[: at + size] + data[at:]
            case _:
                data = data[:at] + draw.choice(TRICKS) + data[at:]
    return data
