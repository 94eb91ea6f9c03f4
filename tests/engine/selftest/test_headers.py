"""Headers at the application are judged: each promise that is broken is a phrase."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.certs import CLUSTER
from tport.engine.agent.debug_app import debug_app
from tport.engine.net.asgi import Message
from tport.engine.pki.authority import new_authority
from tport.engine.pki.jwt import jwks, sign_app_token
from tport.engine.selftest.headers import (
    LIE,
    OWN_COOKIE,
    PLANTED,
    Expected,
    dumped,
    judge_headers,
    planted,
)

Fields = list[tuple[bytes, bytes]]

NOW = datetime.now(UTC)  # the JWT is judged by a library, hence by the real clock
AUTHORITY = new_authority("jwt", CLUSTER, now=NOW)
OTHER = new_authority("jwt", CLUSTER, now=NOW)
EXPECTED = Expected(
    host="127.0.0.1:3000",
    public="grafana.proxy.test:3080",
    remote="127.0.0.1",
    user="selftest",
    app="grafana",
    audience="http://127.0.0.1:3000",
    cluster=CLUSTER,
)


def token(**changes: object) -> bytes:
    claims: dict[str, object] = {
        "app": "grafana",
        "user": "selftest",
        "roles": ["access"],
        "traits": {},
        "audience": "http://127.0.0.1:3000",
        "jti": "1",
        "now": NOW,
        "expires": NOW + timedelta(hours=1),
    }
    authority = changes.pop("authority", AUTHORITY)
    return sign_app_token(authority, **(claims | changes)).encode()  # type: ignore[arg-type]


def good() -> Fields:
    """What an application gets when all is right."""
    return [
        (b"host", b"127.0.0.1:3000"),
        (b"accept", b"*/*"),
        (b"cookie", OWN_COOKIE),
        (b"x-forwarded-for", b"127.0.0.1"),
        (b"x-real-ip", b"127.0.0.1"),
        (b"x-forwarded-host", b"grafana.proxy.test:3080"),
        (b"x-forwarded-port", b"3080"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-ssl", b"on"),
        (b"x-forwarded-server", b"web-1"),
        (b"teleport-jwt-assertion", token()),
    ]


def changed(name: bytes, value: bytes) -> Fields:
    return [(key, value if key == name else old) for key, old in good()]


def without(name: bytes) -> Fields:
    return [field for field in good() if field[0] != name]


def test_the_documented_headers_and_no_lie_are_right() -> None:
    assert judge_headers(good(), EXPECTED, jwks(AUTHORITY)) == []


def test_behind_load_balancers_any_one_address_is_right() -> None:
    expected = Expected(**{**_fields(EXPECTED), "remote": ""})
    seen = [
        (n, b"203.0.113.7" if n in (b"x-forwarded-for", b"x-real-ip") else v) for n, v in good()
    ]

    assert judge_headers(seen, expected, jwks(AUTHORITY)) == []
    assert judge_headers(without(b"x-real-ip"), expected, jwks(AUTHORITY)) != []


def _fields(expected: Expected) -> dict[str, str]:
    return {name: getattr(expected, name) for name in expected.__struct_fields__}


@pytest.mark.parametrize("name", [name for name, _ in good() if name != b"accept"])
def test_each_documented_header_is_missed(name: bytes) -> None:
    assert judge_headers(without(name), EXPECTED, jwks(AUTHORITY)) != []


@pytest.mark.parametrize(("name", "value"), PLANTED)
def test_each_lie_that_arrives_beside_the_truth_is_noticed(name: bytes, value: bytes) -> None:
    assert value.endswith(LIE)
    assert judge_headers([*good(), (name, value)], EXPECTED, jwks(AUTHORITY)) != []


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (changed(b"x-forwarded-proto", b"http"), "x-forwarded-proto is 'http' instead of 'https'"),
        (changed(b"x-forwarded-for", LIE + b", 127.0.0.1"), "own x-forwarded-for arrived"),
        (changed(b"cookie", OWN_COOKIE + b"; __Host-tport_app_1=x"), "a cookie of tport's own"),
        (changed(b"teleport-jwt-assertion", b"x"), "the JWT does not verify"),
        (changed(b"teleport-jwt-assertion", b"\xff"), "the JWT does not verify"),
        (changed(b"teleport-jwt-assertion", token(authority=OTHER)), "doesn't publish"),
        (changed(b"teleport-jwt-assertion", token(audience="http://other")), "does not verify"),
        (changed(b"teleport-jwt-assertion", token(user="mallory")), "JWT's sub is 'mallory'"),
        (changed(b"teleport-jwt-assertion", token(app="other")), "JWT's app is 'other'"),
    ],
)
def test_what_is_wrong_is_said(seen: Fields, said: str) -> None:
    assert any(said in problem for problem in judge_headers(seen, EXPECTED, jwks(AUTHORITY)))


def test_lies_are_planted_beside_what_the_visitor_needs() -> None:
    headers = planted([(b"host", b"a.test"), (b"cookie", b"__Host-tport_app_1=x")])

    assert headers[:2] == (
        (b"host", b"a.test"),
        (b"cookie", b"__Host-tport_app_1=x; " + OWN_COOKIE),
    )
    assert headers[2:] == tuple(PLANTED)


async def test_what_the_debug_app_shows_is_read_back() -> None:
    headers = good()
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, object] = {
        "method": "GET",
        "raw_path": b"/",
        "query_string": b"",
        "http_version": "1.1",
        "headers": headers,
    }
    await debug_app(scope, receive, send)

    assert dumped(sent[-1]["body"]) == headers
