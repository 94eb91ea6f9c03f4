"""HTTP/1.1 heads, written: our own framing, and no byte that could end a line early. Sans-IO.

What comes here has been checked where it entered. These checks are the last line: they turn a
mistake of ours into a `ValueError` instead of a second header or message on the wire.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from tport.engine.proto.fields import Headers, Lines
from tport.engine.proto.framing import NO_BODY, Framing
from tport.engine.proto.head import METHOD, TARGET
from tport.engine.proto.sieve import write_lines

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_REASONS: Final = {int(status): status.phrase.encode() for status in HTTPStatus}


def write_request_head(
    method: bytes,
    target: bytes,
    headers: Headers | Lines,
    framing: Framing,
    *,
    keep_alive: bool = True,
    upgrade: bytes = b"",
) -> bytes:
    """Return a request's head; Host is among `headers`, framing and Connection are not.

    Raises:
        ValueError: something in it can't be sent as it is.
    """
    if not METHOD.fullmatch(method) or not TARGET.fullmatch(target):
        raise ValueError("a request line that can't be sent")
    if framing == NO_BODY and method in {b"POST", b"PUT", b"PATCH"}:
        length = b"content-length: 0\r\n"  # RFC 9110 §8.6; some servers answer 411 without
    else:
        length = b"" if framing is NO_BODY else _framing_line(framing)
    return b"%b %b HTTP/1.1\r\n%b%b%b\r\n" % (
        method,
        target,
        headers if isinstance(headers, bytes) else write_lines(headers),
        length,
        b"" if keep_alive and not upgrade else _connection_lines(upgrade),
    )


def write_response_head(
    status: int,
    reason: bytes,
    headers: Headers | Lines,
    framing: Framing,
    *,
    keep_alive: bool,
    upgrade: bytes = b"",
) -> bytes:
    """Return a response's head; `reason` b"" stands for the usual one.

    `NO_BODY` writes no framing header: right for 1xx, 204 and 304. An empty body elsewhere is
    `of_length(0)`; an answer to HEAD may say the length that GET would have had.

    Raises:
        ValueError: something in it can't be sent as it is.
    """
    reason = reason or _REASONS.get(status, b"")
    if not 100 <= status <= 999 or not _VALUE.fullmatch(reason):
        raise ValueError("a status line that can't be sent")
    return b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (
        status,
        reason,
        headers if isinstance(headers, bytes) else write_lines(headers),
        _framing_line(framing),
        b"" if keep_alive and not upgrade else _connection_lines(upgrade),
    )


def _framing_line(framing: Framing) -> bytes:
    if framing.kind == "length":
        return b"content-length: %d\r\n" % (framing.length or 0)
    return b"transfer-encoding: chunked\r\n" if framing.kind == "chunked" else b""


def _connection_lines(upgrade: bytes) -> bytes:
    if upgrade:
        if not _NAME.fullmatch(upgrade):
            raise ValueError("an upgrade that can't be sent")
        return b"connection: upgrade\r\nupgrade: %b\r\n" % upgrade
    return b"connection: close\r\n"
