"""The page on which a machine is let in: by its code, with what it says of itself before one's eyes."""

from __future__ import annotations

import pytest

from tests.engine.web.browser import Browser, form_fields
from tests.fakes import START, FakeAuth
from tport.engine.api.catalogue import AppInfo
from tport.engine.types.app import App, AppServer
from tport.engine.types.approval import JoinRequest

PAGE = "/web/join"
RIGHTS = (("token", "create"),)
CODE = "3K7M-QZ0A-9XWB"
ASKED = JoinRequest(
    id="secret-word",
    key_id="ab" * 32,
    csr="csr",
    code=CODE,
    hostname="<box7>",
    app="grafana",
    uri="http://localhost:3000",
    title="Grafana & friends",
    remote="192.0.2.7",
    created=START,
    host_id="h1",
)


async def test_what_asks_is_shown_before_it_is_let_in(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    auth.join, auth.rights = ASKED, RIGHTS

    page = await browser.submit(PAGE, {"code": CODE.lower()})

    assert page.status_code == 200
    for text in (
        "&lt;box7&gt;",
        "192.0.2.7",
        "http://localhost:3000",
        "Grafana &amp; friends",
        CODE,
    ):
        assert text in page.text
    assert "secret-word" not in page.text
    assert auth.calls == ["sign_in"]
    done = await browser.post(PAGE, {**form_fields(page.text, PAGE), "decision": "approve"})
    assert "It may join" in done.text
    assert auth.calls == ["sign_in", "approve"]


async def test_the_word_that_the_machine_may_ask_for_is_shown_once_it_was_let_in(
    browser: Browser, auth: FakeAuth
) -> None:
    """And again to who types the code once more: a page is closed soon."""
    await browser.sign_in()
    auth.join, auth.rights = ASKED, RIGHTS
    said = "If the machine asks for a word, it is: <b>K7Q4XM</b>"

    page = await browser.submit(PAGE, {"code": CODE})
    assert "word" not in page.text
    done = await browser.post(PAGE, {**form_fields(page.text, PAGE), "decision": "approve"})
    again = await browser.submit(PAGE, {"code": CODE})

    assert f"{said}. Type it there; then its agent is connected." in done.text
    assert "within seconds" not in done.text
    assert said in again.text
    assert "It was approved by alice" in again.text


@pytest.mark.parametrize("decision", ["approve", "deny"])
async def test_of_a_word_that_auth_does_not_tell_nothing_is_said(
    browser: Browser, auth: FakeAuth, decision: str
) -> None:
    """It is of the version before; or refused the machine."""
    await browser.sign_in()
    auth.join, auth.rights = ASKED, RIGHTS
    auth.join_word = "" if decision == "approve" else auth.join_word

    page = await browser.submit(PAGE, {"code": CODE})
    done = await browser.post(PAGE, {**form_fields(page.text, PAGE), "decision": decision})

    assert "a word" not in done.text
    assert ("Its agent is connected within seconds." in done.text) is (decision == "approve")


@pytest.mark.parametrize(
    ("uri", "rights", "is_told"),
    [
        ("http://localhost:9", (*RIGHTS, ("app_server", "list")), True),
        (ASKED.uri, (*RIGHTS, ("app_server", "list")), False),  # one more agent for the same
        ("http://localhost:9", RIGHTS, False),
    ],
)
async def test_who_would_let_in_what_will_be_refused_is_told_before(
    browser: Browser, auth: FakeAuth, uri: str, rights: tuple[tuple[str, str], ...], is_told: bool
) -> None:
    await browser.sign_in()
    auth.join, auth.rights = ASKED, rights
    offer = AppServer(host_id="h0", app=App(name="grafana", uri=uri), labels={})
    auth.infos = (
        AppInfo(name="grafana", address="grafana.test", up=True, since=None, servers=(offer,)),
    )

    page = await browser.submit(PAGE, {"code": CODE})

    assert ("is offered already, at <code>http://localhost:9</code>" in page.text) is is_told


async def test_a_wrong_code_is_said_to_be_one_and_kept(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    auth.rights = RIGHTS

    page = await browser.submit(PAGE, {"code": "0000-0000-0000"})

    assert page.status_code == 404
    assert "No machine that shows this code has asked." in page.text
    assert "Compare it." in page.text
    assert 'value="0000-0000-0000"' in page.text


@pytest.mark.parametrize(
    ("fields", "headers"),
    [
        ({"token": "x", "code": CODE, "decision": "approve"}, {}),
        ({"code": CODE, "decision": "approve"}, {"sec_fetch_site": "cross-site"}),
        ({"code": CODE, "decision": "approve"}, {"sec_fetch_site": "same-site"}),
    ],
)
async def test_web_05_no_other_site_lets_a_machine_in(
    browser: Browser, auth: FakeAuth, fields: dict[str, str], headers: dict[str, str]
) -> None:
    """WEB-05: not by another site's form, nor by an application's, nor with a token of another form."""
    await browser.sign_in()
    auth.join, auth.rights = ASKED, RIGHTS
    hidden = form_fields((await browser.get(PAGE)).text, PAGE)

    response = await browser.post(PAGE, {**hidden, **fields}, **headers)

    assert response.status_code == 403
    assert auth.calls == ["sign_in"]


async def test_who_is_not_signed_in_comes_back_here(browser: Browser) -> None:
    assert (await browser.get(PAGE)).headers["location"] == "/web/login?next=%2Fweb%2Fjoin"
    assert (await browser.post(PAGE, {"code": CODE})).status_code == 302
