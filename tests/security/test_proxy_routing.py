"""Which application is asked, by which protocol, and what of tport's own answers is kept: by nobody."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator
from urllib.parse import urljoin

import pytest
import trio

from tests.browser import Browser, whereto
from tests.stack import DOMAIN, Answer, Person, Stack, open_stack, read_all
from tport.engine.types.app import App

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"  # an empty SETTINGS frame


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    other = App(name="other", uri="http://127.0.0.1:1")
    async with open_stack(apps=(other,), drain=False) as opened:
        yield opened


# --- HTTP/2 -------------------------------------------------------------------------------------------


async def test_http_17_who_speaks_nothing_but_http_2_gets_an_alert(stack: Stack) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        await stack.connect(DOMAIN, context=stack.context(alpn=["h2"]))


@pytest.mark.parametrize("app", ["", "echo"])
@pytest.mark.parametrize("alpn", [["h2", "http/1.1"], []], ids=["offered beside", "not said"])
async def test_http_17_http_2_is_not_taken_for_http_1_1(
    stack: Stack, app: str, alpn: list[str]
) -> None:
    """HTTP-17: the preface, a SETTINGS frame, and whatever a client would send behind them."""
    alice = await stack.user("alice")
    await alice.open("echo")
    host = stack.host(app) if app else DOMAIN
    smuggled = f"GET /smuggled HTTP/1.1\r\nHost: {host}\r\nCookie: {alice.cookie('echo')}\r\n\r\n"
    async with await stack.connect(host, context=stack.context(alpn=alpn)) as tls:
        assert tls.alpn in ("http/1.1", None)
        await tls.send_all(PREFACE + SETTINGS + smuggled.encode())
        with trio.fail_after(5):
            said = await read_all(tls)

    assert said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 "))
    assert len(re.findall(rb"HTTP/1\.1 \d\d\d ", said)) == 1
    assert stack.echo.seen == []


# --- Which application ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/", {"Authorization": "Basic b3RoZXI6eA=="}),  # other:x
        ("/", {"Authorization": "Bearer other"}),
        ("/", {"X-Forwarded-Host": "other.tport.localhost", "X-Forwarded-Server": "other"}),
        ("/", {"X-Original-Url": "https://other.tport.localhost/", "X-Rewrite-Url": "/other"}),
        ("/", {"X-Tport-App": "other", "Tport-App": "other", "X-Teleport-App": "other"}),
        ("/", {"Origin-Agent-Cluster": "other", "X-Host": "other", "Forwarded": "host=other"}),
        ("/other", {}),
        ("/?app=other&host=other.tport.localhost&publicAddr=other", {}),
        ("//other.tport.localhost/", {}),
        ("/@other.tport.localhost/", {}),
    ],
    ids=repr,
)
async def test_ag_17_which_application_is_asked_host_alone_decides(
    stack: Stack, target: str, headers: dict[str, str]
) -> None:
    """AG-17: no user name, path or query chooses an agent, or an application."""
    alice = await stack.user("alice")

    answer = await alice.get("echo", target, **headers)

    assert answer.status == 200
    assert [seen.target.decode() for seen in stack.echo.seen] == [target]


# --- What is kept ---------------------------------------------------------------------------------------


def _is_kept_by_nobody(answer: Answer) -> bool:
    return "no-store" in answer.header("cache-control")


async def test_http_19_no_cache_keeps_what_tport_itself_says(stack: Stack) -> None:
    """HTTP-19: the way in with each of its steps, the way out, every page about a failure."""
    alice = await stack.user("alice")
    browser = Browser(stack)
    await browser.sign_in("alice")
    answers: dict[str, Answer] = {}
    url = stack.url("echo", "/")
    while (next_ := whereto(answer := await browser.ask(url))) is not None:
        answers[url.partition("?")[0]] = answer
        url = urljoin(url, next_)
    assert len(answers) == 3  # to the launcher, from there with a code, and to where it began
    assert answer.status == 200
    echo = stack.host("echo")
    html = {"Accept": "text/html"}
    answers |= {
        "not signed in": await stack.request(echo, "/"),
        "an unknown host": await stack.request(f"nobody.{DOMAIN}", "/"),
        "a code that is none": await stack.request(echo, "/.tport/auth?code=x&state=y"),
        "a chain that is none": await stack.request(echo, "/.tport/open?chain=x"),
        "the session": await alice.get("echo", "/.tport/session"),
        "not ours": await alice.get("echo", "/.tport/nothing"),
        "no answer": await alice.get("raw"),
        "no agent's": await alice.get("other"),
        "signed out": await alice.get("echo", "/teleport-logout"),
        "misdirected": await stack.request("x.test", "/", server_name=DOMAIN),
        "not found": await stack.request(DOMAIN, "/nowhere"),
        "sign-in": await stack.request(DOMAIN, "/web/login", html),
        "a bad head": await stack.raw(DOMAIN, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        "too large": await stack.raw(DOMAIN, b"GET / HTTP/1.1\r\nX: " + bytes(70_000)),
    }
    kept = {name: each.headers for name, each in answers.items() if not _is_kept_by_nobody(each)}

    assert kept == {}
    assert json.loads(answers["the session"].body)["user"] == "alice"


async def test_http_19_what_an_application_says_of_caches_stays(
    stack: Stack,
) -> None:
    """HTTP-19: its answers are its own, for it knows what may be kept."""
    alice: Person = await stack.user("alice")
    stack.raw_app.answers(
        b"HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nContent-Length: 0\r\n\r\n"
    )

    answer = await alice.get("raw")

    assert answer.header("cache-control") == "public, max-age=60"
