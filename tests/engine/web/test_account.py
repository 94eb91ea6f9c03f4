"""The page about oneself, and the proof that what changes access asks for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
import pytest
from trio.testing import MockClock

from tests.authenticator import Authenticator
from tests.engine.auth.world import PASSWORD
from tests.engine.web.browser import ORIGIN, Visitor
from tests.engine.web.office import Office, open_office
from tests.engine.web.test_second_step import (
    Phone,
    form_with,
    give_password,
    land,
    options,
    send,
    settings,
    with_app,
)
from tport.engine.access.totp import PERIOD

ACCOUNT = "/web/account"
ADD = f"{ACCOUNT}/devices/add"
CODES = f"{ACCOUNT}/recovery-codes"
NEW = "nine doors paint a walrus"


@pytest.fixture
async def office() -> AsyncIterator[Office]:
    async with open_office(settings("on")) as opened:
        yield opened


async def fill(
    browser: Visitor, page: httpx2.Response, field: str, fields: dict[str, str], path: str = ""
) -> httpx2.Response:
    """Send the form of `page` that has `field`, to the page's own path."""
    where = path or str(page.url).removeprefix(ORIGIN).partition("?")[0]
    return await browser.post(where, {**form_with(page, field), **fields})


async def prove(
    office: Office, browser: Visitor, answer: httpx2.Response, phone: Phone
) -> httpx2.Response:
    """Follow to the page that asks for a proof, show it, and follow where it leads."""
    assert answer.headers["location"].startswith("/web/prove?next=")
    page = await land(browser, answer)
    office.world.pass_time(seconds=PERIOD)
    return await land(browser, await fill(browser, page, "totp", {"totp": phone.code()}))


async def idle(office: Office) -> None:
    office.world.pass_time(minutes=6)


async def test_devices_are_shown_with_their_kind_and_a_second_one_is_added_by_name(
    office: Office,
) -> None:
    browser = await office.anybody()
    await with_app(office, browser)
    page = await browser.get(ACCOUNT)
    assert "Authenticator app" in page.text
    assert "10 codes are left" in page.text

    passkey = Authenticator(ORIGIN, "proxy.test")
    page = await browser.get(ADD)
    answer = passkey.create(options(page))
    page = await land(
        browser, await fill(browser, page, "webauthn", {"webauthn": answer, "name": "My laptop"})
    )
    assert "The device is added." in page.text
    assert "My laptop" in page.text

    stranger = await office.anybody()
    page = await give_password(stranger)
    done = await send(stranger, page, "webauthn", passkey.get(options(page)))
    assert done.status_code == 303


async def test_a_device_is_renamed_and_removed_but_never_the_last_one(office: Office) -> None:
    """AUTH-10"""
    browser = await office.anybody()
    await with_app(office, browser)
    page = await browser.get(ACCOUNT)
    [url] = re.findall(rf'href="({ACCOUNT}/device/[^"]+)"', page.text)

    page = await browser.get(url)
    hidden = re.findall(r'name="token" value="([^"]+)"', page.text)
    refused = await browser.post(f"{url}/remove", {"token": hidden[-1]})
    assert refused.status_code == 400
    assert "This is your last device" in refused.text
    assert "Add another one first" in refused.text

    page = await land(browser, await fill(browser, page, "name", {"name": "  Old   phone "}, url))
    assert "Old phone" in page.text

    page = await browser.get(ADD)
    second = Phone(office, page)
    await fill(browser, page, "totp", {"totp": second.code(), "name": "New phone"})
    twice = await browser.get(ADD)
    again = await fill(
        browser, twice, "totp", {"totp": Phone(office, twice).code(), "name": "new PHONE"}
    )
    assert again.status_code == 400
    assert "a device of that name already" in again.text

    page = await land(browser, await browser.post(f"{url}/remove", {"token": hidden[-1]}))
    assert "Old phone" not in page.text
    assert "The device is removed." in page.text


async def test_new_recovery_codes_are_shown_once_and_the_old_ones_count_no_more(
    office: Office,
) -> None:
    browser = await office.anybody()
    await with_app(office, browser)
    page = await browser.get(CODES)
    tokens = re.findall(r'action="/web/account/recovery-codes".*?value="([^"]+)"', page.text, re.S)
    first = await browser.post(CODES, {"token": tokens[0]})
    second = await browser.post(CODES, {"token": tokens[0]})
    old = re.findall(r"<li><code>([^<]+)</code>", first.text)
    new = re.findall(r"<li><code>([^<]+)</code>", second.text)
    assert len(old) == len(new) == 10
    assert not set(old) & set(new)

    stranger = await office.anybody()
    page = await give_password(stranger)
    refused = await send(stranger, page, "recovery", old[0])
    assert refused.status_code == 403
    assert (await send(stranger, refused, "recovery", new[0])).status_code == 303
    assert "9 codes are left" in (await browser.get(ACCOUNT)).text


async def test_a_new_password_needs_the_old_one_and_ends_every_other_session(
    office: Office, autojump_clock: MockClock
) -> None:
    """AUTH-06: and the second factor stays as it was (AUTH-07)."""
    browser, other = await office.anybody(), await office.anybody()
    phone = await with_app(office, browser)
    await send(other, await give_password(other), "totp", phone.code())
    assert (await other.get(ACCOUNT)).status_code == 200

    path = f"{ACCOUNT}/password"
    page = await browser.get(path)
    for wrong, said in (
        ({"current": "not it", "password": NEW, "confirm": NEW}, "not the password that you have"),
        ({"current": PASSWORD, "password": NEW, "confirm": "x"}, "differ"),
        ({"current": PASSWORD, "password": "short", "confirm": "short"}, "too short"),
        ({"current": "", "password": NEW, "confirm": NEW}, "Enter the password"),
    ):
        page = await fill(browser, page, "current", wrong, path)
        assert page.status_code == 400
        assert said in page.text
    right = {"current": PASSWORD, "password": NEW, "confirm": NEW}
    page = await land(browser, await fill(browser, page, "current", right, path))
    assert "Your password is changed." in page.text

    assert (await browser.get(ACCOUNT)).status_code == 200
    assert (await other.get(ACCOUNT)).headers["location"].startswith("/web/login")
    [info] = await office.world.admin.list_users()
    assert info.user.proofs == 2
    assert len(await office.world.backend.range("/factors/")) == 1


@pytest.mark.parametrize("path", [ADD, CODES, f"{ACCOUNT}/password"])
async def test_auth_12_after_five_minutes_a_page_that_changes_access_asks_for_a_proof_and_leads_back(
    office: Office, path: str
) -> None:
    browser = await office.anybody()
    phone = await with_app(office, browser)
    await idle(office)
    answer = await browser.get(path)
    assert answer.headers["location"] == f"/web/prove?next={quote(path, safe='')}"
    page = await prove(office, browser, answer, phone)
    assert str(page.url) == f"{ORIGIN}{path}"
    assert page.status_code == 200
    await idle(office)
    assert (await browser.get(path)).status_code == 303, "and it lasts five minutes"


async def test_auth_12_a_form_that_is_sent_too_late_keeps_what_was_typed(office: Office) -> None:
    """An editor fills in a user; the proof is shown in another tab."""
    browser = await office.anybody()
    phone = await with_app(office, browser)
    await office.world.admin.update_user(name="alice", roles=("access", "editor"), traits=None)
    page = await browser.get("/web/users/add")
    await idle(office)
    late = await fill(browser, page, "name", {"name": "newcomer", "role:access": "on"})
    assert late.status_code == 401
    assert 'value="newcomer"' in late.text
    [link] = re.findall(r'<a href="(/web/prove[^"]+)" target="_blank"', late.text)
    assert len(await office.world.admin.list_users()) == 1, "nothing was done"

    tab = await browser.get(link)
    office.world.pass_time(seconds=PERIOD)
    done = await land(browser, await fill(browser, tab, "totp", {"totp": phone.code()}))
    assert "Close this tab" in done.text
    made = await fill(browser, late, "name", {"name": "newcomer", "role:access": "on"})
    assert made.status_code == 200
    assert "newcomer is invited" in made.text


async def test_auth_12_who_has_no_device_proves_it_by_the_password(
    autojump_clock: MockClock,
) -> None:
    async with open_office(settings("off")) as office:
        await office.world.alice()
        browser = await office.anybody()
        await give_password(browser)
        assert "Devices" not in (await browser.get(ACCOUNT)).text
        await idle(office)
        page = await land(browser, await browser.get(f"{ACCOUNT}/password"))
        wrong = await fill(browser, page, "password", {"password": "not it"})
        assert wrong.status_code == 400
        assert "That was wrong" in wrong.text
        page = await land(browser, await fill(browser, wrong, "password", {"password": PASSWORD}))
        assert str(page.url) == f"{ORIGIN}{ACCOUNT}/password"


async def test_auth_12_a_proof_is_judged_and_counted_as_a_sign_in_is(office: Office) -> None:
    """AUTH-02: an open browser is no place to guess, either; and no password does for a device."""
    browser = await office.anybody()
    phone = await with_app(office, browser)
    await idle(office)
    page = await land(browser, await browser.get(ADD))
    assert 'name="password"' not in page.text
    for _ in range(5):
        page = await fill(browser, page, "totp", {"password": PASSWORD})
        assert page.status_code == 400
    page = await fill(browser, page, "totp", {"totp": phone.code()})
    assert page.status_code == 400
    assert "TPU02W" in office.world.audit.codes()
    assert (await browser.get(ADD)).status_code == 303


@pytest.mark.parametrize("next_", ["https://evil.test/", "//evil.test", "/\\evil", "/web\r\nx: y"])
async def test_web_09_a_proof_leads_to_no_other_site(office: Office, next_: str) -> None:
    browser = await office.anybody()
    phone = await with_app(office, browser)
    page = await browser.get(f"/web/prove?next={quote(next_, safe='')}")
    answer = await fill(browser, page, "totp", {"totp": phone.code()})
    assert answer.headers["location"] == "/"
