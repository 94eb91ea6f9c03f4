"""Which pages of other origins may call an application, and read what it answers. Pure.

The Fetch standard's protocol ("CORS protocol", fetch.spec.whatwg.org), with two rules of our own:
an opaque origin (`null`: sandboxed frames, files) gets nothing, since anybody can be it; and `*`
never goes with credentials.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tport.engine.errors import InvalidRequest
from tport.engine.types.app import Cors

Field = tuple[bytes, bytes]
Headers = Sequence[Field]

ANY: Final = "*"
MAX_LIST: Final = 64  # entries of one list; a head has room for 64 KiB in all
MAX_AGE: Final = 86400  # s; Firefox's bound, Chromium's is 7200

VARY: Final[Field] = (b"vary", b"Origin")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # RFC 9110 §5.6.2
# An origin as browsers write it; whether the port is the scheme's own, they leave out, too.
_ORIGIN = re.compile(r"https?://(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[1-9][0-9]{0,4})?")
# What an application says itself about other origins; the definition's word counts instead.
_REPLACED: Final = frozenset(
    {
        b"access-control-allow-origin",
        b"access-control-allow-credentials",
        b"access-control-expose-headers",
    }
)

_ASKED: Final = frozenset({b"access-control-request-method", b"access-control-request-headers"})


def check_token(text: str) -> str:
    """Return a method or a header's name.

    Raises:
        InvalidRequest: characters that neither has, or too many.
    """
    if not _TOKEN.fullmatch(text):
        raise InvalidRequest(f"{text[:80]!r} is no name of a method or header")
    return text


def check_cors(cors: Cors) -> None:
    """Judge a whole definition, whoever wrote it.

    Raises:
        InvalidRequest: what no browser would send as its origin (`null` among it), a name that is none, `*`
            together with credentials, a list or an age beyond the bounds.
    """
    if not cors.allowed_origins:
        raise InvalidRequest("allowed_origins is empty, so that nobody would be allowed")
    for origin in cors.allowed_origins:
        if origin != ANY and not _ORIGIN.fullmatch(origin):
            raise InvalidRequest(f"{origin[:80]!r} is no origin, as in https://app.example.com")
    lists = (
        cors.allowed_origins,
        cors.allowed_methods,
        cors.allowed_headers,
        cors.exposed_headers,
    )
    for some in lists:
        if len(some) > MAX_LIST:
            raise InvalidRequest(f"a list has {len(some)} entries, at most {MAX_LIST}")
        if some is not cors.allowed_origins:
            for name in some:
                check_token(name)
        if cors.allow_credentials and ANY in some:
            raise InvalidRequest(
                "'*' and allow_credentials exclude each other: name what is allowed"
            )
    if not 0 <= cors.max_age <= MAX_AGE:
        raise InvalidRequest(f"max_age is {cors.max_age} s, at most {MAX_AGE}")


def is_preflight(method: bytes, headers: Headers) -> bool:
    """Tell whether a browser asks for permission on behalf of another origin's page."""
    return (
        method == b"OPTIONS"
        and _has(headers, b"origin")
        and _has(headers, b"access-control-request-method")
    )


def preflight(cors: Cors, headers: Headers) -> list[Field] | None:
    """Return the headers of the answer that lets a preflight pass; None: it may not.

    What it asks for is not compared with what is allowed: the browser does that.
    """
    origin = _allowed_origin(cors, headers)
    if origin is None:
        return None
    fields = _grant(cors, origin)
    for name, names in (
        (b"access-control-allow-methods", cors.allowed_methods),
        (b"access-control-allow-headers", cors.allowed_headers),
    ):
        if names:
            fields.append((name, ", ".join(names).encode("ascii")))
    if cors.max_age:
        fields.append((b"access-control-max-age", b"%d" % cors.max_age))
    return [*fields, VARY]


def answer_headers(cors: Cors, headers: Headers) -> list[Field]:
    """Return what an answer to a request with these headers gets added.

    Always Vary: the answer to another origin would differ, and caches must know.
    """
    origin = _allowed_origin(cors, headers)
    if origin is None:
        return [VARY]
    fields = _grant(cors, origin)
    if cors.exposed_headers:
        exposed = ", ".join(cors.exposed_headers).encode("ascii")
        fields.append((b"access-control-expose-headers", exposed))
    return [*fields, VARY]


def for_peer(cors: Cors | None, origin: bytes, headers: Headers) -> Cors:
    """Return what holds for a page of an application of the same group: all it asks for.

    Args:
        cors: the definition's own, for what is exposed and how long it is remembered.
        origin: one that a browser would send.
        headers: of the request, a preflight's `Access-Control-Request-…` among them.
    """
    asked = {name: value.decode("latin-1") for name, value in headers if name in _ASKED}
    methods = asked.get(b"access-control-request-method", "")
    names = asked.get(b"access-control-request-headers", "")
    return Cors(
        allowed_origins=(origin.decode("ascii"),),
        allowed_methods=_tokens(methods),
        allowed_headers=_tokens(names),
        exposed_headers=() if cors is None else cors.exposed_headers,
        allow_credentials=True,
        max_age=0 if cors is None else cors.max_age,
    )


def is_trusted(cors: Cors, headers: Headers) -> bool:
    """Tell whether the request comes from an origin that is trusted with a person's session."""
    return cors.allow_credentials and _allowed_origin(cors, headers) is not None


def without_own(headers: Headers) -> list[Field]:
    """Return an application's headers without its own word on who may read the answer."""
    return [field for field in headers if field[0] not in _REPLACED]


def _allowed_origin(cors: Cors, headers: Headers) -> bytes | None:
    """Return the request's origin if the definition allows it."""
    origins = [value for name, value in headers if name == b"origin"]
    if len(origins) != 1:
        return None
    origin = origins[0].decode("latin-1")
    if not _ORIGIN.fullmatch(origin):
        return None  # `null`, or a list: nobody's in particular
    anybody = ANY in cors.allowed_origins and not cors.allow_credentials
    return origins[0] if anybody or origin in cors.allowed_origins else None


def _tokens(listed: str) -> tuple[str, ...]:
    names = (name.strip(" \t") for name in listed.split(",")[:MAX_LIST])
    return tuple(name for name in names if _TOKEN.fullmatch(name) and name != ANY)


def _has(headers: Headers, name: bytes) -> bool:
    return any(key == name for key, _ in headers)


def _grant(cors: Cors, origin: bytes) -> list[Field]:
    fields = [(b"access-control-allow-origin", origin)]
    if cors.allow_credentials:
        fields.append((b"access-control-allow-credentials", b"true"))
    return fields
