"""HTTP/1.1 heads, read strictly: one meaning, or none at all. Sans-IO.

Whatever two servers on a request's way could understand differently is refused here: first by
rules of our own (HTTP-01 to HTTP-11), then by h11's grammar, which must read the same headers.

A head is judged in three steps: its bytes (`_lines`), each of its lines (`_fields` and h11), and
what several lines mean together (`head_meaning`). The
second is remembered from one head to the next (`known_lines`): a head of HTTP/1.1 whose lines are
all plain, as nearly every one is, needs no more than looking them up and judging them together.
The third is remembered where all lines below the first came before, in this order and to the byte:
browsers ask for one thing after the other in the same words. Any other head goes the long way, and is
refused there in words of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import h11
import msgspec

from tport.engine.defaults import (
    MAX_HEAD,
    MAX_HEAD_LINE,
    MAX_HEADERS,
    MAX_TARGET,
    READY_SESSIONS,
)
from tport.engine.proto.fields import values
from tport.engine.proto.framing import UNTIL_CLOSE, Framing
from tport.engine.proto.head_meaning import (
    BadHead,
    Special,
    connection_tokens_in,
    expects_continue,
    host_in,
    request_framing,
    request_upgrade,
    response_framing,
    response_upgrade,
    special_of,
)
from tport.engine.proto.known_lines import MAX_ANSWERED, KnownLines
from tport.engine.proto.memory import Memory

_BLANK_LINE = re.compile(rb"\n\r?\n")
# Lines of clean bytes, each ended by CRLF and none continued (obs-fold), then an empty one. The group is not
# possessive: Python before 3.11.5 matches such ones wrongly (gh-106052).
_CLEAN = re.compile(rb"(?:[\t\x20-\x7e\x80-\xff]++\r\n(?![\t ]))+\r\n")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REQUEST_LINE = re.compile(rb"([^ \t]+) ([^ \t]+) HTTP/([0-9]\.[0-9])")
_PLAIN_REQUEST = re.compile(rb"([A-Z]{1,20}) (/[\x21\x22\x24-\x7e]*) HTTP/1\.1")
_PLAIN_STATUS = re.compile(rb"HTTP/1\.1 ([2-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: (.*))?")
METHOD: Final = re.compile(rb"[A-Z]{1,20}|(?:VERSION|BASELINE)-CONTROL")  # RFC 3253: two have a -
TARGET: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # origin-form; a fragment is never sent

_UNSERVED: Final = frozenset({b"CONNECT", b"TRACE"})


SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})  # RFC 9110 §9.2.1; TRACE gets nowhere


class Block(tuple[tuple[bytes, bytes], ...]):
    """The headers of a head whose lines below the first came before, all and to the byte.

    Attributes:
        notes: what others found out of these headers and of nothing else, by who found it. They are
            kept as long as the block is: who writes here keeps them few.
    """

    notes: dict[object, Any]

    def __new__(cls, headers: Iterable[tuple[bytes, bytes]]) -> Block:
        block = super().__new__(cls, headers)
        block.notes = {}
        return block


class RequestHead(msgspec.Struct, frozen=True):
    """A request's head, believed.

    Attributes:
        target: in origin form, raw, as it came.
        version: b"1.1" or b"1.0".
        headers: all of them, names lower case, in order; see `fields.forwardable`. A `Block`, the
            same for the same lines, where they came before.
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
    first, _, rest = head.partition(b"\r\n")
    line = _PLAIN_REQUEST.fullmatch(first)
    if line is not None and len(head) <= MAX_HEAD_LINE:
        method, target = line.groups()
        if method not in _UNSERVED and len(target) <= MAX_TARGET:
            if (known := _blocks.get(rest)) is not None:
                return RequestHead(method, target, *known)
            if (plain := _plain(rest, _asked)) is not None:
                headers, special = plain
                request = _request(method, target, b"1.1", headers, special)
                _remember(rest, request)
                return request
    return judge_request_head(head)


def _remember(rest: bytes, request: RequestHead) -> None:
    """Keep what the lines of a plain request say together: nothing of it depends on the first."""
    if type(request.headers) is Block and len(request.connection_tokens) <= MAX_TOKENS:
        _, _, *said = msgspec.structs.astuple(request)
        _blocks.keep(rest, tuple(said), _cost(rest, request.headers))


def _cost(lines: bytes, headers: Sequence[object]) -> int:
    """Return the bytes that are taken by what is remembered of a head, if no other has a line of it."""
    return 2 * len(lines) + LINE_COST * len(headers)  # the text as a whole, and in its parts


def judge_request_head(head: bytes) -> RequestHead:
    """Read one whole head the long way: all its bytes by our rules, then all of it by h11.

    Raises:
        BadHead: with the status to answer.
    """
    lines = _lines(head)
    method, target, version = _request_line(lines[0])
    headers = _fields(lines)
    request = _request(method, target, version, headers, special_of(headers))
    _judge_by_h11(h11.Connection(h11.SERVER, MAX_HEAD), head, headers)
    return request


def _request(
    method: bytes,
    target: bytes,
    version: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    special: Special,
) -> RequestHead:
    tokens = connection_tokens_in(special)
    framing = request_framing(special, version)
    host, port = host_in(special, version)
    return RequestHead(
        method=method,
        target=target,
        version=version,
        headers=headers if isinstance(headers, Block) else tuple(headers),
        framing=framing,
        host=host,
        port=port,
        keep_alive=version == b"1.1" and b"close" not in tokens,
        expect_continue=expects_continue(special) and version == b"1.1" and framing.length != 0,
        upgrade=request_upgrade(special, method, version, tokens, framing),
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
    if (known := _answers.get(head)) is not None and request_method != b"HEAD":
        return known
    first, _, rest = head.partition(b"\r\n")
    line = _PLAIN_STATUS.fullmatch(first)
    if (
        line is not None
        and len(head) <= MAX_HEAD_LINE
        and (plain := _plain(rest, _answered)) is not None
    ):
        headers, special = plain
        answer = _response(int(line[1]), line[2] or b"", b"1.1", headers, special, request_method)
        if type(answer.headers) is Block and request_method != b"HEAD":
            _answers.keep(head, answer, _cost(head, answer.headers))
        return answer
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
    special = special_of(headers)
    response = _response(status, line[3] or b"", version, headers, special, request_method)
    _judge_by_h11(_h11_client(status), head, headers)
    return response


def _response(
    status: int,
    reason: bytes,
    version: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    special: Special,
    request_method: bytes,
) -> ResponseHead:
    tokens = connection_tokens_in(special)
    framing, length = response_framing(special, version, status, request_method)
    return ResponseHead(
        status=status,
        reason=reason,
        version=version,
        headers=headers if isinstance(headers, Block) else tuple(headers),
        framing=framing,
        length=length,
        keep_alive=version == b"1.1" and b"close" not in tokens and framing != UNTIL_CLOSE,
        upgrade=response_upgrade(special, tokens) if status == 101 else b"",
        connection_tokens=tokens,
    )


# --- What is judged quickly --------------------------------------------------------------------

_asked = KnownLines()  # lines of requests; apart, so that neither side empties the other's
_answered = KnownLines(lines=MAX_ANSWERED)


# Heads whose lines below the first came before, of each direction: a block is a person's session and
# kind of page. Bytes are those of `_cost`: browsers' heads share most of their lines, and take a third.
MAX_BLOCKS: Final = READY_SESSIONS
MAX_BLOCK_BYTES: Final = 32 * 1024 * 1024  # of all of them; those of 8,000 browsers
MAX_BLOCK: Final = 12 * 1024  # bytes of one; 4 KiB of text in 25 lines
LINE_COST: Final = 160  # bytes of a line's two parts and what holds them, beside its text
MAX_TOKENS: Final = 8  # of Connection: honest heads have two, and a hundred take 10 KiB

# What follows method and target in a RequestHead.
_blocks: Final = Memory[bytes, tuple[Any, ...]](
    count=MAX_BLOCKS, size=MAX_BLOCK_BYTES, longest=MAX_BLOCK
)
_answers: Final = Memory[bytes, ResponseHead](  # to other methods than HEAD
    count=MAX_ANSWERED, size=MAX_BLOCK_BYTES, longest=MAX_BLOCK
)


def _plain(rest: bytes, known: KnownLines) -> tuple[Sequence[tuple[bytes, bytes]], Special] | None:
    """Return the headers and the special ones of a plain head, from all that follows its first line.

    None: it is to be looked at in full, line by line and by h11 as a whole. That is so for
    whatever is wrong with it, for HTTP/1.0, codings and upgrades, and for heads of many lines.
    The headers are a `Block` where each line has come before.
    """
    if not rest.endswith(b"\r\n\r\n"):
        return None
    lines = rest[:-4].split(b"\r\n")
    if len(lines) > MAX_HEADERS:
        return None
    before = known.judged
    headers = known.fields(lines)
    if headers is None:
        return None
    special = special_of(headers)
    if b"transfer-encoding" in special or b"upgrade" in special:
        return None
    return (Block(headers) if known.judged == before else headers), special


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
