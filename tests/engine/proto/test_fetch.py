"""Who is sent on to sign in, and who gets JSON: by what the browser says, never by the path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tport.engine.proto.fetch import (
    Intent,
    intent,
    is_asked_elsewhere,
    is_browser,
    is_cross_site,
    wants_html,
)

HTML = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def fetch(mode: str, dest: str, **more: str) -> list[tuple[bytes, bytes]]:
    headers = {"sec-fetch-mode": mode, "sec-fetch-dest": dest}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        (b"GET", fetch("navigate", "document"), Intent.NAVIGATE),
        (b"HEAD", fetch("navigate", "document"), Intent.NAVIGATE),
        (b"POST", fetch("navigate", "document"), Intent.SUBMIT),
        (b"GET", fetch("navigate", "iframe"), Intent.FRAME),
        (b"GET", fetch("navigate", "frame"), Intent.FRAME),
        (b"GET", fetch("navigate", "object"), Intent.FRAME),
        (b"GET", fetch("navigate", "document", sec_purpose="prefetch"), Intent.OTHER),
        (
            b"GET",
            fetch("navigate", "document", sec_purpose="prefetch;anonymous-client-ip"),
            Intent.OTHER,
        ),
        (b"GET", fetch("cors", "empty"), Intent.OTHER),
        (b"GET", fetch("cors", "empty", accept="text/html"), Intent.OTHER),
        (b"GET", fetch("no-cors", "image"), Intent.OTHER),
        (b"GET", fetch("websocket", "websocket"), Intent.OTHER),
        (b"GET", fetch("navigate", "worker"), Intent.OTHER),
        (b"GET", [(b"sec-fetch-dest", b"document")], Intent.OTHER),
        (b"GET", [(b"sec-fetch-mode", b"navigate")], Intent.OTHER),
        (b"GET", [(b"accept", HTML)], Intent.NAVIGATE),
        (b"POST", [(b"accept", HTML)], Intent.SUBMIT),
        (b"GET", [(b"accept", b"*/*")], Intent.OTHER),
        (b"GET", [(b"accept", b"application/json")], Intent.OTHER),
        (b"GET", [(b"accept", b"text/html;q=0")], Intent.OTHER),
        (b"GET", [(b"accept", b"text/html; q=0.0, */*")], Intent.OTHER),
        (b"GET", [(b"accept", b"text/html; q=0.1")], Intent.NAVIGATE),
        (b"GET", [(b"accept", b"text/htmlx")], Intent.OTHER),
        (b"GET", [], Intent.OTHER),
    ],
)
def test_the_intent_is_what_the_headers_say(
    method: bytes, headers: list[tuple[bytes, bytes]], expected: Intent
) -> None:
    assert intent(method, headers) is expected


def test_a_header_sent_twice_is_nobodys_navigation() -> None:
    twice = [*fetch("navigate", "document"), (b"sec-fetch-mode", b"cors")]

    assert intent(b"GET", twice) is Intent.OTHER


def test_pages_are_for_people_whatever_the_method() -> None:
    assert wants_html([(b"accept", HTML)])
    assert wants_html(fetch("navigate", "iframe"))
    assert not wants_html([(b"accept", b"*/*")])


NAMES = st.sampled_from([b"accept", b"sec-fetch-mode", b"sec-fetch-dest", b"sec-purpose", b"x"])


@given(st.sampled_from([b"GET", b"POST"]), st.lists(st.tuples(NAMES, st.binary(max_size=20))))
def test_any_headers_have_one_intent(method: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    assert intent(method, headers) in Intent


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"cross-site"], True),
        ([b"same-site"], False),
        ([b"same-origin"], False),
        ([b"none"], False),
        ([], False),
        ([b"cross-site", b"same-origin"], False),
    ],
)
def test_only_a_browser_that_says_so_comes_from_another_site(
    values: list[bytes], *, expected: bool
) -> None:
    assert is_cross_site([(b"sec-fetch-site", value) for value in values]) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (fetch("cors", "empty"), True),
        ([(b"sec-fetch-site", b"none")], True),
        ([(b"user-agent", b"Mozilla/5.0 (Macintosh) Version/15.1 Safari/605.1.15")], True),
        ([(b"user-agent", b"git/2.39.5")], False),
        ([(b"user-agent", b"Microsoft-WebDAV-MiniRedir/10.0.19045")], False),
        ([(b"accept", HTML)], False),
        ([], False),
    ],
)
def test_a_browser_says_what_it_is(headers: list[tuple[bytes, bytes]], expected: bool) -> None:
    """Old Safari has no Fetch Metadata; every browser calls itself Mozilla."""
    assert is_browser(headers) is expected


OWN = (b"origin", b"https://App.test:3080")
HOST = (b"host", b"app.test:3080")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([HOST], False),
        ([HOST, OWN], False),
        ([HOST, (b"origin", b"https://app.test")], True),  # another port is another origin
        ([HOST, (b"origin", b"http://app.test:3080")], True),
        ([HOST, (b"origin", b"null")], True),
        ([HOST, (b"origin", b"null"), (b"sec-fetch-site", b"same-origin")], False),
        ([HOST, OWN, (b"sec-fetch-site", b"same-site")], True),
        ([HOST, (b"sec-fetch-site", b"cross-site")], True),
        ([HOST, (b"sec-fetch-site", b"none")], False),
        ([HOST, (b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"same-site")], True),
        ([OWN], True),
    ],
)
def test_what_another_origin_s_page_sends_is_told_from_all_else(
    headers: list[tuple[bytes, bytes]], *, expected: bool
) -> None:
    assert is_asked_elsewhere(headers) is expected
