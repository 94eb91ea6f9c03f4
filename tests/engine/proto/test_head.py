"""What heads mean. What they may not hold is in tests/security/test_http.py."""

import gc
import sys
import tracemalloc
from itertools import chain

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tport.engine.proto import head as heads
from tport.engine.proto.framing import CHUNKED, NO_BODY, UNTIL_CLOSE, of_length
from tport.engine.proto.head import (
    Block,
    RequestHead,
    ResponseHead,
    find_head_end,
    judge_request_head,
    parse_request_head,
    parse_response_head,
)
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proto.known_lines import MAX_ANSWERED
from tport.engine.proto.memory import Memory

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def request(text: str) -> RequestHead:
    return parse_request_head(text.replace("\n", "\r\n").encode("latin-1"))


def response(text: str, method: bytes = b"GET") -> ResponseHead:
    return parse_response_head(text.replace("\n", "\r\n").encode("latin-1"), request_method=method)


def test_a_request_is_read() -> None:
    head = request("POST /a?b=%20|{} HTTP/1.1\nHost: A.Test.:8443\nX-Id:  a b\t\nX-ID:\n\n")

    assert (head.method, head.target, head.version) == (b"POST", b"/a?b=%20|{}", b"1.1")
    assert (head.host, head.port) == ("a.test", 8443)
    assert head.values(b"x-id") == [b"a b", b""]
    assert (head.framing, head.keep_alive, head.upgrade) == (NO_BODY, True, b"")


def test_the_old_version_neither_waits_nor_stays() -> None:
    head = request("POST / HTTP/1.0\nContent-Length: 3\nExpect: 100-continue\n\n")

    assert (head.host, head.framing) == ("", of_length(3))
    assert not head.keep_alive
    assert not head.expect_continue


@pytest.mark.parametrize(
    ("header", "framing"),
    [
        ("Content-Length: 0", of_length(0)),
        ("Content-Length: 999999999999999", of_length(10**15 - 1)),
        ("Transfer-Encoding: Chunked", CHUNKED),
    ],
)
def test_a_request_says_where_its_body_ends(header: str, framing: object) -> None:
    assert request(f"PUT / HTTP/1.1\nHost: a\n{header}\n\n").framing == framing


def test_an_expectation_counts_only_with_a_body() -> None:
    expect = "Host: a\nExpect: 100-Continue\n"
    assert request(f"PUT / HTTP/1.1\n{expect}Content-Length: 3\n\n").expect_continue
    assert not request(f"GET / HTTP/1.1\n{expect}\n").expect_continue


def test_connection_tokens_are_collected() -> None:
    head = request("GET / HTTP/1.1\nHost: a\nConnection: Close,, X-Id\nConnection: te\n\n")

    assert head.connection_tokens == {b"close", b"x-id", b"te"}
    assert not head.keep_alive


def test_a_websocket_handshake_is_an_upgrade() -> None:
    assert parse_request_head(HANDSHAKE).upgrade == b"websocket"


@pytest.mark.parametrize(
    "without",
    [(b"keep-alive, Upgrade", b"keep-alive"), (b"websocket", b"h2c"), (b"P/1.1", b"P/1.0")],
)
def test_an_upgrade_we_do_not_know_is_none(without: tuple[bytes, bytes]) -> None:
    assert parse_request_head(HANDSHAKE.replace(*without)).upgrade == b""


@pytest.mark.parametrize(
    ("text", "method", "framing", "length"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\n", b"GET", of_length(5), 5),
        ("HTTP/1.1 200\nTransfer-Encoding: chunked\n\n", b"GET", CHUNKED, None),
        ("HTTP/1.1 200 \n\n", b"GET", UNTIL_CLOSE, None),
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\n", b"HEAD", NO_BODY, 5),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n", b"HEAD", NO_BODY, None),
        ("HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n", b"GET", NO_BODY, 5),
        ("HTTP/1.1 204 No Content\n\n", b"GET", NO_BODY, 0),
        ("HTTP/1.1 103 Early Hints\nLink: x\n\n", b"GET", NO_BODY, 0),
    ],
)
def test_a_response_says_where_its_body_ends(
    text: str, method: bytes, framing: object, length: int | None
) -> None:
    head = response(text, method)

    assert (head.framing, head.length) == (framing, length)
    assert head.keep_alive is (framing != UNTIL_CLOSE)


def test_a_switch_to_websocket_is_told() -> None:
    head = response("HTTP/1.1 101 Yes\nConnection: Upgrade\nUpgrade: WebSocket\n\n")

    assert (head.status, head.upgrade) == (101, b"websocket")


@given(st.binary(max_size=40), st.integers(0, 80))
def test_the_end_of_a_head_is_found_wherever_the_network_cuts_it(rest: bytes, cut: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    wire, at = head + rest, min(cut, len(head) - 1)

    assert find_head_end(wire[:at]) == -1
    assert find_head_end(wire, at) == find_head_end(bytearray(wire)) == len(head)


def test_a_head_of_bare_line_feeds_ends_too() -> None:
    assert find_head_end(b"GET / HTTP/1.1\n\nx") == 16


_pieces = st.sampled_from(
    [
        *(b"GET", b"POST", b" ", b"/", b"/a?b", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r"),
        *(b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"Content-Length: 3\r\n", b"X: y\r\n", b":"),
        *(b"Transfer-Encoding: chunked\r\n", b"chunked", b"\t", b",", b"\x00", b"\xff", b"host"),
        *(b"Connection: close\r\n", b"Upgrade: websocket\r\n", b"HTTP/1.1 200 OK\r\n"),
    ]
)
_heads = st.lists(_pieces | st.binary(max_size=3), max_size=12).map(
    lambda parts: b"".join(parts) + b"\r\n\r\n"
)
_plausible = _heads.map(lambda rest: b"GET / HTTP/1.1\r\nHost: a\r\n" + rest)


@given(st.binary(max_size=100) | _heads | _plausible)
def test_what_we_believe_h11_reads_likewise(head: bytes) -> None:
    """HTTP-01 to HTTP-07, from the other side: any bytes are refused, or h11 agrees on them."""
    try:
        ours = parse_request_head(head)
    except BadHead:
        return
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(head.removeprefix(b"\r\n"))
    event = judge.next_event()

    assert isinstance(event, h11.Request)
    assert (ours.method, ours.target, ours.version) == (
        event.method,
        event.target,
        event.http_version,
    )
    assert [(n, v.lower()) for n, v in ours.headers] == [(n, v.lower()) for n, v in event.headers]


@given(st.binary(max_size=100) | _heads.map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest))
@example(b"HTTP/1.0 100\r\n\r\n")
def test_a_response_is_believed_or_refused(head: bytes) -> None:
    try:
        ours = parse_response_head(head, request_method=b"GET")
    except BadHead:
        return
    judge = h11.Connection(h11.CLIENT)
    judge.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    judge.receive_data(head)
    event = judge.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert event.status_code == ours.status


def test_the_same_lines_below_any_first_line_mean_the_same() -> None:
    below = b"Host: a.test\r\nX-Again: 1\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    seen = []
    for first in (b"GET /1", b"POST /2", b"GET /3?x", b"PUT /4"):
        asked = b"%b HTTP/1.1\r\n%b" % (first, below)
        assert parse_request_head(asked) == judge_request_head(asked)
        seen.append(parse_request_head(asked).headers)
    assert isinstance(seen[-1], Block)
    assert seen[-1] is seen[-2]


def test_an_answer_to_head_that_came_to_get_before_has_no_body() -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-Again: 2\r\nContent-Length: 3\r\n\r\n"
    for _ in range(3):
        assert parse_response_head(answer, request_method=b"GET").framing == of_length(3)
        assert parse_response_head(answer, request_method=b"HEAD").framing == NO_BODY


def test_what_is_remembered_of_whole_heads_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads._blocks, "_count", 1000)
    monkeypatch.setattr(heads._blocks, "_size", 1024 * 1024)
    for number in range(3000):
        lines = b"Host: a.test\r\nX-Number: %d\r\nX: %b\r\n\r\n" % (number, b"x" * (number % 3000))
        for _ in range(3):
            parse_request_head(b"GET / HTTP/1.1\r\n" + lines)
            parse_response_head(b"HTTP/1.1 200 OK\r\n" + lines, request_method=b"GET")
    parse_request_head(
        b"GET / HTTP/1.1\r\nHost: a.test\r\nX: %b\r\n\r\n" % (b"x" * heads.MAX_BLOCK)
    )
    for known, most in ((heads._blocks, 1000), (heads._answers, MAX_ANSWERED)):
        assert 0 < len(known) <= most
        assert all(len(key) <= heads.MAX_BLOCK for key in known)
        assert sum(map(len, known)) <= 1024 * 1024


@pytest.mark.parametrize(("lines", "length"), [(45, 1), (10, 300), (1, 3500)])
def test_dos_01_heads_of_lines_that_no_other_has_take_no_more_than_they_count(
    monkeypatch: pytest.MonkeyPatch, lines: int, length: int
) -> None:
    """A stranger sends them, so that of 1 KiB that came 24 are kept."""
    size = 1024 * 1024
    monkeypatch.setattr(heads, "_blocks", Memory(count=20_000, size=size, longest=heads.MAX_BLOCK))
    for number in range(300):
        below = b"".join(b"a:%d-%d%b\r\n" % (number, line, b"x" * length) for line in range(lines))
        for _ in range(3):
            parse_request_head(b"GET / HTTP/1.1\r\nHost: a.test\r\n%b\r\n" % below)

    parts = dict[int, object]()
    for rest, (version, headers, *said) in heads._blocks.items():
        for part in (rest, version, said, headers, *headers, *chain.from_iterable(headers)):
            parts[id(part)] = part
    taken = sum(map(sys.getsizeof, parts.values()))
    assert 0.5 * size < taken < 1.1 * size


def test_a_head_whose_connection_names_many_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DOS-01. What it means takes many times its bytes, and a stranger may send thousands of them."""
    monkeypatch.setattr(heads, "_blocks", Memory(count=10, size=10**6, longest=10**4))
    for tokens, kept in ((2, True), (heads.MAX_TOKENS + 1, False)):
        names = ", ".join(f"x-{tokens}-{number}" for number in range(tokens))
        head = f"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: {names}\r\n\r\n".encode()
        for _ in range(3):
            assert len(parse_request_head(head).connection_tokens) == tokens
        assert (head.partition(b"\r\n")[2] in heads._blocks) is kept


def test_answers_that_say_each_second_what_time_it_is_hold_two_mib_at_most() -> None:
    """As nearly all do: what is kept of past seconds never comes again."""
    lines = b"Server: x\r\nContent-Type: text/html\r\nCache-Control: no-cache\r\nX: %b\r\n" % (
        b"x" * 100
    )
    gc.collect()
    tracemalloc.start()
    try:
        for second in range(1500):
            date = b"Date: Thu, 26 Nov 2026 00:%02d:%02d GMT" % divmod(second, 60)
            for kind in (1, 2, 3) * 2:
                head = b"HTTP/1.1 200 OK\r\n%b\r\n%bContent-Length: %d\r\n\r\n" % (
                    date,
                    lines,
                    kind,
                )
                parse_response_head(head, request_method=b"GET")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 2 * 1024 * 1024
