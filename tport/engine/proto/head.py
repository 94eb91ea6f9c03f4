"""HTTP/1.1 heads, read strictly: one meaning, or none at all. Sans-IO.

Whatever two servers on a request's way could understand differently is refused here: first by
rules of our own (HTTP-01 to HTTP-11), then by h11's grammar, which must read the same headers.

A head is judged in three steps: its bytes (`_lines`), each of its lines (`_fields` and h11), and
what several lines mean together (`_framing`, `_host`, `_connection_tokens`, `_upgrade`). The
second is remembered from one head to the next (`known_lines`): a head of HTTP/1.1 whose lines are
all plain, as nearly every one is, needs no more than looking them up and judging them together.
Any other goes the long way, and is refused there in words of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import h11
import msgspec

from tport.engine.defaults import MAX_HEAD, MAX_HEAD_LINE, MAX_HEADERS, MAX_TARGET
from tport.engine.errors import InvalidRequest, RemoteProtocolError
from tport.engine.proto.fields import END_TO_END, fold, is_reserved, values
from tport.engine.proto.framing import CHUNKED, NO_BODY, UNTIL_CLOSE, Framing, of_length
from tport.engine.proto.host import split_host
from tport.engine.proto.known_lines import KnownLines

_BLANK_LINE = re.compile(rb"\n\r?\n")
# Lines of clean bytes, each ended by CRLF and none continued (obs-fold), then an empty one.
_CLEAN = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]++\r\n(?![\t ]))++\r\n")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(rb"([^ \t]+) ([^ \t]+) HTTP/([0-9]\.[0-9])")
_PLAIN_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1")
_PLAIN_STATUS = re.compile(rb"HTTP/1\.1 ([2-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: (.*))?")
METHOD: Final = re.compile(rb"[A-Z]{1,20}|(?:VERSION|BASELINE)-CONTROL")  # RFC 3253: two have a -
TARGET: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # origin-form; a fragment is never sent
_LENGTH = re.compile(rb"[0-9]{1,15}")
_TOO_LONG = re.compile(rb"[0-9]{16,20}")  # honest, but nobody's body: up to 64 bits
_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64

_UNSERVED: Final = frozenset({b"CONNECT", b"TRACE"})
# Headers that decide how the message is read. All others only pass.
_SPECIAL = frozenset(
    {
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"transfer-encoding",
        b"upgrade",
    }
)
_Special = Mapping[bytes, list[bytes]]


class BadHead(RemoteProtocolError):
    """A head that may not be believed. Answer `status` and close: what follows is unknown."""

    status: int  # type: ignore[misc]  # a ClassVar above: other errors have one status, this eight

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class RequestHead(msgspec.Struct, frozen=True, kw_only=True):
    """A request's head, believed.

    Attributes:
        target: in origin form, raw, as it came.
        version: b"1.1" or b"1.0".
        headers: all of them, names lower case, in order; see `fields.forwardable`.
        host: normal form; "" only in HTTP/1.0 without a Host.
        port: as the Host header says it, None when it doesn't.
        keep_alive: the client expects the connection to go on.
        expect_continue: it waits for 100 before it sends the body.
        upgrade: b"websocket" when a valid WebSocket handshake asks for it, else b"".
        connection_tokens: what the Connection header lists, lower case.
    """

    method: bytes
    target: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    framing: Framing
    host: str
    port: int | None
    keep_alive: bool
    expect_continue: bool
    upgrade: bytes
    connection_tokens: frozenset[bytes]

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of every header of this (lower-case) name, in order."""
        return values(self.headers, name)


class ResponseHead(msgspec.Struct, frozen=True, kw_only=True):
    """A response's head, believed; also an informational one (status < 200).

    Attributes:
        framing: how the body that follows is to be read; none after HEAD, 1xx, 204, 304.
        length: of the body in bytes as declared, also where none follows; None: not declared.
        upgrade: b"websocket" in a 101 to it, else b"".
    """

    status: int
    reason: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    framing: Framing
    length: int | None
    keep_alive: bool
    upgrade: bytes
    connection_tokens: frozenset[bytes]

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of every header of this (lower-case) name, in order."""
        return values(self.headers, name)


def find_head_end(buffer: bytes | bytearray, searched: int = 0) -> int:
    """Return where the head at the front of `buffer` ends, -1 while its blank line is missing.

    `searched`: how many bytes an earlier call has seen in vain. Lines that end in a bare LF are
    found too, so that they are refused at once and not waited for.
    """
    found = _BLANK_LINE.search(buffer, max(0, searched - 2))
    return found.end() if found else -1


def parse_request_head(head: bytes) -> RequestHead:
    """Read one whole head, blank line included; one empty line may stand before it.

    Raises:
        BadHead: with the status to answer.
    """
    head = head.removeprefix(b"\r\n")  # RFC 9112 §2.2
    if (plain := _plain(head, _PLAIN_REQUEST, _asked)) is not None:
        (method, target), headers, special = plain
        if method not in _UNSERVED and len(target) <= MAX_TARGET:
            return _request(method, target, b"1.1", headers, special)
    return judge_request_head(head)


def judge_request_head(head: bytes) -> RequestHead:
    """Read one whole head the long way: all its bytes by our rules, then all of it by h11.

    Raises:
        BadHead: with the status to answer.
    """
    lines = _lines(head)
    method, target, version = _request_line(lines[0])
    headers = _fields(lines)
    request = _request(method, target, version, headers, _special(headers))
    _judge_by_h11(h11.Connection(h11.SERVER, MAX_HEAD), head, headers)
    return request


def _request(
    method: bytes,
    target: bytes,
    version: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    special: _Special,
) -> RequestHead:
    tokens = _connection_tokens(special)
    framing = _request_framing(special, version)
    host, port = _host(special, version)
    return RequestHead(
        method=method,
        target=target,
        version=version,
        headers=tuple(headers),
        framing=framing,
        host=host,
        port=port,
        keep_alive=version == b"1.1" and b"close" not in tokens,
        expect_continue=_expects_continue(special) and version == b"1.1" and framing.length != 0,
        upgrade=_request_upgrade(special, method, version, tokens, framing),
        connection_tokens=tokens,
    )


def parse_response_head(head: bytes, *, request_method: bytes) -> ResponseHead:
    """Read one whole head, blank line included, of the answer to a request of that method.

    Raises:
        BadHead: always with status 502.
    """
    try:
        return _parse_response_head(head, request_method)
    except BadHead as bad:
        raise BadHead(str(bad), 502) from None


def _parse_response_head(head: bytes, request_method: bytes) -> ResponseHead:
    if (plain := _plain(head, _PLAIN_STATUS, _answered)) is not None:
        (code, reason), headers, special = plain
        return _response(int(code), reason or b"", b"1.1", headers, special, request_method)
    return judge_response_head(head, request_method)


def judge_response_head(head: bytes, request_method: bytes) -> ResponseHead:
    """Read one whole head the long way, as `judge_request_head`.

    Raises:
        BadHead: its status says nothing.
    """
    lines = _lines(head)
    line = _STATUS_LINE.fullmatch(lines[0])
    if line is None:
        raise BadHead("the status line is malformed")
    version, status = line[1], int(line[2])
    headers = _fields(lines)
    special = _special(headers)
    response = _response(status, line[3] or b"", version, headers, special, request_method)
    _judge_by_h11(_h11_client(status), head, headers)
    return response


def _response(
    status: int,
    reason: bytes,
    version: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    special: _Special,
    request_method: bytes,
) -> ResponseHead:
    tokens = _connection_tokens(special)
    framing, length = _response_framing(special, version, status, request_method)
    return ResponseHead(
        status=status,
        reason=reason,
        version=version,
        headers=tuple(headers),
        framing=framing,
        length=length,
        keep_alive=version == b"1.1" and b"close" not in tokens and framing != UNTIL_CLOSE,
        upgrade=_response_upgrade(special, tokens) if status == 101 else b"",
        connection_tokens=tokens,
    )


# --- What is judged quickly --------------------------------------------------------------------

_asked = KnownLines()  # lines of requests; apart, so that neither side empties the other's
_answered = KnownLines()


def _plain(
    head: bytes, first_line: re.Pattern[bytes], known: KnownLines
) -> tuple[tuple[bytes, bytes], Sequence[tuple[bytes, bytes]], _Special] | None:
    """Return the parts of the first line, the headers and the special ones of a plain head.

    None: it is to be looked at in full, line by line and by h11 as a whole. That is so for
    whatever is wrong with it, for HTTP/1.0, codings and upgrades, and for heads of many lines.
    """
    if len(head) > MAX_HEAD_LINE or not head.endswith(b"\r\n\r\n"):
        return None
    lines = head[:-4].split(b"\r\n")
    first = first_line.fullmatch(lines.pop(0))
    if first is None or len(lines) > MAX_HEADERS:
        return None
    headers = known.fields(lines)
    if headers is None:
        return None
    special = _special(headers)
    if b"transfer-encoding" in special or b"upgrade" in special:
        return None
    return (first[1], first[2]), headers, special


# --- The bytes, and each line ------------------------------------------------------------------


def _lines(head: bytes) -> list[bytes]:
    if len(head) > MAX_HEAD:
        raise BadHead(f"the head is longer than {MAX_HEAD} bytes", 431)
    if not _CLEAN.fullmatch(head):
        raise BadHead(
            "the head holds a control character, a folded line or a line that doesn't end in CRLF"
        )
    lines = head[:-4].split(b"\r\n")
    if len(lines) - 1 > MAX_HEADERS:
        raise BadHead(f"the head has more than {MAX_HEADERS} headers", 431)
    if len(head) > MAX_HEAD_LINE and max(map(len, lines)) > MAX_HEAD_LINE:
        status = 414 if len(lines[0]) > MAX_HEAD_LINE else 431
        raise BadHead(f"a line of the head is longer than {MAX_HEAD_LINE} bytes", status)
    return lines


def _request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        raise BadHead("the request line is malformed")
    method, target, version = parts.groups()
    if version not in {b"1.1", b"1.0"}:
        raise BadHead("only HTTP/1.1 and HTTP/1.0 are spoken here", 505)
    if method in _UNSERVED:
        raise BadHead("CONNECT and TRACE are not served", 405)
    if not METHOD.fullmatch(method):
        raise BadHead("the method is malformed")
    if len(target) > MAX_TARGET:
        raise BadHead(f"the request target is longer than {MAX_TARGET} bytes", 414)
    if not TARGET.fullmatch(target):
        raise BadHead("the request target is no path from / on, in ASCII and without a fragment")
    return method, target, version


def _fields(lines: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name):
            raise BadHead("a header line has no name, or a malformed one")
        headers.append((name.lower(), value.strip(b" \t")))
    return headers


def _judge_by_h11(
    connection: h11.Connection, head: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> None:
    """Let h11 read the head; it must read what we read.

    Raises:
        BadHead: it does not.
    """
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise BadHead(f"the head is malformed: {error}", error.error_status_hint) from None
    if not isinstance(event, h11.Request | h11.Response | h11.InformationalResponse):
        raise BadHead("the head is not whole")
    # h11 lower-cases this one value, the only one it changes of those that come here.
    ours = [(name, v.lower() if name == b"transfer-encoding" else v) for name, v in headers]
    if list(event.headers) != ours:
        raise BadHead("the headers can be read in two ways")


def _h11_client(status: int) -> h11.Connection:
    """Return an h11 client ready for such an answer."""
    connection = h11.Connection(h11.CLIENT, MAX_HEAD)
    if status < 200:  # h11 takes these only after a request, 101 only after an upgrade
        fields = [("host", "x"), ("connection", "upgrade"), ("upgrade", "websocket")]
        connection.send(h11.Request(method="GET", target="/", headers=fields))
    return connection


# --- What the lines mean together ----------------------------------------------------------------


def _special(headers: Sequence[tuple[bytes, bytes]]) -> _Special:
    special: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _SPECIAL:
            special.setdefault(name, []).append(value)
    return special


def _request_framing(special: _Special, version: bytes) -> Framing:
    chunked, length = _declared(special, version)
    return CHUNKED if chunked else NO_BODY if length is None else of_length(length)


def _response_framing(
    special: _Special, version: bytes, status: int, request_method: bytes
) -> tuple[Framing, int | None]:
    chunked, length = _declared(special, version)
    if status < 200 or status == 204:
        if chunked or length:
            raise BadHead(f"an answer of status {status} announces a body")
        return NO_BODY, 0
    if status == 304 or request_method == b"HEAD":
        return NO_BODY, length
    if chunked:
        return CHUNKED, None
    return (UNTIL_CLOSE, None) if length is None else (of_length(length), length)


def _declared(special: _Special, version: bytes) -> tuple[bool, int | None]:
    """Return whether the body is chunked, and its length if declared; never both (HTTP-01)."""
    lengths = special.get(b"content-length", ())
    codings = special.get(b"transfer-encoding", ())
    if lengths and codings:
        raise BadHead("Content-Length and Transfer-Encoding exclude each other")
    if codings:
        if version != b"1.1":
            raise BadHead("HTTP/1.0 knows no Transfer-Encoding")
        if len(codings) > 1:
            raise BadHead("Transfer-Encoding may be given once")
        if codings[0].lower() != b"chunked":
            raise BadHead("the only Transfer-Encoding known here is chunked", 501)
        return True, None
    if not lengths:
        return False, None
    if len(lengths) > 1:
        raise BadHead("Content-Length may be given once")
    if not _LENGTH.fullmatch(lengths[0]):
        if _TOO_LONG.fullmatch(lengths[0]):
            raise BadHead("the body is too long", 413)
        raise BadHead("Content-Length is no plain number")
    return False, int(lengths[0])


def _host(special: _Special, version: bytes) -> tuple[str, int | None]:
    hosts = special.get(b"host", ())
    if not hosts and version == b"1.0":
        return "", None
    if len(hosts) != 1:
        raise BadHead("the Host header must be given once")
    try:
        return _known_host(hosts[0]) if len(hosts[0]) <= _MAX_KEPT else split_host(hosts[0])
    except InvalidRequest as error:
        raise BadHead(f"the Host header is malformed: {error}") from None


_MAX_KEPT: Final = 300  # bytes of a value whose meaning is kept: what is longer means nothing
_known_host = lru_cache(maxsize=1024)(split_host)


def _connection_tokens(special: _Special) -> frozenset[bytes]:
    lines = special.get(b"connection")
    if lines is None:
        return _NO_TOKENS
    kept = len(lines) == 1 and len(lines[0]) <= _MAX_KEPT
    return _known_tokens(lines[0]) if kept else _tokens(lines)


_NO_TOKENS: Final = frozenset[bytes]()


@lru_cache(maxsize=256)
def _known_tokens(line: bytes) -> frozenset[bytes]:
    return _tokens((line,))


def _tokens(lines: Sequence[bytes]) -> frozenset[bytes]:
    tokens = _list(lines)
    for token in tokens:
        if not _TOKEN.fullmatch(token):
            raise BadHead("the Connection header is malformed")
        folded = fold(token)
        if folded in END_TO_END or is_reserved(folded):
            raise BadHead(f"Connection may not name {token.decode('ascii')}")
    return frozenset(tokens)


def _expects_continue(special: _Special) -> bool:
    expects = special.get(b"expect", ())
    if not expects:
        return False
    if len(expects) > 1 or expects[0].lower() != b"100-continue":
        raise BadHead("the only expectation met here is 100-continue", 417)
    return True


def _request_upgrade(
    special: _Special, method: bytes, version: bytes, tokens: frozenset[bytes], framing: Framing
) -> bytes:
    """Return b"websocket" for a valid handshake, b"" for no upgrade or one we ignore (HTTP-08)."""
    protocols = _list(special.get(b"upgrade", ()))
    if b"websocket" not in protocols or b"upgrade" not in tokens or version != b"1.1":
        return b""  # RFC 9110 §7.8: any of these may be ignored
    if len(protocols) > 1:
        raise BadHead("Upgrade names websocket and something else")
    if method != b"GET" or framing.length != 0:
        raise BadHead("a WebSocket handshake is a GET without a body")
    if special.get(b"sec-websocket-version") != [b"13"]:
        raise BadHead("the only WebSocket version known here is 13")
    keys = special.get(b"sec-websocket-key", ())
    if len(keys) != 1 or not _WEBSOCKET_KEY.fullmatch(keys[0]):
        raise BadHead("Sec-WebSocket-Key must be 16 bytes in base64, given once")
    return b"websocket"


def _response_upgrade(special: _Special, tokens: frozenset[bytes]) -> bytes:
    if _list(special.get(b"upgrade", ())) != [b"websocket"] or b"upgrade" not in tokens:
        raise BadHead("101 switches to something other than websocket")
    return b"websocket"


def _list(lines: Sequence[bytes]) -> list[bytes]:
    """Return the members of a comma-separated header, lower case; empty ones don't count."""
    members = [member.strip(b" \t").lower() for line in lines for member in line.split(b",")]
    return [member for member in members if member]
