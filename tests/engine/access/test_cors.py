"""WEB-13: which answers of an application other origins' pages may read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tport.engine.access.cors import (
    VARY,
    answer_headers,
    check_cors,
    is_preflight,
    preflight,
    without_own,
)
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import Cors

PORTAL = b"https://portal.example.com"
CORS = Cors(
    allowed_origins=(PORTAL.decode(), "http://[::1]:8080"),
    allowed_methods=("PUT", "DELETE"),
    allowed_headers=("Content-Type",),
    exposed_headers=("ETag",),
    allow_credentials=True,
    max_age=600,
)
ANYBODY = Cors(allowed_origins=("*",))


def asked(origin: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"origin", origin), (b"access-control-request-method", b"PUT")]


def test_a_preflight_is_told_all_that_is_allowed() -> None:
    assert preflight(CORS, asked(PORTAL)) == [
        (b"access-control-allow-origin", PORTAL),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", b"PUT, DELETE"),
        (b"access-control-allow-headers", b"Content-Type"),
        (b"access-control-max-age", b"600"),
        VARY,
    ]


def test_an_answer_may_be_read_by_who_is_allowed() -> None:
    assert answer_headers(CORS, asked(PORTAL)) == [
        (b"access-control-allow-origin", PORTAL),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"ETag"),
        VARY,
    ]
    assert answer_headers(CORS, asked(b"http://[::1]:8080"))[0][1] == b"http://[::1]:8080"


@pytest.mark.parametrize(
    "origin",
    [
        b"https://evil.example.com",
        b"http://portal.example.com",
        b"https://portal.example.com:8443",
        b"https://portal.example.com.evil.com",
        b"https://portal.example.com/",
        b"https://PORTAL.example.com",
        b"https://portal.example.com https://evil.example.com",
        b"null",
        b"*",
        b"",
    ],
)
def test_anybody_else_gets_nothing_and_caches_learn_that_it_depends(origin: bytes) -> None:
    assert preflight(CORS, asked(origin)) is None
    assert answer_headers(CORS, asked(origin)) == [VARY]


def test_two_origins_are_none() -> None:
    headers = [*asked(PORTAL), (b"origin", PORTAL)]

    assert preflight(CORS, headers) is None
    assert answer_headers(CORS, headers) == [VARY]
    assert answer_headers(CORS, []) == [VARY]


def test_a_star_lets_anybody_in_but_who_is_nobody_in_particular() -> None:
    assert answer_headers(ANYBODY, asked(b"https://any.test")) == [
        (b"access-control-allow-origin", b"https://any.test"),
        VARY,
    ]
    for origin in (b"null", b"file://", b"chrome-extension://x", b"https://a\r\nX: y"):
        assert answer_headers(ANYBODY, asked(origin)) == [VARY]
        assert preflight(ANYBODY, asked(origin)) is None


def test_a_star_beside_credentials_stands_for_nobody() -> None:
    """However such a definition came to be."""
    both = replace(ANYBODY, allow_credentials=True)

    assert preflight(both, asked(PORTAL)) is None
    with pytest.raises(InvalidRequest, match="exclude each other"):
        check_cors(both)


@given(origin=st.binary(max_size=40))
def test_no_origin_is_let_in_that_is_not_listed_to_the_letter(origin: bytes) -> None:
    allowed = preflight(CORS, asked(origin)) is not None

    assert allowed == (origin.decode("latin-1") in CORS.allowed_origins)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"allowed_origins": ()}, "empty"),
        ({"allowed_origins": ("null",)}, "no origin"),
        ({"allowed_origins": ("https://a/",)}, "no origin"),
        ({"allowed_origins": ("https://a\r\nX: y",)}, "no origin"),
        ({"allowed_methods": ("PUT\r\nX: y",)}, "no name"),
        ({"allowed_headers": ("X: y",)}, "no name"),
        ({"exposed_headers": ("é",)}, "no name"),
        ({"exposed_headers": ("x",) * 65}, "65 entries"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": 86401}, "max_age"),
    ],
)
def test_an_agents_definition_is_judged_again(change: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        check_cors(replace(CORS, **change))


def test_only_what_asks_for_permission_is_a_preflight() -> None:
    assert is_preflight(b"OPTIONS", asked(PORTAL))
    assert not is_preflight(b"GET", asked(PORTAL))
    assert not is_preflight(b"OPTIONS", asked(PORTAL)[:1])
    assert not is_preflight(b"OPTIONS", asked(PORTAL)[1:])


def test_the_applications_own_word_is_taken_back() -> None:
    kept = [(b"etag", b"x"), (b"access-control-allow-methods", b"PUT")]

    assert without_own([(b"access-control-allow-origin", b"*"), *kept]) == kept
