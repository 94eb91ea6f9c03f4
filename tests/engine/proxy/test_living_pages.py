"""What an application's own pages and their parts are told when a session is missing, or ends."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.stack import Person, Stack, open_stack
from tport.engine.proxy import notice
from tport.engine.types.app import App

NOTICE = "/.tport/notice.js"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def fetch(mode: str, dest: str, **more: str) -> dict[str, str]:
    return {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest, **more}


# As browsers send them; without Fetch Metadata, as older ones and programs do.
PARTS = {
    "fetch": fetch("cors", "empty", Accept="*/*"),
    "fetch that asks for a page": fetch("cors", "empty", Accept="text/html"),
    "XMLHttpRequest": fetch(
        "cors", "empty", Accept="*/*", **{"X-Requested-With": "XMLHttpRequest"}
    ),
    "XMLHttpRequest of an old browser": {"Accept": "*/*", "X-Requested-With": "XMLHttpRequest"},
    "image": fetch("no-cors", "image", Accept="image/avif,image/webp,*/*;q=0.8"),
    "script": fetch("no-cors", "script", Accept="*/*"),
    "stylesheet": fetch("no-cors", "style", Accept="text/css,*/*;q=0.1"),
    "font": fetch("cors", "font", Accept="*/*"),
    "manifest": fetch("cors", "manifest", Accept="application/manifest+json,*/*;q=0.8"),
    "icon": fetch("no-cors", "image", Accept="image/*"),
    "service worker": fetch("same-origin", "serviceworker", **{"Service-Worker": "script"}),
    "worker": fetch("same-origin", "worker", Accept="*/*"),
    "prefetch": fetch("no-cors", "empty", Accept="*/*", **{"Sec-Purpose": "prefetch"}),
    "prefetch of a page": fetch(
        "navigate", "document", Accept="text/html", **{"Sec-Purpose": "prefetch;prerender"}
    ),
    "EventSource": fetch("cors", "empty", Accept="text/event-stream"),
    "WebSocket": fetch("websocket", "websocket", **UPGRADE),
    "WebSocket of a program": UPGRADE,
    "program": {"Accept": "*/*"},
}


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    app = App(name="pages", uri="http://127.0.0.1:1", session_notice=True)
    async with open_stack(apps=[app], drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    return await stack.user("alice")


@pytest.mark.parametrize("over", [False, True])
async def test_what_is_no_navigation_gets_json_and_is_never_redirected(
    stack: Stack, alice: Person, *, over: bool
) -> None:
    """Parts of a page can't sign anybody in; a redirect would only hide why they are missing."""
    await alice.open("echo")
    cookie = {"Cookie": alice.cookie("echo")} if over else {}
    if over:
        await stack.request(stack.host("echo"), "/teleport-logout", cookie)
    wrong: dict[str, object] = {}
    for part, headers in PARTS.items():
        answer = await stack.request(stack.host("echo"), "/part", headers | cookie)
        told = json.loads(answer.body) if answer.status == 401 else {}
        expected = {
            "error": "not-signed-in",
            "reason": "session-over" if over else "no-session",
            "login_url": stack.url("echo"),
        }
        kind = answer.header("content-type")
        if not expected.items() <= told.items() or kind != "application/json":
            wrong[part] = (answer.status, kind, told)
        if answer.all("set-cookie") or answer.header("location"):
            wrong[part] = (answer.status, answer.headers)

    assert wrong == {}
    assert stack.echo.seen == []


async def test_a_navigation_is_sent_to_sign_in(stack: Stack) -> None:
    headers = fetch("navigate", "document", Accept="text/html")

    answer = await stack.request(stack.host("echo"), "/page", headers)

    assert answer.status == 302


SUBMIT = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


@pytest.mark.parametrize(
    ("site", "cookie", "told"),
    [
        ("same-origin", False, "Your session at echo.tport.localhost is over"),
        ("same-site", False, "Your session at echo.tport.localhost is over"),
        ("cross-site", False, "came from another site"),
        ("cross-site", True, "Your session at echo.tport.localhost is over"),
    ],
)
async def test_a_form_without_a_session_is_stopped_and_its_page_says_why(
    stack: Stack, alice: Person, site: str, told: str, *, cookie: bool
) -> None:
    """No cookie of ours with another site's form: it is kept back as the entry has it, or there is none."""
    await alice.open("echo")
    sent = {"Cookie": alice.cookie("echo")} if cookie else {}
    await stack.request(stack.host("echo"), "/teleport-logout", {"Cookie": alice.cookie("echo")})

    headers = SUBMIT | {"Sec-Fetch-Site": site} | sent
    answer = await stack.request(stack.host("echo"), "/form", headers, method="POST", body=b"a=1")

    text = answer.body.decode()
    assert answer.status == 401
    assert "Not sent: sign in and try again" in text
    assert told in text
    assert stack.echo.seen == []


async def test_a_page_learns_who_is_signed_in_and_until_when(stack: Stack, alice: Person) -> None:
    await alice.open("echo")

    answer = await alice.get("echo", "/.tport/session", **PARTS["fetch"])

    told = json.loads(answer.body)
    left = datetime.fromisoformat(told.pop("expires")) - datetime.now(UTC)
    assert told == {"user": "alice", "app": "echo"}
    assert timedelta(hours=11) < left <= timedelta(hours=12)
    assert answer.header("cache-control") == "no-store"
    assert stack.echo.seen == []


async def test_without_a_session_a_page_learns_that(stack: Stack) -> None:
    answer = await stack.request(stack.host("echo"), "/.tport/session", PARTS["fetch"])

    assert answer.status == 401
    assert json.loads(answer.body)["reason"] == "no-session"


async def test_the_notice_is_served_where_the_application_asks_for_it(
    stack: Stack, alice: Person
) -> None:
    answer = await alice.get("pages", NOTICE, **PARTS["script"])
    other = await alice.get("echo", NOTICE, **PARTS["script"])

    assert (answer.status, answer.body) == (200, notice.SCRIPT)
    assert answer.header("content-type") == "application/javascript"
    assert answer.header("cache-control") == "private, max-age=300"
    assert answer.header("x-content-type-options") == "nosniff"
    assert other.status == 404
    assert stack.echo.seen == []


async def test_http_07_the_notice_tells_strangers_nothing_about_a_host(stack: Stack) -> None:
    """HTTP-07: an application with it, one without, and none at all look alike."""
    answers = [
        await stack.request(stack.host(app), NOTICE, PARTS["script"])
        for app in ("pages", "echo", "no-such-app")
    ]

    assert [answer.status for answer in answers] == [401, 401, 401]


def test_the_notice_is_small_and_asks_nobody_else() -> None:
    """It has to work under `script-src 'self'; connect-src 'self'` and nothing more."""
    text = notice.SCRIPT.decode()

    assert len(notice.SCRIPT) <= 2048
    assert re.findall(r"fetch\(\"([^\"]*)\"", text) == ["/.tport/session"]
    for word in ("innerHTML", "http:", "https:", "eval", "Function(", "cssText", '"style"'):
        assert word not in text
