"""The visitor goes through the public pages as a browser does, and says what stops them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.certs import Cluster
from tests.stack import PASSWORD, Stack, open_stack
from tport.engine.errors import ConnectionProblem, NotSignedIn, TportError
from tport.engine.pki.contexts import https_context
from tport.engine.selftest.line import Way
from tport.engine.selftest.probes import ask_once
from tport.engine.selftest.visitor import Page, Visitor
from tport.engine.types.app import App


@pytest.fixture
async def stack() -> AsyncIterator[Stack]:
    needy = App(name="needy", uri="http://127.0.0.1:1", required_apps=("echo", "dumper"))
    strict = App(name="strict", uri="http://127.0.0.1:1", cookie_same_site="strict")
    async with open_stack(apps=(needy, strict), drain=False) as stack:
        yield stack


async def invite(stack: Stack) -> str:
    made = await stack.admin.create_user(name="bob", roles=("access",), traits={})
    return made.url


async def signed_up(stack: Stack) -> Visitor:
    visitor = Visitor(stack.context())
    await visitor.sign_up(await invite(stack), PASSWORD)
    return visitor


async def status(way: Way) -> int:
    return (await ask_once(way, b"/")).status


@pytest.mark.parametrize("app", ["echo", "needy", "strict"])
async def test_an_application_is_opened_by_forms_and_redirects_alone(
    stack: Stack, app: str
) -> None:
    """Also one that needs others, and one whose page sends the browser on; none of them is asked."""
    visitor = await signed_up(stack)
    assert await status(visitor.way(stack.url("echo"))) == 401

    await visitor.enter(stack.url(app))

    assert stack.echo.seen == []
    assert await status(visitor.way(stack.url(app))) == (200 if app == "echo" else 502)


async def test_a_visitor_who_did_not_sign_up_opens_nothing(stack: Stack) -> None:
    visitor = Visitor(stack.context())

    with pytest.raises(NotSignedIn, match="Sign in"):
        await visitor.enter(stack.url("echo"))

    assert stack.echo.seen == []


async def test_a_proxy_whose_certificate_does_not_verify_is_not_believed(stack: Stack) -> None:
    another = https_context(authorities=Cluster().web.trusted)

    with pytest.raises(ConnectionProblem, match="does not verify") as refused:
        await Visitor(another).sign_up(await invite(stack), PASSWORD)

    assert "browsers here will warn" in refused.value.hint


async def test_an_invite_that_is_gone_is_told_in_the_page_s_words(stack: Stack) -> None:
    visitor = Visitor(stack.context())

    with pytest.raises(NotSignedIn, match="does not work any more"):
        await visitor.sign_up(f"{stack.proxy_url}/web/invite/inv_{'x' * 32}", PASSWORD)


async def test_a_password_that_is_refused_is_told(stack: Stack) -> None:
    with pytest.raises(NotSignedIn, match="signing up failed"):
        await Visitor(stack.context()).sign_up(await invite(stack), "short")


async def test_what_is_not_there_is_told(stack: Stack) -> None:
    visitor = Visitor(stack.context())

    assert "keys" in await visitor.get_json(f"{stack.proxy_url}/.well-known/jwks.json")
    with pytest.raises(TportError, match="There is no such page"):
        await visitor.get_json(f"{stack.proxy_url}/nothing/here")
    with pytest.raises(TportError, match="not as it was written"):
        await visitor.get_json(f"{stack.proxy_url}/web/login")


@pytest.mark.parametrize(
    "url",
    [
        "http://proxy.test/",
        "https://proxy.test/a b",
        "https://proxy.test/ä",
        "https://präxy.test/",
        "https://proxy.test:99999/",
        "https://proxy.test:x/",
        "https://user@proxy.test/",
        "https:///",
        "https://[::1/",
        "",
    ],
)
async def test_where_nobody_should_go_the_visitor_does_not(url: str) -> None:
    with pytest.raises(ConnectionProblem, match="no https address"):
        await Visitor(https_context(authorities=Cluster().web.trusted)).get_json(url)


@given(st.text(), st.sampled_from(["location", "refresh", "body"]))
def test_wherever_a_page_sends_its_visitor_that_is_an_address_or_nowhere(
    target: str, place: str
) -> None:
    value = target.encode("utf-8", "surrogatepass")
    headers = {
        "location": [(b"location", value)],
        "refresh": [(b"refresh", b"0; url=" + value)],
        "body": [],
    }[place]
    body = b'<meta http-equiv="refresh" content="0; url=' + value + b'">'
    status = 302 if place == "location" else 200
    page = Page(url="https://proxy.test/x?y", status=status, headers=headers, body=body)

    assert isinstance(page.onward(), str)
