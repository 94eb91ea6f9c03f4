"""What the proxy answers in an application's place is told from the application's own answers."""

from __future__ import annotations

import pytest

from tests.fakes import START
from tport.engine.selftest.failure import failure_in, page_says
from tport.engine.types.failure import Failure, Page
from tport.engine.web.errors import ErrorPages

PAGES = ErrorPages(cluster="main", public_addr="proxy.test:3080")
FAILED = Failure(
    status=502,
    hop="app",
    error="unreachable",
    cause="connection refused",
    advice="Start it.",
    request_id="cafe",
    app="grafana",
    host="grafana.proxy.test",
    since=START,
)


def headers(page: Page) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in page.headers]


def test_a_failure_on_the_way_is_told_with_its_hop_and_cause() -> None:
    page = PAGES.failure(FAILED, html=False, now=START)

    failure = failure_in(page.status, headers(page), page.body)

    assert failure is not None
    assert (failure.hop, failure.error, failure.request_id) == ("app", "unreachable", "cafe")
    assert failure.advice == "Start it."
    assert failure.text() == (
        "failed at the application: connection refused"
        " (unreachable, since 2026-01-01T12:00:00+00:00)"
    )


@pytest.mark.parametrize(
    "page",
    [
        PAGES.denied(html=False, user="alice", host="grafana.proxy.test"),
        PAGES.not_signed_in(html=False, login_url="https://proxy.test", reason="no-session"),
        PAGES.unavailable(html=False),
        PAGES.misdirected(html=False, host="other.test"),
        PAGES.broken(html=False),
    ],
    ids=lambda page: str(page.status),
)
def test_a_refusal_of_the_proxy_is_the_proxy_s(page: Page) -> None:
    failure = failure_in(page.status, headers(page), page.body)

    assert failure is not None
    assert failure.hop == "proxy"
    assert failure.cause


JSON = [(b"content-type", b"application/json")]


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, JSON, b'{"error": "unreachable", "hop": "app"}'),
        (401, JSON, b'{"error": "unauthorized", "message": "log in"}'),
        (500, JSON, b'{"error": ["a", "list"]}'),
        (500, JSON, b'"text"'),
        (502, JSON, b"no json"),
        (502, JSON, b'{"error": "x", "hop": "unknown"}'),
        (502, [(b"content-type", b"text/html")], b'{"error": "unreachable", "hop": "app"}'),
        (404, [], b""),
    ],
)
def test_what_an_application_answers_itself_is_no_failure_of_the_way(
    status: int, kind: list[tuple[bytes, bytes]], body: bytes
) -> None:
    assert failure_in(status, kind, body) is None


def test_a_page_of_the_proxy_is_told_in_its_own_words() -> None:
    page = PAGES.denied(html=True, user="alice", host="grafana.proxy.test")

    assert page_says(page.status, page.body) == (
        "You may not open this: You are signed in as alice. Either none of your roles opens"
        " grafana.proxy.test, or there is no such application (status 403)"
    )


def test_a_page_of_somebody_else_is_told_by_its_status() -> None:
    assert page_says(504, b"\xff<html>") == "status 504, without words"
