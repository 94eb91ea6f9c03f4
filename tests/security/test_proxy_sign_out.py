"""WEB-14 to WEB-16 through a whole cluster: leaving, what leaving ends, and paths that are ours."""

from __future__ import annotations

import pytest
import trio

from tests.browser import Browser
from tests.figures import BUSY
from tests.stack import Answer, Person, Stack
from tport.engine.types.lock import LockTarget

LEAVE = "/teleport-logout"
JSON = {"Accept": "application/json"}


@pytest.mark.parametrize(
    ("site", "mode", "dest"),
    [
        ("cross-site", "no-cors", "image"),
        ("same-site", "no-cors", "image"),
        ("cross-site", "navigate", "document"),
        ("cross-site", "navigate", "iframe"),
        ("same-site", "navigate", "iframe"),
        ("same-site", "cors", "empty"),
    ],
)
async def test_web_14_another_site_makes_nobody_leave(
    stack: Stack, alice: Person, site: str, mode: str, dest: str
) -> None:
    await alice.open("echo")
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}

    refused = await alice.get("echo", LEAVE, **headers)

    assert refused.status == 403
    assert refused.all("set-cookie") == []
    assert (await alice.get("echo")).status == 200


async def test_web_14_who_leaves_is_gone_before_the_answer_comes(
    stack: Stack, browser: Browser
) -> None:
    """The cookie that a thief kept opens nothing, and begins a way in at the launcher."""
    await browser.go(stack.url("echo"))
    kept = dict(browser.jar[stack.host("echo")])
    stack.echo.seen.clear()

    left = await browser.ask(stack.url("echo", LEAVE))
    browser.jar[stack.host("echo")] = kept
    after = await browser.ask(stack.url("echo"))

    assert left.status == 200
    assert after.status == 302
    assert after.header("location").startswith(f"{stack.proxy_url}/web/launch")
    assert stack.echo.seen == []


async def test_web_14_who_is_locked_may_leave_too(stack: Stack, alice: Person) -> None:
    """At a machine of others the session would stay, and go on when the lock is lifted."""
    await alice.open("echo")
    await alice.open("raw")
    lock = await stack.admin.create_lock(target=LockTarget(user="alice"), message="", ttl=0)
    await _until_refused(alice, "echo")

    foreign = await alice.get("echo", LEAVE, **{"Sec-Fetch-Site": "cross-site"})
    left = await alice.get("echo", LEAVE)

    assert foreign.status == 403
    assert left.status == 200
    assert f"{stack.app_cookie}=;" in left.header("set-cookie")
    await stack.event("app.session.end", app_name="echo", user="alice")
    await stack.admin.delete_lock(name=lock.name)
    with trio.fail_after(5):
        while (other := await alice.get("raw", **JSON)).status == 403:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)
    assert other.status == 502, "another session lives on; that application says nothing"
    assert (await alice.get("echo", **JSON)).status == 401


async def _until_refused(person: Person, app: str) -> None:
    with trio.fail_after(5):
        while (await person.get(app, **JSON)).status == 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)


async def test_web_15_signing_out_ends_the_sessions_of_every_application_at_once(
    stack: Stack, browser: Browser
) -> None:
    """Also for cookies that somebody kept; downloads and WebSockets: AZ-04, `signed out`."""
    await browser.go(stack.url("echo"))
    kept = {host: dict(jar) for host, jar in browser.jar.items()}
    stack.echo.seen.clear()

    out = await browser.submit(f"{stack.proxy_url}/web/logout", {})
    thief = Browser(stack)
    thief.jar = kept
    with trio.fail_after(BUSY):
        while (answer := await thief.ask(stack.url("echo"), JSON | _PROGRAM)).status == 200:  # noqa: ASYNC110 - over a network
            await trio.sleep(0.01)

    assert out.status == 303
    assert answer.status == 401
    account = await thief.ask(f"{stack.proxy_url}/web/account")
    assert "/web/login" in account.header("location")


_PROGRAM = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}


async def test_web_15_who_signs_in_wrongly_afterwards_is_still_nobody(
    stack: Stack, browser: Browser
) -> None:
    await browser.submit(f"{stack.proxy_url}/web/logout", {})
    url = f"{stack.proxy_url}/web/login"

    failed = await browser.submit(url, {"username": "alice", "password": "wrong"})

    assert failed.status == 403
    account = await browser.ask(f"{stack.proxy_url}/web/account")
    assert "/web/login" in account.header("location")


@pytest.mark.parametrize("path", ["/.tport/auth", "/.tport/open", "/.tport/session", "/.tport/x"])
async def test_web_16_no_application_answers_a_path_of_ours_whatever_its_scripts_ask(
    stack: Stack, browser: Browser, path: str
) -> None:
    """As a service worker that it registered for its whole host would; it gets no cookie of ours."""
    await browser.go(stack.url("echo"))
    before = dict(browser.jar[stack.host("echo")])
    stack.echo.seen.clear()
    worker = {
        "Service-Worker": "script",
        "Sec-Fetch-Mode": "same-origin",
        "Sec-Fetch-Dest": "serviceworker",
        "Sec-Fetch-Site": "same-origin",
    }

    answers: list[Answer] = [
        await browser.ask(stack.url("echo", path), worker),
        await browser.ask(stack.url("echo", path), JSON | _PROGRAM),
        await browser.ask(stack.url("echo", f"{path}?code=a&state=b"), JSON | _PROGRAM),
    ]

    assert stack.echo.seen == []
    for answer in answers:
        assert "javascript" not in answer.header("content-type")
        assert not any(stack.app_cookie in line for line in answer.all("set-cookie"))
    assert browser.jar[stack.host("echo")][stack.app_cookie] == before[stack.app_cookie]
