"""What people and programs are told when something fails."""

import base64
import hashlib
import json
import re
from datetime import timedelta
from html import unescape

import msgspec
import pytest

from tests.fakes import START
from tport.engine.types.failure import Failure, Page, Place
from tport.engine.types.launch import Loop
from tport.engine.web.errors import ErrorPages
from tport.engine.web.visit import sentence

PAGES = ErrorPages(cluster="main", public_addr="proxy.test:3080")


def failure(hop: Place = "app", *, agent: str = "host-7", repeatable: bool = True) -> Failure:
    return Failure(
        status=502,
        hop=hop,
        error="connection-refused",
        cause="Nothing listens at port 3000 of the agent's machine",
        advice="Start it there.",
        request_id="req-1",
        app="grafana",
        host="grafana.proxy.test",
        agent=agent,
        since=START - timedelta(minutes=4),
        took=2.04,
        repeatable=repeatable,
    )


def every_page() -> list[Page]:
    return [
        PAGES.failure(failure(), html=True, now=START),
        PAGES.not_signed_in(html=True, login_url="https://proxy.test:3080/x", reason="no-session"),
        PAGES.not_sent(
            host="grafana.proxy.test", login_url="https://proxy.test:3080/x", cross_site=False
        ),
        PAGES.not_sent(
            host="grafana.proxy.test", login_url="https://proxy.test:3080/x", cross_site=True
        ),
        PAGES.framed(host="grafana.proxy.test", url="https://grafana.proxy.test:3080/"),
        PAGES.denied(html=True, user="alice", host="grafana.proxy.test"),
        PAGES.looping(
            Loop(host="grafana.proxy.test", cause="", opened=0, skew=0),
            url="https://grafana.proxy.test:3080/",
        ),
        PAGES.not_found(html=True),
        PAGES.misdirected(html=True, host="other.test"),
        PAGES.head_too_large(html=True, host="grafana.proxy.test"),
        PAGES.unavailable(html=True),
        PAGES.too_many(html=True, retry_after=9.5),
        PAGES.broken(html=True),
    ]


def states(page: Page) -> list[str]:
    return re.findall(r'<li class="(ok|failed|unknown)">', page.body.decode())


@pytest.mark.parametrize(
    ("hop", "expected"),
    [
        ("you", ["failed", "unknown", "unknown", "unknown"]),
        ("proxy", ["ok", "failed", "unknown", "unknown"]),
        ("agent", ["ok", "ok", "failed", "unknown"]),
        ("app", ["ok", "ok", "ok", "failed"]),
    ],
)
def test_the_station_that_failed_is_red_those_before_it_green(
    hop: Place, expected: list[str]
) -> None:
    assert states(PAGES.failure(failure(hop), html=True, now=START)) == expected


def test_a_failure_tells_cause_since_when_request_id_and_what_to_do() -> None:
    text = unescape(PAGES.failure(failure(), html=True, now=START).body.decode())

    for part in (
        "grafana did not answer",
        "Nothing listens at port 3000 of the agent's machine.",
        "11:56:00 UTC, 4 minutes ago",
        "req-1",
        "Start it there.",
        "host-7",
        "Try again",
        "failed here after 2.0 s",
    ):
        assert part in text


def test_a_missing_agent_is_called_missing() -> None:
    page = PAGES.failure(failure("agent", agent=""), html=True, now=START)

    assert b"none connected" in page.body


@pytest.mark.parametrize("html", [True, False])
@pytest.mark.parametrize(("status", "wait"), [(503, "5"), (502, None), (504, None)])
def test_what_mends_by_itself_says_when_to_ask_again(
    html: bool, status: int, wait: str | None
) -> None:
    """R-03: where no agent is connected now, or it has lost touch with auth."""
    gone = msgspec.structs.replace(failure("agent", agent=""), status=status)
    page = PAGES.failure(gone, html=html, now=START)

    assert dict(page.headers).get("retry-after") == wait


def test_what_was_sent_by_a_form_is_not_offered_again() -> None:
    page = PAGES.failure(failure(repeatable=False), html=True, now=START)

    assert b"Try again" not in page.body


def test_programs_get_the_same_in_json() -> None:
    page = PAGES.failure(failure(), html=False, now=START)

    assert dict(page.headers)["content-type"] == "application/json"
    assert page.status == 502
    assert json.loads(page.body) == {
        "error": "connection-refused",
        "message": "Nothing listens at port 3000 of the agent's machine",
        "hop": "app",
        "cause": "Nothing listens at port 3000 of the agent's machine",
        "since": "2026-01-01T11:56:00+00:00",
        "seconds": 2.04,
        "times": {"app": 2.04},
        "advice": "Start it there.",
        "app": "grafana",
        "host": "grafana.proxy.test",
        "request_id": "req-1",
    }


@pytest.mark.parametrize(
    ("ago", "words"),
    [
        (timedelta(seconds=-5), "12:00:05 UTC, 0 s ago"),
        (timedelta(seconds=59), "11:59:01 UTC, 59 s ago"),
        (timedelta(minutes=1), "11:59:00 UTC, 1 minute ago"),
        (timedelta(hours=2), "10:00:00 UTC, 2 hours ago"),
        (timedelta(days=3), "2025-12-29 12:00 UTC, 3 days ago"),
    ],
)
def test_since_is_a_time_and_how_long_ago_that_is(ago: timedelta, words: str) -> None:
    told = Failure(
        status=502,
        hop="app",
        error="x",
        cause="x",
        request_id="1",
        app="a",
        host="h",
        since=START - ago,
    )

    assert words in PAGES.failure(told, html=True, now=START).body.decode()


def test_a_program_without_a_session_learns_where_to_sign_in() -> None:
    page = PAGES.not_signed_in(
        html=False, login_url="https://proxy.test:3080/web/launch?state=x", reason="session-over"
    )

    assert page.status == 401
    assert dict(page.headers)["www-authenticate"] == 'Bearer realm="proxy.test"'
    answer = json.loads(page.body)
    assert answer["login_url"] == "https://proxy.test:3080/web/launch?state=x"
    assert answer["reason"] == "session-over"


def test_a_form_that_was_stopped_is_called_not_sent_and_keeps_its_tab() -> None:
    page = PAGES.not_sent(
        host="grafana.proxy.test", login_url="https://proxy.test/x", cross_site=False
    )
    text = page.body.decode()

    assert "Not sent: sign in and try again" in text
    assert "Your session at grafana.proxy.test is over" in text
    assert "cookie_same_site" not in text
    assert 'href="https://proxy.test/x" target="_blank" rel="noopener"' in text


def test_a_form_of_another_site_that_was_stopped_is_no_session_that_is_over() -> None:
    """Whoever is signed in may come here, again and again: only the application's entry can change it."""
    page = PAGES.not_sent(
        host="grafana.proxy.test", login_url="https://proxy.test/x", cross_site=True
    )
    text = page.body.decode()

    assert page.status == 401
    assert "Not sent: sign in and try again" in text
    assert "is over" not in text
    assert "cookie_same_site: none" in text
    assert 'href="https://proxy.test/x" target="_blank" rel="noopener"' in text


def test_a_page_in_a_frame_may_be_framed_and_leads_out_of_it() -> None:
    page = PAGES.framed(host="grafana.proxy.test", url="https://grafana.proxy.test:3080/")

    headers = dict(page.headers)
    assert page.status == 401
    assert "x-frame-options" not in headers
    assert "frame-ancestors" not in headers["content-security-policy"]
    assert b'href="https://grafana.proxy.test:3080/" target="_top"' in page.body


def test_every_page_stands_alone_with_its_style_allowed_by_hash() -> None:
    for page in every_page():
        text = page.body.decode()
        [style] = re.findall(r"<style>(.*?)</style>", text, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        csp = dict(page.headers)["content-security-policy"]
        assert f"style-src 'sha256-{digest}';" in csp
        assert "unsafe" not in csp
        assert "<script" not in text
        assert not re.search(r'(src|href)="/', text)  # nothing of the host it appears on


def test_every_page_has_a_language_a_title_one_heading_and_something_to_do() -> None:
    for page in every_page():
        text = page.body.decode()
        assert '<html lang="en">' in text
        assert re.search(r"<title>.+ · main</title>", text)
        assert text.count("<h1>") == 1
        assert text.count("<main") == 1
        assert 'class="button"' in text


def test_no_page_is_kept_by_a_cache() -> None:
    for page in every_page():
        assert dict(page.headers)["cache-control"] == "no-store"


def test_who_must_wait_is_told_how_long() -> None:
    page = PAGES.too_many(html=False, retry_after=9.5)

    assert page.status == 429
    assert dict(page.headers)["retry-after"] == "10"


def test_each_station_says_how_long_it_took_as_far_as_that_is_known() -> None:
    known = msgspec.structs.replace(failure(), took=2.04, waited=2.0)

    page = PAGES.failure(known, html=True, now=START).body.decode()
    assert "works in 40 ms" in page  # proxy to agent, and back
    assert "failed here after 2.0 s" in page
    told = json.loads(PAGES.failure(known, html=False, now=START).body)
    assert told["times"] == {"agent": 0.04, "app": 2.0}


@pytest.mark.parametrize(
    "page",
    [
        PAGES.failure(failure(), html=False, now=START),
        PAGES.not_signed_in(html=False, login_url="https://proxy.test:3080/x", reason="no-session"),
        PAGES.denied(html=False, user="alice", host="grafana.proxy.test"),
        PAGES.not_found(html=False),
        PAGES.misdirected(html=False, host="other.test"),
        PAGES.unavailable(html=False),
        PAGES.too_many(html=False, retry_after=3),
        PAGES.broken(html=False),
    ],
    ids=lambda page: str(page.status),
)
def test_programs_read_every_failure_in_one_way(page: Page) -> None:
    told = json.loads(page.body)

    assert told["error"]
    assert told["message"]
    assert told["hop"] in ("you", "proxy", "agent", "app")
    assert told["cause"]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("no such host", "No such host."),
        ("done!", "Done!"),
        ("http://localhost:3000 answers", "http://localhost:3000 answers."),
        ("", ""),
    ],
)
def test_an_error_is_shown_as_a_sentence_and_an_address_as_it_is(words: str, shown: str) -> None:
    assert sentence(words) == shown
