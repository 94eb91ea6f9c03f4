"""Which headers reached the application, against what docs/guide.md and SECURITY promise. Pure.

The visitor plants headers that only tport may set, and a cookie of its own; the application
tells what it got.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

import jwt
import msgspec

from tport.engine.proto.cookies import is_ours
from tport.engine.proto.fields import fold, values
from tport.engine.selftest.figures import Figure

Fields = Sequence[tuple[bytes, bytes]]

LIE: Final = b"192.0.2.66"  # RFC 5737: nobody's address
OWN_COOKIE: Final = b"selftest=of-the-application"
PLANTED: Final[Fields] = (
    (b"x-forwarded-for", LIE),
    (b"x-forwarded-host", LIE),
    (b"x-forwarded-proto", LIE),
    (b"x-real-ip", LIE),
    (b"forwarded", b"for=" + LIE),
    (b"teleport-jwt-assertion", LIE),
    (b"teleport.jwt_assertion", LIE),
)
ASSERTION: Final = b"teleport-jwt-assertion"


def planted(headers: Fields) -> Fields:
    """Return a visitor's headers with lies among them, and a cookie of the application's beside ours."""
    with_cookie = [
        (name, value + b"; " + OWN_COOKIE) if name == b"cookie" else (name, value)
        for name, value in headers
    ]
    return (*with_cookie, *PLANTED)


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What the application should have been told.

    Attributes:
        host: as its own URI says.
        public: host[:port] that the visitor asked for.
        remote: the visitor's address; "": any, since load balancers may stand in front.
        user, app, audience, cluster: claims of the JWT.
    """

    host: str
    public: str
    remote: str
    user: str
    app: str
    audience: str
    cluster: str


def dumped(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers in what the debug app shows: a request line, `name: value` lines, a blank one."""
    head = text.partition(b"\n\n")[0]
    pairs = (line.partition(b": ") for line in head.split(b"\n")[1:])
    return [(name, value) for name, _, value in pairs]


def headers_figure(
    blank: Figure, seen: Fields, expected: Expected, jwks: Mapping[str, Any]
) -> Figure:
    """Judge what reached the application; see `judge_headers`."""
    if problems := judge_headers(seen, expected, jwks):
        return blank.failed("; ".join(problems))
    return blank.noted(f"{len(seen)}, none is forged")


def judge_headers(seen: Fields, expected: Expected, jwks: Mapping[str, Any]) -> list[str]:
    """Return what is wrong, a phrase each; empty: nothing.

    Args:
        seen: names lower case.
        jwks: the proxy's, from `/.well-known/jwks.json`.
    """
    _, colon, port = expected.public.rpartition(":")
    exact = {
        b"host": expected.host,
        b"x-forwarded-host": expected.public,
        b"x-forwarded-port": port if colon else "443",
        b"x-forwarded-proto": "https",
        b"x-forwarded-ssl": "on",
    }
    problems = [problem for name, value in exact.items() if (problem := _not(seen, name, value))]
    for name in (b"x-forwarded-for", b"x-real-ip"):
        if expected.remote:
            problems += filter(None, [_not(seen, name, expected.remote)])
        elif not _is_one_address(values(seen, name)):
            problems.append(f"{_text(name)} is not one address")
    if len(values(seen, b"x-forwarded-server")) != 1:
        problems.append("x-forwarded-server is missing")
    problems += _lies(seen)
    problems += _cookies(values(seen, b"cookie"))
    problems += _assertion(values(seen, ASSERTION), expected, jwks)
    return problems


def _not(seen: Fields, name: bytes, value: str) -> str:
    """Return how a header differs from its one value; "": it doesn't."""
    found = values(seen, name)
    if found == [value.encode()]:
        return ""
    if not found:
        return f"{_text(name)} is missing"
    got = ", ".join(map(_text, found))
    return f"{_text(name)} is {got!r} instead of {value!r}"


def _is_one_address(found: Sequence[bytes]) -> bool:
    try:
        return len(found) == 1 and bool(ip_address(found[0].decode("latin-1")))
    except ValueError:
        return False


def _lies(seen: Fields) -> Iterable[str]:
    planted = {fold(name) for name, _ in PLANTED}
    for name, value in seen:
        if fold(name) in planted and LIE in value:
            yield f"the visitor's own {_text(name)} arrived"


def _cookies(found: Sequence[bytes]) -> Iterable[str]:
    pairs = [pair.strip() for value in found for pair in value.split(b";")]
    if any(is_ours(pair.partition(b"=")[0]) for pair in pairs):
        yield "a cookie of tport's own arrived"
    if OWN_COOKIE not in pairs:
        yield "the application's own cookie is missing"


def _assertion(
    found: Sequence[bytes], expected: Expected, jwks: Mapping[str, Any]
) -> Iterable[str]:
    """Check the JWT as an application does, with any library: signature, audience, times."""
    if len(found) != 1:
        yield "teleport-jwt-assertion is missing" if not found else "there are several JWTs"
        return
    try:
        token = found[0].decode("ascii")
        kid = jwt.get_unverified_header(token).get("kid")
        key = next(key for key in jwt.PyJWKSet.from_dict(dict(jwks)).keys if key.key_id == kid)
        claims = jwt.decode(
            token,
            key,
            algorithms=["ES256", "RS256"],
            audience=expected.audience,
            issuer=expected.cluster,
            options={"require": ["exp", "iat", "nbf", "sub"]},
        )
    except StopIteration:
        yield "the JWT is signed by a key that the proxy doesn't publish"
        return
    except (jwt.PyJWTError, ValueError) as problem:
        yield f"the JWT does not verify: {problem}"
        return
    for claim, value in (
        ("sub", expected.user),
        ("username", expected.user),
        ("app", expected.app),
        ("cluster", expected.cluster),
    ):
        if claims.get(claim) != value:
            yield f"the JWT's {claim} is {claims.get(claim)!r} instead of {value!r}"


def _text(data: bytes) -> str:
    return data.decode("latin-1")
