"""Where a session begins and ends."""

from collections.abc import MutableMapping
from datetime import timedelta

import pytest
import trio

from tests.engine.web.browser import APPS, PASSWORD, WEB_COOKIE, Browser, hidden_fields
from tests.fakes import FakeAuth
from tport.engine.errors import ConnectionProblem, LimitExceeded, Unavailable

INVITE = "/web/invite/invite-token-of-bob-0001"
LONG = "a passphrase of bob"


async def test_signing_in_leads_back_to_the_exact_place(browser: Browser) -> None:
    response = await browser.get(f"{APPS}?q=a%20b")
    assert response.status_code == 302
    login = response.headers["location"]

    response = await browser.submit(login, {"username": "alice", "password": PASSWORD})

    assert response.status_code == 303
    assert response.headers["location"] == f"{APPS}?q=a%20b"
    assert (await browser.get(APPS)).status_code == 200


async def test_the_session_cookie_is_bound_to_this_host_and_unreadable(browser: Browser) -> None:
    response = await browser.sign_in()

    cookies = response.headers.get_list("set-cookie")
    assert cookies == [
        f"{WEB_COOKIE}=secret-alice-0; Max-Age=43200; Path=/; Secure; HttpOnly; SameSite=Lax"
    ]


async def test_a_session_that_is_over_leads_to_sign_in(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()
    auth.clock.now += timedelta(hours=12)

    response = await browser.get("/")

    assert response.headers["location"] == "/web/login"


async def test_who_is_signed_in_already_goes_straight_on(browser: Browser) -> None:
    await browser.sign_in()

    response = await browser.get(f"/web/login?next={APPS}")

    assert (response.status_code, response.headers["location"]) == (302, APPS)


async def test_a_wrong_password_and_an_unknown_name_look_the_same(browser: Browser) -> None:
    """AUTH-04: one status, one message, the same page but for the name that was typed."""
    pages = {
        name: await browser.submit("/web/login", {"username": name, "password": "wrong"})
        for name in ("alice", "nobody", "no name at all!")
    }

    assert {page.status_code for page in pages.values()} == {403}
    assert len({page.text.replace(f'"{name}"', "NAME") for name, page in pages.items()}) == 1
    assert "Wrong user name or password." in pages["alice"].text
    assert (
        "Forgotten? Whoever administers this cluster makes you a new link." in pages["alice"].text
    )


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"username": "", "password": "x"}, "Enter your user name."),
        ({"username": " ", "password": "x"}, "Enter your user name."),
        ({"username": "alice", "password": ""}, "Enter your password."),
    ],
)
async def test_an_empty_field_is_named_and_auth_is_not_asked(
    browser: Browser, auth: FakeAuth, fields: dict[str, str], fault: str
) -> None:
    response = await browser.submit("/web/login", fields)

    assert response.status_code == 400
    assert fault in response.text
    assert 'aria-invalid="true"' in response.text
    assert auth.calls == []


async def test_forms_in_two_tabs_do_not_spoil_each_other(browser: Browser) -> None:
    first = hidden_fields((await browser.get("/web/login")).text)
    await browser.get("/web/login")

    response = await browser.post(
        "/web/login", {**first, "username": "alice", "password": PASSWORD}
    )

    assert response.status_code == 303


async def test_a_browser_that_keeps_no_cookies_is_told_so(browser: Browser) -> None:
    form = hidden_fields((await browser.get("/web/login")).text)
    browser.http.cookies.clear()

    response = await browser.post("/web/login", {**form, "username": "alice", "password": PASSWORD})

    assert response.status_code == 403
    assert "Allow cookies" in response.text


async def test_too_many_tries_say_how_long_to_wait(browser: Browser, auth: FakeAuth) -> None:
    form = hidden_fields((await browser.get("/web/login")).text)
    auth.failure = LimitExceeded("too many", retry_after=12.3)

    response = await browser.post("/web/login", {**form, "username": "alice", "password": "x"})

    assert (response.status_code, response.headers["retry-after"]) == (429, "13")
    assert "Wait 13 seconds" in response.text


@pytest.mark.parametrize("failure", [Unavailable("storage"), ConnectionProblem("refused")])
async def test_without_auth_signing_in_is_503_with_a_page(
    browser: Browser, auth: FakeAuth, failure: Exception
) -> None:
    form = hidden_fields((await browser.get("/web/login")).text)
    auth.failure = failure

    response = await browser.post("/web/login", {**form, "username": "alice", "password": "x"})

    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert "Signing in is not possible right now" in response.text


async def test_a_form_of_megabytes_is_refused_before_it_was_read(
    browser: Browser, auth: FakeAuth
) -> None:
    taken, statuses = 0, []

    async def receive() -> dict[str, object]:
        nonlocal taken
        await trio.lowlevel.checkpoint()
        taken += 1
        return {"type": "http.request", "body": b"x" * 4096, "more_body": True}

    async def send(message: MutableMapping[str, object]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/x-www-form-urlencoded")]
    scope = {"type": "http", "method": "POST", "path": "/web/login", "headers": headers}
    await browser.app({**scope, "query_string": b""}, receive, send)

    assert statuses == [413]
    assert taken == 5  # 16 KiB and the chunk that was too much
    assert auth.calls == []


async def test_an_invite_sets_the_password_and_signs_in(browser: Browser, auth: FakeAuth) -> None:
    page = await browser.get(INVITE)
    assert "Welcome, bob" in page.text
    assert "At least 15 characters" in page.text

    response = await browser.submit(INVITE, {"password": LONG, "confirm": LONG})

    assert (response.status_code, response.headers["location"]) == (303, APPS)
    assert auth.passwords["bob"] == LONG
    assert (await browser.get(APPS)).status_code == 200


@pytest.mark.parametrize(
    ("password", "confirm", "fault"),
    [
        ("", "", "Choose a password."),
        (LONG, LONG + "x", "The two passwords differ."),
        ("short", "short", "The password needs at least 15 characters."),
    ],
)
async def test_a_password_that_will_not_do_says_why_and_the_invite_lives_on(
    browser: Browser, auth: FakeAuth, password: str, confirm: str, fault: str
) -> None:
    response = await browser.submit(INVITE, {"password": password, "confirm": confirm})

    assert response.status_code == 400
    assert fault in response.text
    assert "invite-token-of-bob-0001" in auth.invites


async def test_a_used_invite_says_so_and_what_to_do(browser: Browser) -> None:
    form = hidden_fields((await browser.get(INVITE)).text)
    fields = {**form, "password": LONG, "confirm": LONG}
    await browser.post(INVITE, fields)

    for response in (await browser.get(INVITE), await browser.post(INVITE, fields)):
        assert response.status_code == 404
        assert "does not work any more" in response.text
        assert "ask your administrator for a new link" in response.text.replace("\n", " ")


async def test_asking_to_sign_out_does_not(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()

    response = await browser.get("/web/logout")

    assert "Sign out?" in response.text
    assert "sign_out" not in auth.calls


async def test_signing_out_ends_the_session_and_says_so(browser: Browser, auth: FakeAuth) -> None:
    await browser.sign_in()

    response = await browser.submit("/web/logout", {})

    assert auth.sessions == {}
    assert response.headers["set-cookie"].startswith(f"{WEB_COOKIE}=; Max-Age=0;")
    assert "You are signed out" in (await browser.get(response.headers["location"])).text


async def test_the_button_on_the_applications_page_signs_out(
    browser: Browser, auth: FakeAuth
) -> None:
    await browser.sign_in()
    form = hidden_fields((await browser.get(APPS)).text)

    await browser.post("/web/logout", form)

    assert auth.sessions == {}


async def test_signing_out_twice_is_fine(browser: Browser) -> None:
    response = await browser.post("/web/logout", {})

    assert (response.status_code, response.headers["location"]) == (303, "/web/login?signed-out")
