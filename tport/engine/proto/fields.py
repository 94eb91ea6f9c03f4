"""Header names: which stay on one hop, which are ours alone, and what may be passed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NewType

Field = tuple[bytes, bytes]  # name in lower case, value without blanks around it
Headers = Sequence[Field]  # in the order they came
Lines = NewType("Lines", bytes)  # of headers: `name: value` and CRLF each, fit to be sent

# Rebuilt on each hop, never copied: RFC 9110 §7.6.1, and what h2c and old proxies add.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"content-length",  # framing is each hop's own
        b"expect",  # answered by the hop that reads it (HTTP-10)
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# What a Connection header may not name, since removing it would change who asks for what
# (HTTP-11). Folded, and beside all reserved names.
END_TO_END: Final = frozenset(
    {
        b"accept",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expect",
        b"host",
        b"location",
        b"origin",
        b"range",
        b"referer",
        b"sec-websocket-key",
        b"set-cookie",
        b"vary",
        b"www-authenticate",
    }
)

# They say another thing with each request: to remember what was found out of them costs more than to find it out.
# W3C Trace Context, and what tracers and gateways send in its place.
SAID_ONCE: Final = frozenset(
    {
        b"idempotency-key",
        b"sentry-trace",
        b"traceparent",
        b"x-amzn-trace-id",
        b"x-b3-spanid",
        b"x-b3-traceid",
        b"x-correlation-id",
        b"x-datadog-parent-id",
        b"x-datadog-trace-id",
        b"x-request-id",
    }
)

# An application may not empty the jar of its siblings, nor send browsers past the proxy (HTTP-16).
NOT_FROM_APPS: Final = frozenset({b"clear-site-data", b"alt-svc"})

_RESERVED: Final = frozenset({b"forwarded", b"proxy", b"x-real-ip"})
_RESERVED_PREFIXES: Final = (
    b"cf-access-",
    b"teleport-",
    b"tport-",
    b"x-client-cert",
    b"x-forwarded-",
    b"x-ssl-",
    b"x-teleport-",
)

_FOLD: Final = bytes(
    byte if chr(byte) in "abcdefghijklmnopqrstuvwxyz0123456789" else ord("-")
    for byte in bytes(range(256)).lower()
)


def fold(name: bytes) -> bytes:
    """Return what a name becomes for a server that folds it (CGI, WSGI, PHP), with `-` for `_`.

    Lower case, and every character but a-z and 0-9 is a `-`: compare folds, never names (HTTP-12).
    """
    return name.translate(_FOLD)


def is_reserved(folded: bytes) -> bool:
    """Tell whether only tport may send this header to an application (HTTP-13).

    An application's own `rewrite.headers` are reserved too; who knows them adds them.
    """
    return folded in _RESERVED or folded.startswith(_RESERVED_PREFIXES)


def forwardable(
    headers: Headers, connection_tokens: frozenset[bytes], *, odd_names: bool = False
) -> list[tuple[bytes, bytes]]:
    """Return the headers that may go on to the next hop.

    Gone are hop-by-hop ones, those that Connection names and, unless `odd_names`, names with
    `_` or `.` in them, which some servers take for another name (HTTP-12). Pass
    `odd_names=True` for responses. Reserved names are still there.
    """
    dropped = HOP_BY_HOP | connection_tokens if connection_tokens else HOP_BY_HOP
    if odd_names:
        return [field for field in headers if field[0] not in dropped]
    return [
        field
        for field in headers
        if field[0] not in dropped and b"_" not in field[0] and b"." not in field[0]
    ]


def values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of every header of this (lower-case) name, in order."""
    return [value for key, value in headers if key == name]
