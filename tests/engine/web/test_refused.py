"""Who may not open an application asks for it on the spot, and is brought there once they may."""

from __future__ import annotations

import re
from datetime import timedelta

from msgspec.structs import replace

from tests.engine.web.browser import Browser
from tests.fakes import START, FakeAuth
from tport.engine.types.explanation import Explanation
from tport.engine.types.request import MAX_REASON, AccessRequest

HERE = "/web/launch?state=other"
ASKED = AccessRequest(
    id="r1", user="alice", user_id="id-alice", host="secret.proxy.test", reason="x", created=START
)


async def ask(browser: Browser, reason: str = "the outage", **headers: str) -> int:
    """Fill the form on the refused page in; return the answer's status."""
    page = (await browser.get(HERE)).text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))
    response = await browser.post("/web/request", {**hidden, "reason": reason}, **headers)
    return response.status_code


async def test_a_request_is_made_from_the_page_that_refuses(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()

    assert await ask(browser) == 303

    [asked] = auth.requests
    assert (asked.user, asked.host, asked.reason) == ("alice", "secret.proxy.test", "the outage")


async def test_the_page_waits_and_opens_the_application_by_itself(
    browser: Browser, auth: FakeAuth
) -> None:
    """By script, or loaded anew without; the launcher does the rest."""
    await browser.sign_in()
    auth.requests.append(ASKED)

    page = await browser.get(HERE)

    assert page.status_code == 403
    refresh = '<meta http-equiv="refresh" content="5; url=/web/launch?state=other">'
    assert f"<noscript>{refresh}</noscript>" in page.text
    assert f'data-request="{ASKED.id}" data-here="/web/launch?state=other"' in page.text
    assert "You asked for access" in page.text
    assert "<form" not in page.text
    auth.hosts.add("secret.proxy.test")
    opened = await browser.get(HERE)
    assert opened.headers["location"].startswith("https://secret.proxy.test:3080/.tport/auth?")


async def test_an_answer_is_shown_and_one_may_ask_again(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    auth.requests.append(replace(ASKED, state="denied", by="olga", answer="use <staging>"))

    page = (await browser.get(HERE)).text

    assert "olga refused your request." in page
    assert "use &lt;staging&gt;" in page
    assert "refresh" not in page
    assert await ask(browser) == 303


async def test_what_was_approved_and_is_over_again_is_asked_for_anew(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()
    over = replace(ASKED, state="approved", role="access", until=START, by="erin")
    auth.requests.append(over)

    page = (await browser.get(HERE)).text
    assert "Ask for access</button>" in page
    assert "approved" not in page


async def test_who_was_given_a_role_that_does_not_open_it_is_told_so_and_whom_to_ask(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()
    until = START + timedelta(hours=1)
    given = replace(ASKED, state="approved", role="auditor", until=until, by="erin", answer="a <b>")
    auth.requests.append(given)

    page = (await browser.get(HERE)).text

    assert "<b>erin approved your request</b> with the role <b>auditor</b>" in page
    assert f'<time datetime="{until:%Y-%m-%dT%H:%M:%SZ}">' in page
    assert f"That does not open {ASKED.host}: tell erin, or ask anew." in page
    assert "They wrote: a &lt;b&gt;" in page
    assert "Ask for access</button>" in page
    assert "data-request" not in page  # nothing is waited for


async def test_the_rule_is_shown_to_who_may_know_it(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    assert "Why" not in (await browser.get(HERE)).text

    auth.explained = Explanation(
        user="alice",
        app="secret",
        allowed=False,
        decided="role 'no-prod' denies it",
        changes=("take the role 'no-prod' from alice",),
    )

    page = (await browser.get(HERE)).text
    assert "Role &#39;no-prod&#39; denies it." in page
    assert "Take the role &#39;no-prod&#39; from alice" in page


async def test_web_05_a_request_from_elsewhere_is_none(browser: Browser, auth: FakeAuth) -> None:
    """WEB-05: another site's form, a token of another form, no session."""
    assert await ask(browser) == 303  # to sign in
    await browser.sign_in()

    assert await ask(browser, sec_fetch_site="cross-site") == 403
    response = await browser.post("/web/request", {"state": "other", "token": "x", "reason": ""})
    assert response.status_code == 403
    response = await browser.post("/web/request", {"state": "forged", "reason": ""})
    assert response.status_code == 303
    assert auth.requests == []


async def test_what_was_typed_is_kept_when_it_is_too_long(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    page = (await browser.get(HERE)).text
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))

    response = await browser.post("/web/request", {**hidden, "reason": "x" * (MAX_REASON + 1)})

    assert response.status_code == 400
    assert "Not asked: that is longer than 500 characters." in response.text
    assert "x" * MAX_REASON in response.text
    assert auth.requests == []
