"""HTTP/1.1 that can be read in one way only, by a reader that takes nothing else.

    requests, rest = plain_requests(data, host="app.test:443")

It stands for RFC 9112 without any of its leniencies, and shares nothing with what it judges.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_HEAD = re.compile(
    rb"(?:\r\n)?([A-Z-]{1,20}) (/[!-\x22$-~]{0,8191}) HTTP/1\.([01])\r\n((?:%b:%b\r\n)*)\r\n"
    % (_TOKEN, _VALUE)
)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
_TRAILERS = re.compile(rb"(?:%b:%b\r\n)*\r\n" % (_TOKEN, _VALUE))
_BLANK = b" \t"
_SEPARATOR = rb"[^0-9a-z]"  # a server may take any of them for "-"
_END_TO_END = re.compile(
    rb"(host|cookie|authorization|content-length|x%bforwarded%b.*|teleport%b.*)"
    % ((_SEPARATOR,) * 3),
    re.IGNORECASE,
)


class Request(NamedTuple):
    method: bytes
    target: bytes
    body: bytes


class Doubtful(Exception):
    """What comes next is no plain request, and never will be."""


class Unfinished(Exception):
    """What came so far may be the start of a plain request."""


class Read(NamedTuple):
    """A request, what is left behind it, and whether it is the last of its connection."""

    request: Request
    rest: bytes
    is_last: bool


def plain_requests(data: bytes, host: bytes | None) -> tuple[list[Request], str]:
    """Return the plain requests at the front of `data`, and what ends them.

    "close": one that is the last by its own words; "more": half a request, or nothing;
    "doubt": bytes of another kind.
    """
    requests: list[Request] = []
    while data:
        try:
            request, data, is_last = read_request(data, host)
        except Doubtful:
            return requests, "doubt"
        except Unfinished:
            break
        requests.append(request)
        if is_last:
            return requests, "close"
    return requests, "more"


def read_request(data: bytes, host: bytes | None) -> Read:
    """Read the first request of `data`. `host`: what Host must say; None: anything."""
    if not (found := _HEAD.match(data)):
        if b"\n\r\n" in data.removeprefix(b"\r\n") or b"\n\n" in data:
            raise Doubtful(data[:100])
        raise Unfinished
    method, target, version, lines = found.groups()
    if method in (b"CONNECT", b"TRACE") or b"-" in method:
        raise Doubtful(method)
    fields = [line.split(b":", 1) for line in lines.split(b"\r\n")[:-1]]
    headers: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        headers.setdefault(name.lower(), []).append(value.strip(_BLANK))
    _judge_host(headers.get(b"host", []), version, host)
    tokens = {
        token.strip(_BLANK).lower()
        for value in headers.get(b"connection", [])
        for token in value.split(b",")
    }
    for token in tokens - {b""}:
        if not re.fullmatch(_TOKEN, token) or _END_TO_END.fullmatch(token):
            raise Doubtful(token)
    expects = headers.get(b"expect", [b"100-continue"])
    if len(expects) != 1 or expects[0].lower() != b"100-continue":
        raise Doubtful(expects)
    body, rest = _body(headers, version, data[found.end() :])
    upgrades = _upgrades(headers, tokens, version)
    is_last = version == b"0" or b"close" in tokens or upgrades
    return Read(Request(method, target, body), rest, is_last)


def _judge_host(hosts: list[bytes], version: bytes, host: bytes | None) -> None:
    if len(hosts) != 1 or (host is not None and hosts[0].lower() != host.lower()):
        raise Doubtful(hosts)


def _body(headers: dict[bytes, list[bytes]], version: bytes, data: bytes) -> tuple[bytes, bytes]:
    lengths = headers.get(b"content-length", [])
    codings = headers.get(b"transfer-encoding", [])
    if not lengths and not codings:
        return b"", data
    if codings:
        if lengths or version == b"0" or [coding.lower() for coding in codings] != [b"chunked"]:
            raise Doubtful(codings)
        return read_chunks(data)
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        raise Doubtful(lengths)
    length = int(lengths[0])
    if len(data) < length:
        raise Unfinished
    return data[:length], data[length:]


def read_chunks(data: bytes) -> tuple[bytes, bytes]:
    """Return the body that these chunks make, and what follows them."""
    body = b""
    while True:
        if not (line := _CHUNK.match(data)):
            raise Unfinished if re.fullmatch(rb"[0-9a-fA-F]{0,8}\r?", data) else Doubtful
        size, data = int(line[1], 16), data[line.end() :]
        if size == 0:
            break
        if len(data) < size + 2:
            raise Unfinished if b"\r\n".startswith(data[size:]) else Doubtful
        if data[size : size + 2] != b"\r\n":
            raise Doubtful(data[:100])
        body, data = body + data[:size], data[size + 2 :]
    if not (trailers := _TRAILERS.match(data)):
        raise Doubtful if b"\r\n\r\n" in data else Unfinished
    return body, data[trailers.end() :]


def _upgrades(headers: dict[bytes, list[bytes]], tokens: set[bytes], version: bytes) -> bool:
    """Tell whether what follows is no HTTP any more if the server agrees."""
    protocols = b",".join(headers.get(b"upgrade", [])).lower().replace(b" ", b"").split(b",")
    if b"upgrade" not in tokens or b"websocket" not in protocols or version != b"1":
        return False
    if (
        protocols != [b"websocket"]
        or headers.get(b"sec-websocket-version") != [b"13"]
        or len(headers.get(b"sec-websocket-key", [])) != 1
    ):
        raise Doubtful(protocols)
    return True


class Answer(NamedTuple):
    status: int
    head: bytes
    body: bytes


_ANSWER = re.compile(
    rb"HTTP/1\.1 ([1-9][0-9]{2}) [ -~]*\r\n((?:%b:%b\r\n)*)\r\n" % (_TOKEN, _VALUE)
)


def plain_answers(data: bytes) -> tuple[list[Answer], bytes]:
    """Return the whole answers at the front of `data`, but for 1xx, and the rest.

    They are those to requests other than HEAD.
    """
    found: list[Answer] = []
    while head := _ANSWER.match(data):
        rest, status = data[head.end() :], int(head[1])
        length = re.search(rb"(?i)(?:^|\n)content-length: ?([0-9]+)\r", head[2])
        body = b""
        if status < 200 or status in (204, 304):
            pass
        elif re.search(rb"(?i)(?:^|\n)transfer-encoding: ?chunked\r", head[2]):
            try:
                body, rest = read_chunks(rest)
            except Unfinished:
                break
        elif length is None or len(rest) < int(length[1]):
            break  # as long as the connection, or cut short
        else:
            body, rest = rest[: int(length[1])], rest[int(length[1]) :]
        data = rest
        if status >= 200:
            found.append(Answer(status, head[2], body))
    return found, data
