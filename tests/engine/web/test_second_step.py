"""From the invite or the password through the second factor to the page asked for, in a browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html import unescape
from urllib.parse import quote

import httpx2
import pytest
from trio.testing import MockClock

from tests.authenticator import Authenticator
from tests.engine.auth.world import CLUSTER, PASSWORD
from tests.engine.web.browser import ORIGIN, WEB_COOKIE, Visitor
from tests.engine.web.office import Office, open_office
from tport.engine.access.totp import PERIOD, parse_secret_text, time_step, totp_code
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import NotSignedIn
from tport.engine.types.factor import FactorPolicy, SecondFactor

SECOND = "/web/login/second"
STEP_COOKIE = WEB_COOKIE.replace("_web_", "_step_")
APPS = f"/web/cluster/{CLUSTER}/apps"
DEEP = "/web/launch?state=abc%2Fdef&x=%20y"


def settings(word: SecondFactor) -> AuthSettings:
    return AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=("proxy.test:3080",),
        second_factor=FactorPolicy.from_word(word),
    )


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with open_office(settings("on")) as opened:
        yield opened


def form_with(page: httpx2.Response, field: str) -> dict[str, str]:
    """Return the hidden fields of the form that has this field."""
    forms = re.findall(r"<form .*?</form>", page.text, re.S)
    [form] = [each for each in forms if f'name="{field}"' in each]
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)
    return {name: unescape(value) for name, value in found}


def options(page: httpx2.Response) -> str:
    [found] = re.findall(r'data-options="([^"]*)"', page.text)
    return unescape(found)


async def land(browser: Visitor, answer: httpx2.Response) -> httpx2.Response:
    assert answer.status_code == 303, answer.text
    return await browser.get(answer.headers["location"])


async def send(browser: Visitor, page: httpx2.Response, field: str, value: str) -> httpx2.Response:
    return await browser.post(SECOND, {**form_with(page, field), field: value})


class Phone:
    """An authenticator app that was shown a page's key."""

    def __init__(self, office: Office, page: httpx2.Response) -> None:
        [key] = re.findall(r'id="totp-secret">([^<]+)<', page.text)
        self._secret = parse_secret_text(key)
        self._clock = office.world.clock

    def code(self) -> str:
        return totp_code(self._secret, time_step(self._clock()))


async def invited(office: Office, browser: Visitor) -> httpx2.Response:
    """Choose a password; return the page that follows."""
    made = await office.world.admin.create_user(name="alice", roles=("access",), traits={})
    path = "/web/invite/" + made.url.rpartition("/")[2]
    chosen = {"password": PASSWORD, "confirm": PASSWORD}
    return await land(browser, await browser.submit(path, chosen))


async def with_app(office: Office, browser: Visitor) -> Phone:
    page = await invited(office, browser)
    phone = Phone(office, page)
    await send(browser, page, "totp", phone.code())
    office.world.pass_time(seconds=PERIOD)
    return phone


async def give_password(browser: Visitor, next_: str = "/") -> httpx2.Response:
    fields = {"username": "alice", "password": PASSWORD}
    page = await browser.get(f"/web/login?next={quote(next_, safe='')}")
    return await land(
        browser, await browser.post("/web/login", {**form_with(page, "username"), **fields})
    )


async def test_an_invite_leads_through_an_authenticator_app_and_recovery_codes_to_the_apps(
    office: Office,
) -> None:
    browser = await office.anybody()
    page = await invited(office, browser)
    assert "Protect your account" in page.text
    assert "<svg" in page.text
    assert "Not now" not in page.text
    assert WEB_COOKIE not in browser.http.cookies

    codes = await send(browser, page, "totp", Phone(office, page).code())
    assert codes.status_code == 200
    assert len(re.findall(r"<li><code>([a-z2-7-]{19})</code></li>", codes.text)) == 10
    assert f'href="{APPS}"' in codes.text
    assert (await browser.get(APPS)).status_code == 200


async def test_the_qr_code_and_the_key_are_drawn_without_script_or_style(office: Office) -> None:
    page = await invited(office, await office.anybody())
    assert " style=" not in page.text
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"


async def test_a_sign_in_with_a_code_leads_back_to_the_exact_place(office: Office) -> None:
    """A launcher's sealed state among them; and the launcher learns that a form came before."""
    phone = await with_app(office, await office.anybody())
    browser = await office.anybody()
    page = await give_password(browser, DEEP)
    assert "One more step" in page.text
    answer = await send(browser, page, "totp", phone.code())
    assert answer.headers["location"] == f"{DEEP}&form=1"
    assert WEB_COOKIE in browser.http.cookies


async def test_no_secret_of_the_way_is_in_an_address(office: Office) -> None:
    phone = await with_app(office, await office.anybody())
    browser = await office.anybody()
    page = await give_password(browser)
    attempt = form_with(page, "totp")["attempt"]
    assert attempt not in str(page.url)
    assert str(page.url) == f"{ORIGIN}{SECOND}?next=%2F"
    answer = await send(browser, page, "totp", phone.code())
    assert answer.headers["location"] == "/"


async def test_a_wrong_code_says_so_and_the_right_one_still_works(office: Office) -> None:
    phone = await with_app(office, await office.anybody())
    browser = await office.anybody()
    page = await give_password(browser)
    again = await send(browser, page, "totp", "000 000" if phone.code() != "000000" else "111111")
    assert again.status_code == 403
    assert "That was wrong, was used already, or has expired." in again.text
    assert (await send(browser, again, "totp", phone.code())).status_code == 303


async def test_an_empty_form_says_what_is_missing(office: Office) -> None:
    await with_app(office, await office.anybody())
    browser = await office.anybody()
    again = await send(browser, await give_password(browser), "totp", "  ")
    assert again.status_code == 400
    assert "Enter a code, or use a passkey." in again.text


async def test_a_passkey_is_set_up_and_signs_in_with_a_password_and_without(
    office: Office,
) -> None:
    passkey = Authenticator(ORIGIN, "proxy.test")
    browser = await office.anybody()
    page = await invited(office, browser)
    codes = await send(browser, page, "webauthn", passkey.create(options(page)))
    assert "Keep these recovery codes" in codes.text

    browser = await office.anybody()
    page = await give_password(browser, DEEP)
    answer = await send(browser, page, "webauthn", passkey.get(options(page)))
    assert answer.headers["location"] == f"{DEEP}&form=1"

    browser = await office.anybody()
    login = await browser.get(f"/web/login?next={quote(DEEP, safe='')}")
    forms = re.findall(r"<form .*?</form>", login.text, re.S)
    assert any('action="/web/login/passkey"' in form for form in forms)
    hidden = form_with(login, "username")
    page = await land(browser, await browser.post("/web/login/passkey", hidden))
    assert "Sign in with a passkey" in page.text
    answer = await send(browser, page, "webauthn", passkey.get(options(page)))
    assert answer.headers["location"] == f"{DEEP}&form=1"
    assert WEB_COOKIE in browser.http.cookies


async def test_a_recovery_code_stands_in_for_the_device(office: Office) -> None:
    browser = await office.anybody()
    page = await invited(office, browser)
    shown = await send(browser, page, "totp", Phone(office, page).code())
    code = re.findall(r"<li><code>([^<]+)</code>", shown.text)[0]
    browser = await office.anybody()
    answer = await send(browser, await give_password(browser), "recovery", code)
    assert answer.status_code == 303
    assert WEB_COOKIE in browser.http.cookies
    apps = (await browser.get(answer.headers["location"])).text
    assert '9 recovery codes are left; <a href="/web/account">add a device</a>' in apps
    assert "recovery codes are left" not in (await browser.get(APPS)).text


async def test_where_none_is_required_it_may_be_left_for_later() -> None:
    async with open_office(settings("optional")) as office:
        browser = await office.anybody()
        page = await invited(office, browser)
        answer = await send(browser, page, "skip", "yes")
        assert answer.headers["location"] == APPS
        assert WEB_COOKIE in browser.http.cookies


async def test_without_the_cookie_or_after_its_time_one_starts_again_and_keeps_the_place(
    office: Office,
) -> None:
    phone = await with_app(office, await office.anybody())
    stranger = await office.anybody()
    answer = await stranger.get(f"{SECOND}?next=%2Fa")
    assert answer.headers["location"] == "/web/login?again&next=%2Fa"
    assert "Please start again" in (await stranger.get(answer.headers["location"])).text

    browser = await office.anybody()
    page = await give_password(browser, "/a")
    office.world.pass_time(minutes=5)
    answer = await send(browser, page, "totp", phone.code())
    assert answer.headers["location"] == "/web/login?again&next=%2Fa"
    assert WEB_COOKIE not in browser.http.cookies


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "", "origin": "https://evil.proxy.test"},
    ],
)
async def test_web_05_a_form_of_a_sibling_changes_nothing_here_either(
    office: Office, headers: dict[str, str]
) -> None:
    phone = await with_app(office, await office.anybody())
    browser = await office.anybody()
    page = await give_password(browser)
    fields = {**form_with(page, "totp"), "totp": phone.code()}
    answer = await browser.post(SECOND, fields, **headers)
    assert answer.status_code == 403
    answer = await browser.post(SECOND, {**fields, "token": "0" * 64})
    assert answer.status_code == 403
    assert WEB_COOKIE not in browser.http.cookies
    answer = await browser.post("/web/login/passkey", fields, **headers)
    assert answer.headers["location"] == "/web/login?again&next=%2F"


async def test_too_many_tries_say_how_long_to_wait(
    office: Office, autojump_clock: MockClock
) -> None:
    await with_app(office, await office.anybody())
    browser = await office.anybody()
    page = await give_password(browser)
    answer = page
    for _ in range(60):
        answer = await send(browser, page, "recovery", "nothing")
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert "Too many tries" in answer.text


async def test_a_person_who_is_signed_in_is_sent_on(office: Office) -> None:
    browser = await office.anybody()
    await with_app(office, browser)
    assert (await browser.get(f"{SECOND}?next=%2Fa")).headers["location"] == "/a"


async def test_who_opens_an_invite_where_somebody_is_signed_in_becomes_the_invited_and_no_mixture(
    office: Office,
) -> None:
    """The first person's session is over then: nobody holds its cookie any more."""
    browser = await office.person("erin", "editor")
    erin = browser.http.cookies[WEB_COOKIE]
    page = await invited(office, browser)
    assert page.status_code == 200
    assert "erin" not in page.text
    done = await send(browser, page, "totp", Phone(office, page).code())

    assert "recovery code" in done.text.lower()
    [session] = await office.world.admin.list_sessions(user="", limit=10)
    assert (session.user, session.kind) == ("alice", "web")
    with pytest.raises(NotSignedIn):
        await office.world.proxy.acting_for(erin).own_rights()


async def test_a_cluster_without_passkeys_offers_none() -> None:
    async with open_office(settings("otp")) as office:
        browser = await office.anybody()
        login = await browser.get("/web/login")
        assert "passkey" not in login.text.lower()
        hidden = form_with(login, "username")
        answer = await browser.post("/web/login/passkey", hidden)
        assert answer.status_code == 403


# --- Somebody else who had the browser before ------------------------------------------------------


async def spy_on(office: Office, browser: Visitor) -> Visitor:
    """Return a browser of one who knows all cookies that this one has now."""
    spy = await office.anybody()
    spy.http.cookies.update(browser.http.cookies)
    return spy


async def test_auth_07_who_had_the_browser_before_an_invite_sets_up_no_device_of_their_own(
    office: Office,
) -> None:
    """AUTH-07. As at a shared machine: what a browser held before a sign-in is no part of it."""
    browser = await office.anybody()
    await browser.get("/web/login")
    spy = await spy_on(office, browser)

    page = await invited(office, browser)

    assert "Protect your account" in page.text
    answer = await spy.get(SECOND)
    assert answer.headers["location"].startswith("/web/login?again")


async def test_auth_10_who_had_the_browser_before_a_sign_in_takes_no_step_of_it(
    office: Office,
) -> None:
    """AUTH-10. Be it by a password or by a passkey, and again and again."""
    browser = await office.anybody()
    phone = await with_app(office, browser)
    browser.http.cookies.delete(WEB_COOKIE)
    form = form_with(await browser.get("/web/login"), "username")
    fields = {**form, "username": "alice", "password": PASSWORD}
    held = [await spy_on(office, browser)]
    for path in ("/web/login", "/web/login/passkey", "/web/login"):
        page = await land(browser, await browser.post(path, fields))
        [attempt] = set(re.findall(r'name="attempt" value="([^"]+)"', page.text))
        assert [spy for spy in held if attempt in (await spy.get(SECOND)).text] == []
        held.append(await spy_on(office, browser))

    page = await give_password(browser)
    await send(browser, page, "totp", phone.code())
    assert WEB_COOKIE in browser.http.cookies


async def test_forms_of_two_tabs_hold_beside_one_another(office: Office) -> None:
    """The form of the one is sent after the other has gone on; the later sign-in is the one that counts."""
    browser = await office.anybody()
    phone = await with_app(office, browser)
    browser.http.cookies.delete(WEB_COOKIE)
    first, second = [form_with(await browser.get("/web/login"), "username") for _ in range(2)]
    fields = {"username": "alice", "password": PASSWORD}

    early = await land(browser, await browser.post("/web/login", {**first, **fields}))
    late = await land(browser, await browser.post("/web/login", {**second, **fields}))

    stale = await send(browser, early, "totp", "000000")
    assert stale.status_code in (303, 403)
    assert WEB_COOKIE not in browser.http.cookies
    await send(browser, late, "totp", phone.code())
    assert WEB_COOKIE in browser.http.cookies


async def test_the_cookie_of_a_session_holds_no_step(office: Office) -> None:
    """What a session has begun is kept beside what browsers have, and is none of theirs."""
    browser = await office.anybody()
    await with_app(office, browser)
    await browser.get("/web/prove")
    stranger = await office.anybody()
    for name in (STEP_COOKIE, STEP_COOKIE.replace("_step_", "_pre_")):
        stranger.http.cookies.set(name, browser.http.cookies[WEB_COOKIE])

    assert (await stranger.get(SECOND)).headers["location"].startswith("/web/login?again")
