"""Answers of applications, and the body that each plainly has; None: it has no plain end.

EVIL is an answer that a second reader could find in one of them: it must never reach anybody.
"""

from __future__ import annotations

EVIL = b"HTTP/1.1 200 OK\r\nX-Evil: yes\r\nContent-Length: 4\r\n\r\nevil"
END = b"0\r\n\r\n"
LAST = b"5\r\nhello\r\n" + END


def answer(*headers: bytes, body: bytes = b"", line: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([line, *headers, b"", b""]) + body


LENGTH, CHUNKED = b"Content-Length: 5", b"Transfer-Encoding: chunked"
HELLO = answer(LENGTH, body=b"hello")

PLAIN: list[tuple[bytes, bytes]] = [
    (HELLO, b"hello"),
    (answer(CHUNKED, body=LAST), b"hello"),
    (answer(CHUNKED, body=b"5\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n"), b"hello"),
    (answer(b"Content-Length: 0"), b""),
    (answer(line=b"HTTP/1.1 204 No Content"), b""),
    (answer(LENGTH, line=b"HTTP/1.1 304 Not Modified"), b""),
    (answer(LENGTH, body=b"hello", line=b"HTTP/1.1 200 "), b"hello"),
    (answer(LENGTH, body=b"hello", line=b"HTTP/1.1 200"), b"hello"),
    (answer(LENGTH, body=b"hello", line=b"HTTP/1.0 200 OK"), b"hello"),
    (answer(line=b"HTTP/1.1 103 Early Hints") + HELLO, b"hello"),
    (answer(line=b"HTTP/1.1 100 Continue") + HELLO, b"hello"),
    # What follows a whole answer is none of it.
    (HELLO + EVIL, b"hello"),
    (HELLO + b"\r\n", b"hello"),
    (HELLO + b"more", b"hello"),
    (answer(CHUNKED, body=LAST) + EVIL, b"hello"),
    (answer(line=b"HTTP/1.1 204 No Content") + EVIL, b""),
    (answer(LENGTH, line=b"HTTP/1.1 304 Not Modified", body=b"hello") + EVIL, b""),
    (answer(b"Content-Length: 0") + EVIL, b""),
    (answer(b"Content-Length: %d" % len(EVIL), body=EVIL), EVIL),
    (answer(b"Connection: close", LENGTH, body=b"hello") + EVIL, b"hello"),
]

_HEADS = [
    *((CHUNKED, LENGTH), (LENGTH, CHUNKED), (LENGTH, LENGTH), (LENGTH, b"Content-Length: 0")),
    *((b"Content-Length: 5, 5",), (b"Content-Length: +5",), (b"Content-Length: 0x5",), (b"Content-Length: 5 5",)),
    *((b"Content-Length:",), (b"Content-Length: -1",), (b"Content-Length: 5;",), (b"Content-Length : 5",)),
    *((b"Content-Length: 5\x00",), (b"Content-Length: \xb5",), (b"Content-Length: 1_0",), (b"Content-Length:", b" 5")),
    *((b"Content-Length: 18446744073709551621",), (b"Content-Length: 5\nX: y",), (b"Content-Length: 5\rX: y",)),
    *((b"Transfer-Encoding: gzip, chunked",), (b"Transfer-Encoding: identity",), (b"Transfer-Encoding: xchunked",)),
    *((CHUNKED, CHUNKED), (b"Transfer-Encoding: \x0bchunked",), (b"Transfer-Encoding:", b" chunked")),
    *((b"Transfer-Encoding : chunked",), (b" Transfer-Encoding: chunked",), (b"Transfer-Encoding: chunked, chunked",)),
    *((LENGTH, b"X: a", b" b"), (LENGTH, b": a"), (LENGTH, b"X"), (LENGTH, b"X: a\x00"), (LENGTH, b"X\x00: a")),
    *((LENGTH, b"X: a\n\nY: b"), (LENGTH, b"X: a\r\n\nY: b"), (LENGTH, b"X Y: a"), (LENGTH, b"X\xff: a")),
]  # fmt: skip
_LINES = [
    *(b"HTTP/1.1  200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200\tOK", b"HTTP/1.1 0200 OK"),
    *(b"HTTP/2.0 200 OK", b"HTTP/2 200 OK", b"HTTP/1.2 200 OK", b"HTTP/0.9 200 OK", b"http/1.1 200 OK", b"ICY 200 OK"),
    *(b" HTTP/1.1 200 OK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 OK\nX: y", b"HTTP/1.1 200 OK\r", b"\r\nHTTP/1.1 200 OK"),
    *(b"HTTP/1.1 +200 OK", b"HTTP/1.1 2_0 OK", b"HTTP/1.1 \xb2\xb2\xb2 OK", b"200 OK", b"HTTP/1.1", b"HTTP/1.1 099 Low"),
]  # fmt: skip
_CHUNKS = [
    *(b"5;a=b\r\nhello\r\n" + END, b"5 \r\nhello\r\n" + END, b"0x5\r\nhello\r\n" + END, b"+5\r\nhello\r\n" + END),
    *(b"5\nhello\r\n" + END, b"5\r\nhello\n" + END, b"5\r\nhelloXX" + END, b"-0\r\n\r\n", b"000000005\r\nhello\r\n" + END),
    *(b"\r\nhello\r\n" + END, b"5\r\nhello\r\n0\n\n", b"5\r\nhello\r\n0\r\n\n", b"5\r\nhello\r\n0;a\r\n\r\n", b"hello"),
    *(b"5\r\nhello\r\n0\r\n: y\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", b"3\r\nhello\r\n" + END, b"5\r\nhe", b""),
    *(b"5\r\nhello\r\n", b"5\r\nhello\r\n0\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n", b"10000000000000005\r\nhello\r\n" + END),
]  # fmt: skip

ANSWERS: list[tuple[bytes, bytes | None]] = [
    *PLAIN,
    *((answer(*headers, body=LAST) + EVIL, None) for headers in _HEADS),
    *((answer(LENGTH, line=line, body=b"hello") + EVIL, None) for line in _LINES),
    *((answer(CHUNKED, body=chunks) + EVIL, None) for chunks in _CHUNKS[:-5]),
    *((answer(CHUNKED, body=chunks), None) for chunks in _CHUNKS[-5:]),
    (answer(CHUNKED, line=b"HTTP/1.0 200 OK", body=LAST) + EVIL, None),
    (answer(LENGTH, line=b"HTTP/1.1 204 No Content", body=b"hello") + EVIL, None),
    (answer(CHUNKED, line=b"HTTP/1.1 204 No Content", body=LAST) + EVIL, None),
    (answer(LENGTH, line=b"HTTP/1.1 103 Early Hints", body=b"hello") + EVIL, None),
    (answer(line=b"HTTP/1.1 101 Switching Protocols") + EVIL, None),
    (
        answer(
            *(b"Connection: Upgrade", b"Upgrade: websocket"),
            line=b"HTTP/1.1 101 Switching Protocols",
        )
        + EVIL,
        None,
    ),
    (answer(line=b"HTTP/1.1 100 Continue") * 9 + HELLO, None),
    (answer(b"Content-Length: 50", body=b"hello"), None),
    (b"hello\r\n\r\n", None),
    (b"", None),
]
