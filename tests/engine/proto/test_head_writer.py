import pytest

from tport.engine.proto import sieve
from tport.engine.proto.framing import CHUNKED, NO_BODY, UNTIL_CLOSE, of_length
from tport.engine.proto.head import parse_request_head, parse_response_head
from tport.engine.proto.head_writer import write_request_head, write_response_head

HOST = (b"host", b"app.test")


def test_a_request_is_read_back_as_it_was_written() -> None:
    head = write_request_head(b"POST", b"/a?b", [HOST, (b"x-id", b"\xe4 b")], CHUNKED)

    request = parse_request_head(head)

    assert (request.method, request.target, request.framing) == (b"POST", b"/a?b", CHUNKED)
    assert request.headers[:2] == (HOST, (b"x-id", b"\xe4 b"))
    assert request.keep_alive


def test_a_response_is_read_back_as_it_was_written() -> None:
    head = write_response_head(404, b"", [(b"a", b"")], of_length(3), keep_alive=False)

    response = parse_response_head(head, request_method=b"GET")

    assert (response.status, response.reason) == (404, b"Not Found")
    assert (response.framing, response.keep_alive) == (of_length(3), False)


def test_a_post_without_a_body_says_so() -> None:
    assert b"content-length: 0\r\n" in write_request_head(b"POST", b"/", [HOST], NO_BODY)
    assert b"content-length" not in write_request_head(b"GET", b"/", [HOST], NO_BODY)


def test_an_upgrade_is_ours_to_announce() -> None:
    head = write_response_head(101, b"", [], NO_BODY, keep_alive=True, upgrade=b"websocket")

    assert head.endswith(b"connection: upgrade\r\nupgrade: websocket\r\n\r\n")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((b"a", b"b\r\nc: d"), (b"a", b"b\n"), (b"a", b"\0"), (b"a", b"\x7f"), (b"a", b"b\r")),
        *((b"a b", b""), (b"a:", b""), (b"", b""), (b"a\r\nb", b"")),
        *((b"Content-Length", b"3"), (b"transfer-encoding", b"x"), (b"connection", b"x")),
    ],
)
def test_no_header_can_become_two_or_change_the_framing(name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match="header"):
        write_request_head(b"GET", b"/", [HOST, (name, value)], NO_BODY)
    with pytest.raises(ValueError, match="header"):
        write_response_head(200, b"", [(name, value)], UNTIL_CLOSE, keep_alive=False)


@pytest.mark.parametrize(
    ("method", "target"), [(b"GET", b"/ HTTP/1.1\r\n"), (b"GET /", b"/"), (b"GET", b"/a b")]
)
def test_no_request_line_can_become_two(method: bytes, target: bytes) -> None:
    with pytest.raises(ValueError, match="request line"):
        write_request_head(method, target, [HOST], NO_BODY)


def test_no_reason_can_become_a_header() -> None:
    with pytest.raises(ValueError, match="status line"):
        write_response_head(200, b"OK\r\na: b", [], NO_BODY, keep_alive=True)


def test_what_is_remembered_of_fields_is_bounded_and_changes_nothing() -> None:
    for number in range(10_000):
        fields = [(b"x", b"%d" % number), (b"long", b"y" * (number % 5000))]
        for _ in range(2):
            head = write_response_head(200, b"", fields, of_length(0), keep_alive=True)
            assert b"\r\nx: %d\r\nlong: " % number in head
        assert len(sieve._all) <= sieve.MAX_COUNT
    kept = list(map(len, sieve._all.values()))
    assert sum(kept) <= sieve.MAX_SIZE
    assert max(kept) <= sieve.MAX_LINE
    with pytest.raises(ValueError, match="can't be sent"):
        write_response_head(200, b"", [(b"x", b"1\r\ny: 2")], of_length(0), keep_alive=True)
