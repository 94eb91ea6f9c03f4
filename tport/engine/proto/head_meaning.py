"""What several lines of a head mean together: framing, Host, Connection, Upgrade. Sans-IO.

Each function looks at the special headers alone, those that decide how a message is read; whoever reads
heads (`head`) asks them all, each time or once for the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from tport.engine.errors import InvalidRequest, RemoteProtocolError
from tport.engine.proto.fields import END_TO_END, fold, is_reserved
from tport.engine.proto.framing import CHUNKED, NO_BODY, UNTIL_CLOSE, Framing, of_length
from tport.engine.proto.host import split_host

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_TOO_LONG = re.compile(rb"[0-9]{16,20}")  # honest, but nobody's body: up to 64 bits
_WEBSOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # 16 bytes in base64

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
Special = Mapping[bytes, list[bytes]]


class BadHead(RemoteProtocolError):
    """A head that may not be believed. Answer `status` and close: what follows is unknown."""

    status: int  # type: ignore[misc]  # a ClassVar above: other errors have one status, this eight

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def special_of(headers: Sequence[tuple[bytes, bytes]]) -> Special:
    special: dict[bytes, list[bytes]] = {}
    for name, value in [field for field in headers if field[0] in _SPECIAL]:
        special.setdefault(name, []).append(value)
    return special


def request_framing(special: Special, version: bytes) -> Framing:
    chunked, length = _declared(special, version)
    return CHUNKED if chunked else NO_BODY if length is None else of_length(length)


def response_framing(
    special: Special, version: bytes, status: int, request_method: bytes
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


def _declared(special: Special, version: bytes) -> tuple[bool, int | None]:
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


def host_in(special: Special, version: bytes) -> tuple[str, int | None]:
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


def connection_tokens_in(special: Special) -> frozenset[bytes]:
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


def expects_continue(special: Special) -> bool:
    expects = special.get(b"expect", ())
    if not expects:
        return False
    if len(expects) > 1 or expects[0].lower() != b"100-continue":
        raise BadHead("the only expectation met here is 100-continue", 417)
    return True


def request_upgrade(
    special: Special, method: bytes, version: bytes, tokens: frozenset[bytes], framing: Framing
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


def response_upgrade(special: Special, tokens: frozenset[bytes]) -> bytes:
    if _list(special.get(b"upgrade", ())) != [b"websocket"] or b"upgrade" not in tokens:
        raise BadHead("101 switches to something other than websocket")
    return b"websocket"


def _list(lines: Sequence[bytes]) -> list[bytes]:
    """Return the members of a comma-separated header, lower case; empty ones don't count."""
    members = [member.strip(b" \t").lower() for line in lines for member in line.split(b",")]
    return [member for member in members if member]
