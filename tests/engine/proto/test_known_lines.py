"""Remembering lines of heads changes no verdict, and takes bounded room."""

from collections.abc import Callable
from functools import partial

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from tport.engine.proto.head import (
    judge_request_head,
    judge_response_head,
    parse_request_head,
    parse_response_head,
)
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proto.known_lines import KnownLines

_LINES = st.sampled_from(
    [
        b"Host: a.test",
        b"host:a.test:8443",
        b"Cookie: a=b; c=\xff",
        b"Accept:\t*/* ",
        b"Content-Length: 3",
        b"Content-Length: 3, 3",
        b"Transfer-Encoding: chunked",
        b"Connection: keep-alive",
        b"Connection: close, host",
        b"Upgrade: websocket",
        b"Expect: 100-continue",
        b"X-Empty:",
        b" folded: yes",
        b"X : blank",
        b"X: control\x01",
        b"X: bare\rreturn",
        b"X: bare\nfeed",
        b"X: zero\0",
        b"no colon",
        b": no name",
        b"",
    ]
)
_FIRST = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /a?b HTTP/1.1",
        b"GET / HTTP/1.0",
        b"CONNECT a:1 HTTP/1.1",
        b"TRACE / HTTP/1.1",
        b"VERSION-CONTROL / HTTP/1.1",
        b"GET /" + b"a" * 8192 + b" HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"get / HTTP/1.1",
        b"GET /# HTTP/1.1",
        b"GET http://a.test/ HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / HTTP/2.0",
    ]
)
_STATUS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 \xff",
        b"HTTP/1.1 200 \x01",
        b"HTTP/1.1 204 No Content",
        b"HTTP/1.1 304 Not Modified",
        b"HTTP/1.1 101 Switching Protocols",
        b"HTTP/1.1 099 No",
        b"HTTP/1.0 200 OK",
        b"HTTP/1.1  200 OK",
    ]
)


def _head(first: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    lines = st.lists(_LINES | st.binary(max_size=20), max_size=6)
    return st.builds(lambda a, b: b"\r\n".join([a, *b]) + b"\r\n\r\n", first, lines)


@given(_head(_FIRST), st.integers(0, 200))
@example(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 129 + b"Host: a\r\n\r\n", 200)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 20_000 + b"\r\n\r\n", 0)
def test_a_request_means_the_same_by_what_is_remembered_as_in_full(head: bytes, cut: int) -> None:
    for data in (head, head[:cut]):
        for _ in range(2):  # as new, and as known
            ours = _told(partial(parse_request_head, data))
            assert ours == _told(partial(judge_request_head, data.removeprefix(b"\r\n")))


@given(_head(_STATUS), st.sampled_from([b"GET", b"HEAD"]))
def test_an_answer_means_the_same_by_what_is_remembered_as_in_full(
    head: bytes, method: bytes
) -> None:
    for _ in range(2):
        ours = _told(partial(parse_response_head, head, request_method=method))
        assert ours == _told(partial(judge_response_head, head, method), status=502)


@given(st.binary(max_size=60) | _LINES)
def test_a_line_is_let_through_only_as_h11_reads_it(line: bytes) -> None:
    fields = KnownLines().fields([line])
    if fields is None:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.0\r\n" + line + b"\r\n\r\n")
    [name], [value] = ([field[part] for field in fields] for part in (0, 1))
    if name in {b"content-length", b"transfer-encoding", b"host"}:
        return  # h11 judges their values too, and so do we, in the head
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert list(event.headers) == [(name, value)]


def test_what_is_remembered_is_bounded_in_lines_and_bytes() -> None:
    known = KnownLines(lines=10, size=100)

    for number in range(1000):
        assert known.fields([b"N: %d" % number]) == [(b"n", b"%d" % number)]
        assert known.fields([b"Long: " + b"x" * 50]) is not None
        assert known.count <= 10
        assert known.held <= 100

    known = KnownLines()
    assert known.fields([b"A: " + b"x" * 5000]) is not None
    assert known.count == 0, "a long line is judged each time"


def test_what_says_another_thing_each_time_is_not_remembered() -> None:
    known = KnownLines()
    for number in (1, 2, 1):
        assert known.fields([b"A: b", b"Traceparent: %d" % number, b"B: c"]) == [
            (b"a", b"b"),
            (b"traceparent", b"%d" % number),
            (b"b", b"c"),
        ]

    assert known.count == 2
    assert known.judged == 5


def test_one_line_that_is_none_spoils_all() -> None:
    known = KnownLines()
    for bad in ([b"A: b", b"none"], [b"none", b"A: b"], [b"A: b", b"a\x00: b", b"C: d"]):
        assert known.fields(bad) is None
        assert known.fields(bad) is None


def _told(read: Callable[[], object], status: int | None = None) -> object:
    """Return what a head means, or how it was refused."""
    try:
        return read()
    except BadHead as bad:
        return str(bad), status or bad.status
