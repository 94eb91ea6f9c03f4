"""Leaving one application at its own address: what ends, and who may make it end."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.stack import Person, Stack, open_stack

LEAVE = "/teleport-logout"


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    async with open_stack(drain=False) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack) -> Person:
    person = await stack.user("alice")
    assert (await person.get("echo")).status == 200
    stack.echo.seen.clear()
    return person


async def test_who_leaves_is_told_and_the_cookie_opens_nothing_any_more(
    stack: Stack, alice: Person
) -> None:
    await alice.open("raw")

    left = await alice.get("echo", LEAVE)
    after = await alice.get("echo")

    assert left.status == 200
    assert f"{stack.app_cookie}=;" in left.header("set-cookie")
    assert "Max-Age=0" in left.header("set-cookie")
    assert after.status == 401
    assert stack.echo.seen == []
    ended = await stack.event("app.session.end", app_name="echo")
    assert ended["user"] == "alice"
    assert (await alice.get("raw")).status == 502  # open still; that application says nothing


async def test_a_session_begins_and_ends_once_in_the_audit_log(stack: Stack, alice: Person) -> None:
    """However many requests it had, and who it was, at which application."""
    for _ in range(3):
        await alice.get("echo")
    await alice.get("echo", LEAVE)
    await stack.event("app.session.end")

    [began], [ended] = (
        await stack.events("app.session.start"),
        await stack.events("app.session.end"),
    )

    assert (began["user"], began["app_name"]) == (ended["user"], ended["app_name"])
    assert (began["user"], began["app_name"]) == ("alice", "echo")
    assert began["public_addr"] == stack.host("echo")
    assert began["remote"] == "127.0.0.1"
    assert began["sid"] == ended["sid"] != ""


async def test_leaving_twice_or_without_a_session_is_no_error(stack: Stack, alice: Person) -> None:
    """The page says the same: nobody learns from it whether a session was there."""
    answers = [
        await alice.get("echo", LEAVE),
        await alice.get("echo", LEAVE),
        await stack.request(stack.host("echo"), LEAVE),
    ]

    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len({answer.body for answer in answers}) == 1
    assert len(await stack.events("app.session.end")) == 1


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize(("mode", "dest"), [("no-cors", "image"), ("navigate", "iframe")])
async def test_another_site_cannot_make_a_person_leave(
    stack: Stack, alice: Person, site: str, mode: str, dest: str
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}

    refused = await alice.get("echo", LEAVE, **headers)

    assert refused.status == 403
    assert (await alice.get("echo")).status == 200


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_leaving_never_reaches_the_application_whatever_the_method(
    stack: Stack, alice: Person, method: str
) -> None:
    cookie = {"Cookie": alice.cookie("echo")}

    answer = await stack.request(stack.host("echo"), LEAVE, cookie, method=method)

    assert answer.status == 200
    assert stack.echo.seen == []
