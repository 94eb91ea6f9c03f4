"""Heads and bodies that two servers could read differently: HTTP-01 to HTTP-13, TLS-11."""

import pytest

from tport.engine.errors import InvalidRequest, RemoteProtocolError
from tport.engine.proto.body import ChunkedReader
from tport.engine.proto.fields import fold, forwardable, is_reserved
from tport.engine.proto.head import parse_request_head, parse_response_head
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proto.host import split_host

LINE = b"POST / HTTP/1.1\r\nHost: a.test\r\n"


def post(*lines: bytes) -> bytes:
    return LINE + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def get(target: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: a.test\r\n\r\n"


# Table 1.2a of the requirements, our column; more rows of HTTP-01 to HTTP-11 in between.
CORPUS: list[tuple[str, bytes, int]] = [
    ("HTTP-01 CL and TE", post(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400),
    ("HTTP-01 TE and CL", post(b"Transfer-Encoding: chunked", b"Content-Length: 5"), 400),
    ("HTTP-02 two equal CL", post(b"Content-Length: 5", b"Content-Length: 5"), 400),
    ("HTTP-02 CL list", post(b"Content-Length: 5, 5"), 400),
    ("HTTP-02 two CL", post(b"Content-Length: 5", b"Content-Length: 6"), 400),
    *(
        (f"HTTP-02 CL {form!r}", post(b"Content-Length: " + form), 400)
        for form in (b"+5", b"-5", b"0x5", b"1_0", b"", b"5 5", b"\xb2", b"5;", b"1" * 30)
    ),
    ("HTTP-02 CL 10**15", post(b"Content-Length: 1" + b"0" * 15), 413),
    ("HTTP-03 space before colon", post(b"Content-Length : 5"), 400),
    ("HTTP-03 obs-fold", post(b"X: a", b" b"), 400),
    ("HTTP-03 obs-fold of TE", post(b"Transfer-Encoding:", b"\tchunked"), 400),
    ("HTTP-03 obs-fold first", b"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", 400),
    ("HTTP-03 bare LF", post(b"X: y").replace(b"\r\n", b"\n"), 400),
    ("HTTP-03 one bare LF", post(b"X: y\nZ: a"), 400),
    ("HTTP-03 bare CR", post(b"X: y\rZ: a"), 400),
    ("HTTP-03 CR CR LF", post(b"X: y\r"), 400),
    ("HTTP-03 NUL", post(b"X: a\x00b"), 400),
    ("HTTP-03 DEL", post(b"X: a\x7fb"), 400),
    ("HTTP-03 empty name", post(b": x"), 400),
    ("HTTP-03 no colon", post(b"X"), 400),
    ("HTTP-03 name in quotes", post(b'"X": y'), 400),
    ("HTTP-03 name not ASCII", post(b"X\xe4: y"), 400),
    ("HTTP-05 TE identity", post(b"Transfer-Encoding: identity"), 501),
    ("HTTP-05 TE gzip, chunked", post(b"Transfer-Encoding: gzip, chunked"), 501),
    ("HTTP-05 TE chunked, chunked", post(b"Transfer-Encoding: chunked, chunked"), 501),
    ("HTTP-05 TE xchunked", post(b"Transfer-Encoding: xchunked"), 501),
    ("HTTP-05 TE empty", post(b"Transfer-Encoding:"), 501),
    ("HTTP-05 TE with VT", post(b"Transfer-Encoding: \x0bchunked"), 400),
    ("HTTP-05 TE twice", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    ("HTTP-05 TE in 1.0", post(b"Transfer-Encoding: chunked").replace(b"/1.1", b"/1.0"), 400),
    ("HTTP-06 absolute-form", get(b"http://evil.test/"), 400),
    ("HTTP-06 CONNECT", b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n", 405),
    ("HTTP-06 TRACE", b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n", 405),
    ("HTTP-06 fragment", get(b"/a#b"), 400),
    ("HTTP-06 asterisk", b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 400),
    ("HTTP-06 no slash", get(b"a"), 400),
    ("HTTP-06 0xff", get(b"/\xff"), 400),
    ("HTTP-06 tab", get(b"/a\tb"), 400),
    ("HTTP-06 two spaces", get(b" /"), 400),
    ("HTTP-06 long target", get(b"/" + b"a" * 8192), 414),
    ("HTTP-06 very long target", get(b"/" + b"a" * 20_000), 414),
    ("HTTP-06 lower-case method", get(b"/").replace(b"GET", b"get"), 400),
    ("HTTP-06 odd method", get(b"/").replace(b"GET", b"GE,T"), 400),
    ("HTTP-06 long method", get(b"/").replace(b"GET", b"A" * 21), 400),
    ("HTTP/1.9", get(b"/").replace(b"1.1", b"1.9"), 505),
    ("HTTP/2.0", get(b"/").replace(b"1.1", b"2.0"), 505),
    ("PRI preface", b"PRI * HTTP/2.0\r\n\r\n", 505),
    ("HTTP/0.9", b"GET /\r\n\r\n", 400),
    ("http/1.1", get(b"/").replace(b"HTTP", b"http"), 400),
    ("two leading empty lines", b"\r\n\r\n" + get(b"/"), 400),
    ("nothing", b"\r\n\r\n", 400),
    ("HTTP-07 no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("HTTP-07 two equal Hosts", post(b"Host: a.test"), 400),
    ("HTTP-07 two Hosts", post(b"Host: b.test"), 400),
    ("HTTP-07 two Hosts in 1.0", post(b"Host: b.test").replace(b"/1.1", b"/1.0"), 400),
    *(
        (f"HTTP-07 Host {host!r}", b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 400)
        for host in (b"", b"a b/@evil?#", b'a";for=1', b"a.test, b.test", b"user@a.test", b"a/b")
    ),
    (
        "HTTP-08 websocket and h2c",
        post(b"Connection: upgrade", b"Upgrade: websocket, h2c"),
        400,
    ),
    ("HTTP-10 Expect", post(b"Expect: y 100-continue", b"Content-Length: 3"), 417),
    ("HTTP-10 Expect list", post(b"Expect: 100-continue, x", b"Content-Length: 3"), 417),
    ("HTTP-10 Expect twice", post(b"Expect: 100-continue", b"Expect: 100-continue"), 417),
    *(
        (f"HTTP-11 Connection {name!r}", post(b"Connection: close, " + name), 400)
        for name in (
            *(b"Host", b"Cookie", b"Authorization", b"X-Forwarded-Host", b"x_forwarded_for"),
            *(b"Teleport-Jwt-Assertion", b"X-Real-Ip", b"Content-Length", b"a b", b"x;y"),
        )
    ),
    ("DOS-02 129 headers", post(*[b"X: y"] * 128), 431),
    ("DOS-02 long line", post(b"X: " + b"y" * 17_000), 431),
    ("DOS-02 1 MB", post(*[b"X: " + b"y" * 100] * 9001), 431),
]


@pytest.mark.parametrize(("head", "status"), [c[1:] for c in CORPUS], ids=[c[0] for c in CORPUS])
def test_a_head_that_could_be_read_in_two_ways_is_refused(head: bytes, status: int) -> None:
    """HTTP-01, HTTP-02, HTTP-03, HTTP-05, HTTP-06, HTTP-07, HTTP-08, HTTP-10, HTTP-11, DOS-02."""
    with pytest.raises(BadHead) as refused:
        parse_request_head(head)
    assert refused.value.status == status


def test_one_empty_line_before_a_request_is_allowed() -> None:
    """Table 1.2a, and no more than one."""
    assert parse_request_head(b"\r\n" + get(b"/a")).target == b"/a"


@pytest.mark.parametrize(
    "wire",
    [
        b"5;a\r\nhello\r\n0\r\n\r\n",
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"0" * 30 + b"5\r\nhello\r\n0\r\n\r\n",
        b"fffffffff\r\n",
        b"\r\n5\r\nhello",
        b"\xb2\r\nhello",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r0\r\n\r\n",
        b"0\r\nbad trailer\r\n\r\n",
        b"0\r\na: b\n\r\n\r\n",
        b"0\r\n a: b\r\n\r\n",
    ],
)
def test_http_04_a_chunk_has_one_form(wire: bytes) -> None:
    """HTTP-04: refused whether it comes whole or byte by byte."""
    with pytest.raises(RemoteProtocolError):
        ChunkedReader().feed(wire)
    reader = ChunkedReader()
    with pytest.raises(RemoteProtocolError):
        b"".join(reader.feed(bytes((byte,))) for byte in wire)


def test_http_04_trailers_are_dropped() -> None:
    """HTTP-04: they never become headers, and what follows them is not lost."""
    reader = ChunkedReader()

    assert reader.feed(b"5\r\nhello\r\n0\r\nTeleport-Jwt-Assertion: x\r\n\r\nGET") == b"hello"
    assert reader.done
    assert reader.leftover == b"GET"


def test_http_08_an_h2c_upgrade_is_dropped() -> None:
    """HTTP-08: the application sees neither Upgrade nor HTTP2-Settings."""
    head = parse_request_head(
        get(b"/").replace(
            b"\r\n\r\n",
            b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n",
        )
    )

    assert head.upgrade == b""
    assert forwardable(head.headers, head.connection_tokens) == [(b"host", b"a.test")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"GET", b"POST"),
        (b"Version: 13", b"Version: 8"),
        (b"Version: 13", b"Version: 13, 8"),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="),
        (b"Sec-WebSocket-Key", b"X-Key"),
        (b"Host: a.test", b"Host: a.test\r\nContent-Length: 3"),
    ],
)
def test_http_08_a_malformed_websocket_handshake_is_refused(old: bytes, new: bytes) -> None:
    """HTTP-08."""
    handshake = (
        b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert parse_request_head(handshake).upgrade == b"websocket"

    with pytest.raises(BadHead) as refused:
        parse_request_head(handshake.replace(old, new))
    assert refused.value.status == 400


def test_http_11_what_connection_lists_goes_no_further() -> None:
    """HTTP-11: the listed header and the Connection header itself."""
    head = parse_request_head(post(b"Connection: X-Id, close", b"X-Id: 1", b"Accept: a"))

    kept = forwardable(head.headers, head.connection_tokens)

    assert kept == [(b"host", b"a.test"), (b"accept", b"a")]


@pytest.mark.parametrize(
    "name",
    [
        *(b"X_Forwarded_For", b"X.Forwarded.For", b"x-forwarded_for", b"Teleport_Jwt_Assertion"),
        *(b"TELEPORT.JWT.ASSERTION", b"Cf_Access_Token"),
    ],
)
def test_http_12_an_alias_of_a_reserved_name_is_dropped(name: bytes) -> None:
    """HTTP-12: by default for its `_` or `.`; where those are let in, for its fold."""
    headers = [(name.lower(), b"evil")]

    assert forwardable(headers, frozenset()) == []
    assert is_reserved(fold(name))


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: Set-Cookie\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 129 + b"\r\n",
    ],
)
def test_http_16_an_app_s_head_is_judged_as_strictly(head: bytes) -> None:
    """HTTP-16: and always blamed on the application."""
    with pytest.raises(BadHead) as refused:
        parse_response_head(head, request_method=b"GET")
    assert refused.value.status == 502


@pytest.mark.parametrize(
    "host", [b"GRAFANA.Proxy.Test", b"grafana.proxy.test.", b"grafana.proxy.test:443"]
)
def test_tls_11_one_host_however_it_is_spelt(host: bytes) -> None:
    """TLS-11."""
    assert split_host(host)[0] == "grafana.proxy.test"


@pytest.mark.parametrize(
    "host",
    [
        *(b"grafana.proxy.test:0443", b"grafana.proxy.test:99999", b"x@grafana.proxy.test"),
        *(b"grafana.proxy.test\t", b"grafana.proxy.test%00", b"grafana.proxy.test\n"),
        *("gr\u0430fana.proxy.test".encode(), b"grafana.proxy.test..", b"grafana.proxy.test:\xb2"),
    ],
)
def test_tls_11_anything_else_is_no_host_at_all(host: bytes) -> None:
    """TLS-11: never a match by accident."""
    with pytest.raises(InvalidRequest):
        split_host(host)
