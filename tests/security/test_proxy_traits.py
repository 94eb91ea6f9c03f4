"""AZ-10 and WEB-17 through a whole cluster: what a trait may do in a header, and whose cookies cross sites."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.browser import FORM, Browser
from tests.stack import Stack, open_stack
from tport.engine.errors import TportError
from tport.engine.types.app import App, Header, Rewrite

REWRITE = Rewrite(headers=(Header(name="X-Env", value="a{{external.env}}"),))


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    embedded = App(name="embedded", uri="http://127.0.0.1:1", cookie_same_site="none")
    async with open_stack(rewrite=REWRITE, apps=(embedded,), drain=False) as opened:
        yield opened


@pytest.mark.parametrize(
    "value", ["{{internal.jwt}}", "{{external.env}}", "{0.__class__}", "%s%n", "$(id)", "a: b"]
)
async def test_az_10_a_trait_that_looks_like_a_template_is_text(stack: Stack, value: str) -> None:
    bob = await stack.user("bob", traits={"env": (value,)})

    assert (await bob.get("echo", **{"X-Env": "the client's"})).status == 200

    [seen] = stack.echo.seen
    assert seen.values(b"x-env") == [f"a{value}".encode()]


@pytest.mark.parametrize(
    "value", ["x\r\nTeleport-Jwt-Assertion: y", "x\ny: z", "x\0", "x\x1b[31m", "é", "y" * 9000]
)
async def test_az_10_what_no_header_may_hold_is_in_none_and_the_request_is_whole(
    stack: Stack, value: str
) -> None:
    """Either no such trait is stored, or the header is left out, the client's too, and that is told."""
    try:
        bob = await stack.user("bob", traits={"env": (value,)})
    except TportError:
        assert "bob" not in {each.user.name for each in await stack.admin.list_users()}
        return

    assert (await bob.get("echo", **{"X-Env": "the client's"})).status == 200

    [seen] = stack.echo.seen
    assert seen.values(b"x-env") == []
    [token] = seen.values(b"teleport-jwt-assertion")
    assert token.startswith(b"eyJ")
    await stack.event("header.rewrite.skipped", app_name="echo")


async def test_az_10_several_values_are_a_header_each(stack: Stack) -> None:
    bob = await stack.user("bob", traits={"env": ("one", "two")})

    await bob.get("echo")

    [seen] = stack.echo.seen
    assert sorted(seen.values(b"x-env")) == [b"aone", b"atwo"]


async def test_web_17_an_applications_session_crosses_sites_only_where_its_definition_says_so(
    stack: Stack,
) -> None:
    await stack.user("alice")
    browser = Browser(stack)
    await browser.sign_in("alice")

    for app, expected in (("echo", "SameSite=Lax"), ("embedded", "SameSite=None")):
        launch = await browser.ask(stack.url(app))
        code = await browser.ask(launch.header("location"))
        entered = await browser.ask(code.header("location"))
        [line] = [one for one in entered.all("set-cookie") if stack.app_cookie in one]
        assert expected in line
        assert "Secure" in line


async def test_web_17_a_form_of_another_site_arrives_without_a_session_and_changes_nothing(
    stack: Stack,
) -> None:
    """As browsers send it by `Lax`: no cookie. It is told to sign in, and not sent after that."""
    headers = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
        "Origin": "https://evil.test",
        "Content-Type": FORM,
        "Accept": "text/html",
    }

    answer = await stack.request(
        stack.host("echo"), "/transfer", headers, method="POST", body=b"amount=1"
    )

    assert answer.status == 401
    assert answer.header("location") == ""
    assert stack.echo.seen == []
