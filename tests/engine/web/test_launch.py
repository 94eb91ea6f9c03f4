"""From an application's sealed state back to that application."""

import hashlib
import re
from datetime import timedelta

import pytest

from tests.engine.web.browser import Browser
from tests.fakes import FakeAuth
from tport.engine.api.catalogue import OwnApp

GOOD = "https://grafana.proxy.test:3080/.tport/auth?code=code-1&state=s1"


async def test_a_navigation_is_sent_to_the_application_with_a_code(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()

    response = await browser.get("/web/launch?state=good", sec_fetch_site="same-site")

    assert (response.status_code, response.headers["location"]) == (302, GOOD)
    [session] = auth.sessions
    digest = hashlib.sha256(b"s1").hexdigest()
    assert auth.launched == [(session, "grafana.proxy.test", digest)]


async def test_after_the_sign_in_form_the_way_on_is_a_page_not_a_redirect(browser: Browser) -> None:
    """`form-action 'self'` binds redirects after a form: a 302 to the application would fail."""
    response = await browser.get("/web/launch?state=good")
    assert response.status_code == 302
    signed_in = await browser.submit(
        response.headers["location"],
        {"username": "alice", "password": browser.auth.passwords["alice"]},
    )
    assert signed_in.headers["location"].startswith("/web/launch?state=good")

    response = await browser.get(signed_in.headers["location"])

    escaped = GOOD.replace("&", "&amp;")
    assert response.status_code == 200
    assert f'<meta http-equiv="refresh" content="0; url={escaped}">' in response.text
    assert f'<a class="button" href="{escaped}">' in response.text


async def test_one_that_no_agent_offers_now_is_told_with_since_when_and_what_to_look_for(
    browser: Browser, auth: FakeAuth, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await browser.sign_in()
    auth.away = {"grafana.proxy.test"}
    since = auth.clock() - timedelta(hours=1)
    auth.apps = (
        OwnApp(name="wiki", address="wiki.proxy.test:3080", up=False, since=auth.clock()),
        OwnApp(name="grafana", address="grafana.proxy.test:3080", up=False, since=since),
    )

    page = await browser.get("/web/launch?state=good")

    assert page.status_code == 503
    assert page.headers["retry-after"] == "5"
    assert "grafana cannot be reached" in page.text
    assert "no agent that offers it is connected" in page.text
    assert '<time datetime="2026-01-01T11:00:00Z">' in page.text
    [request_id] = re.findall(r"<code>([0-9a-f]{16})</code>", page.text)
    assert f"no agent that offers it is connected (request {request_id})" in caplog.text


async def test_an_app_without_access_and_one_that_is_not_there_look_the_same(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()

    response = await browser.get("/web/launch?state=other")

    assert response.status_code == 403
    assert "signed in as <b>alice</b>" in response.text
    assert "ask for access" in response.text
    assert 'href="/web/logout"' in response.text
    assert "whatever it was" not in response.text  # the reason is for the audit log


@pytest.mark.parametrize(
    ("state", "opened", "ahead", "says"),
    [
        ("good", 0, 0, "Most often the browser does not keep"),
        ("good", 2, 0, "The session was made, but its cookie did not come back"),
        ("good", 2, 90, "differ by 90 s"),
        ("over", 2, 0, "The cookie came back, but its session was over at once"),
        ("over", 2, 90, "The clocks of the proxy and the auth service differ"),
        ("cookieless", 0, 0, "The cookie that marks this attempt did not come back"),
        ("refused", 0, 0, "The one-time code was refused"),
    ],
)
async def test_the_third_round_says_what_keeps_failing(
    browser: Browser, auth: FakeAuth, state: str, opened: int, ahead: int, says: str
) -> None:
    """With the evidence: which cookie came back, for which host, by which clocks, to which agent."""
    await browser.sign_in()
    auth.opened, auth.ahead = opened, timedelta(seconds=ahead)
    for _ in range(2):
        assert (await browser.get("/web/launch?state=good")).status_code == 302

    response = await browser.get(f"/web/launch?state={state}")

    assert response.status_code == 400
    assert "keeps sending you back" in response.text
    assert says in response.text
    if state == "good":
        assert 'href="https://grafana.proxy.test:3080/d/1?a=%20b"' in response.text
    for name in ("Cookie", "Sessions", "Host", "Clocks", "Agent"):
        assert f"<dt>{name}</dt>" in response.text


async def test_a_state_that_became_too_old_begins_again_at_the_application(
    browser: Browser,
) -> None:
    """Signing in took longer than the state lives: no dead end, the place is kept."""
    await browser.sign_in()

    response = await browser.get("/web/launch?state=late")

    assert response.headers["location"] == "https://grafana.proxy.test:3080/d/1?a=%20b"


@pytest.mark.parametrize("query", ["", "?state=", "?state=forged", "?other=1"])
async def test_what_is_not_sealed_by_us_opens_nothing(
    browser: Browser, auth: FakeAuth, query: str
) -> None:
    await browser.sign_in()

    response = await browser.get(f"/web/launch{query}")

    assert response.status_code == 400
    assert "launch" not in auth.calls


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
        {"sec_fetch_mode": "cors", "sec_fetch_dest": "empty"},
        {"sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
    ],
)
async def test_nothing_but_a_navigation_makes_a_code(
    browser: Browser, auth: FakeAuth, headers: dict[str, str]
) -> None:
    """Another site could else drive somebody into the loop page with three images."""
    await browser.sign_in()

    response = await browser.get("/web/launch?state=good", **headers)

    assert response.status_code == 400
    assert "launch" not in auth.calls


async def test_a_head_request_makes_no_code(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()

    await browser.http.head("/web/launch?state=good")

    assert "launch" not in auth.calls
