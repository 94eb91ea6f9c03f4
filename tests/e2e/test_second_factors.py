"""Second factors in Chromium, with its virtual authenticator: a real certificate, a real origin."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect

from tests.e2e.browser import Watch, open_browser, open_context, see, sign_in, trust
from tests.e2e.harness import PASSWORD, Cluster, start_cluster
from tport.engine.access.totp import PERIOD, parse_secret_text, totp_code

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster as it is unless its file says otherwise: a second factor is required."""
    with start_cluster(tmp_path_factory.mktemp("strict"), second_factor="on") as cluster:
        agent = cluster.start_agent_of("app_service: {enabled: yes, debug_app: true}\n")
        cluster.wait_for_app("dumper", agent)
        trust(cluster, f"--config={cluster.file}")
        yield cluster


@pytest.fixture(scope="module")
def chromium(strict: Cluster) -> Iterator[Browser]:
    with open_browser(strict.home) as browser:
        yield browser


class Phone:
    """An authenticator app. It waits for the next code when it has shown this one."""

    def __init__(self, key: str) -> None:
        self._secret = parse_secret_text(key)
        self._shown = 0

    def code(self) -> str:
        step = max(self._shown + 1, int(time.time()) // PERIOD)
        while step > int(time.time()) // PERIOD + 1:  # one step ahead is taken, too
            time.sleep(0.2)
        self._shown = step
        return totp_code(self._secret, step)


@contextmanager
def person(chromium: Browser) -> Iterator[tuple[Page, BrowserContext]]:
    """A fresh browser; at its end it must have had nothing to complain of."""
    with open_context(chromium) as (context, watch):
        yield context.new_page(), context
        assert_calm(watch)


def assert_calm(watch: Watch) -> None:
    assert watch.certificate_errors == []
    # Chromium reports each answer of 4xx to a navigation as an error of the console
    assert [
        line for line in watch.complaints if "the server responded with a status" not in line
    ] == []


def give_authenticator(context: BrowserContext, page: Page) -> tuple[CDPSession, str]:
    """Give the browser a platform authenticator that verifies its user."""
    session = context.new_cdp_session(page)
    session.send("WebAuthn.enable")
    made = session.send(
        "WebAuthn.addVirtualAuthenticator",
        {
            "options": {
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            }
        },
    )
    return session, str(made["authenticatorId"])


def choose_password(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The same password again").fill(PASSWORD)
    page.get_by_role("button", name="Set password and sign in").click()
    see(page, "Protect your account")


def keep_codes(page: Page) -> list[str]:
    """Read the recovery codes, and go on."""
    see(page, "Keep these recovery codes")
    codes = [code.inner_text() for code in page.locator(".codes code").all()]
    page.get_by_role("link", name="I have kept them").click()
    return codes


def set_up_app(page: Page) -> Phone:
    """Set an authenticator app up as somebody whose camera won't do."""
    page.get_by_text("The camera won’t do?").click()
    phone = Phone(page.locator("#totp-secret").inner_text())
    page.get_by_label("Code", exact=True).fill(phone.code())
    page.get_by_role("button", name="Set up the app").click()
    return phone


def sign_out(page: Page, cluster: Cluster) -> None:
    page.goto(f"{cluster.url}/web/logout")
    page.get_by_role("button", name="Sign out").last.click()
    see(page, "Sign in")


def test_an_invite_leads_to_an_app_recovery_codes_and_the_applications_and_codes_sign_in(
    strict: Cluster, chromium: Browser
) -> None:
    with person(chromium) as (page, _):
        choose_password(page, strict.add_user("tina"))
        phone = set_up_app(page)
        codes = keep_codes(page)
        assert len(set(codes)) == 10
        see(page, "Applications")
        sign_out(page, strict)

        page.goto(strict.app_url("dumper") + "deep?link=1")
        sign_in(page, "tina", PASSWORD)
        see(page, "One more step")
        page.get_by_label("Code", exact=True).fill(phone.code())
        page.get_by_role("button", name="Sign in", exact=True).click()
        see(page, "It works")
        assert page.url == strict.app_url("dumper") + "deep?link=1"
        sign_out(page, strict)

        sign_in(page, "tina", PASSWORD)
        page.get_by_text("Your device is not at hand?").click()
        page.get_by_label("Recovery code").fill(codes[3])
        page.get_by_role("button", name="Sign in with a recovery code").click()
        see(page, "Applications")
        page.goto(f"{strict.url}/web/account")
        expect(page.get_by_text("9 codes are left")).to_be_visible()


def test_an_invite_leads_to_a_passkey_which_signs_in_with_a_password_and_alone(
    strict: Cluster, chromium: Browser
) -> None:
    with person(chromium) as (page, context):
        session, authenticator = give_authenticator(context, page)
        choose_password(page, strict.add_user("petra"))
        page.get_by_role("button", name="Set up a passkey").click()
        keep_codes(page)
        see(page, "Applications")
        [credential] = session.send("WebAuthn.getCredentials", {"authenticatorId": authenticator})[
            "credentials"
        ]
        assert credential["rpId"] == strict.address.partition(":")[0]
        sign_out(page, strict)

        sign_in(page, "petra", PASSWORD)
        page.get_by_role("button", name="Use a passkey").click()
        see(page, "Applications")
        sign_out(page, strict)

        page.goto(strict.app_url("dumper") + "deep?link=2")
        page.get_by_role("button", name="Sign in with a passkey").click()
        see(page, "Sign in with a passkey")
        page.get_by_role("button", name="Use a passkey").click()
        see(page, "It works")
        assert page.url == strict.app_url("dumper") + "deep?link=2"


def test_a_passkey_that_is_cancelled_says_so_and_may_be_tried_again(
    strict: Cluster, chromium: Browser
) -> None:
    with person(chromium) as (page, context):
        session, authenticator = give_authenticator(context, page)
        choose_password(page, strict.add_user("carl"))
        session.send(
            "WebAuthn.setUserVerified",
            {"authenticatorId": authenticator, "isUserVerified": False},
        )
        page.get_by_role("button", name="Set up a passkey").click()
        expect(page.get_by_text("Your browser showed no passkey")).to_be_visible()
        session.send(
            "WebAuthn.setUserVerified",
            {"authenticatorId": authenticator, "isUserVerified": True},
        )
        page.get_by_role("button", name="Set up a passkey").click()
        keep_codes(page)
        see(page, "Applications")


def test_a_second_device_is_added_and_the_first_removed_which_then_signs_in_no_more(
    strict: Cluster, chromium: Browser
) -> None:
    with person(chromium) as (page, context):
        choose_password(page, strict.add_user("dora"))
        set_up_app(page)
        keep_codes(page)
        give_authenticator(context, page)
        page.goto(f"{strict.url}/web/account/devices/add")
        page.get_by_label("Name").first.fill("My laptop")
        page.get_by_role("button", name="Set up a passkey").click()
        see(page, "Your account")
        page.get_by_role("link", name="Authenticator app").click()
        page.get_by_role("button", name="Remove this device").click()
        see(page, "Your account")
        expect(page.get_by_text("The device is removed.")).to_be_visible()

        page.get_by_role("link", name="My laptop").click()
        page.get_by_role("button", name="Remove this device").click()
        expect(page.get_by_text("This is your last device")).to_be_visible()
        sign_out(page, strict)

        sign_in(page, "dora", PASSWORD)
        see(page, "One more step")
        expect(page.get_by_label("Code", exact=True)).to_have_count(0)
        page.get_by_role("button", name="Use a passkey").click()
        see(page, "Applications")


def test_wrong_codes_lock_the_account_for_strangers_and_not_for_a_passkey(
    strict: Cluster, chromium: Browser
) -> None:
    with person(chromium) as (page, context):
        give_authenticator(context, page)
        choose_password(page, strict.add_user("lena"))
        page.get_by_role("button", name="Set up a passkey").click()
        keep_codes(page)
        see(page, "Applications")
        with person(chromium) as (stranger, _):
            stranger.goto(strict.url)
            for _ in range(6):
                sign_in(stranger, "lena", "not the password")
                expect(stranger.get_by_text("Wrong user name or password.")).to_be_visible()
            sign_in(stranger, "lena", PASSWORD)
            expect(stranger.get_by_text("Wrong user name or password.")).to_be_visible()
        assert "locked until" in strict.command("users", "ls").stdout

        sign_out(page, strict)
        page.get_by_role("button", name="Sign in with a passkey").click()
        page.get_by_role("button", name="Use a passkey").click()
        see(page, "Applications")


def test_two_people_set_up_and_sign_in_at_once_and_get_their_own_sessions(
    strict: Cluster, chromium: Browser
) -> None:
    with person(chromium) as (one, _), person(chromium) as (two, _):
        choose_password(one, strict.add_user("una"))
        choose_password(two, strict.add_user("duo"))
        phones = [set_up_app(one), set_up_app(two)]
        for page, name in ((one, "una"), (two, "duo")):
            keep_codes(page)
            sign_out(page, strict)
            sign_in(page, name, PASSWORD)
            see(page, "One more step")
        for page, phone in ((two, phones[1]), (one, phones[0])):
            page.get_by_label("Code", exact=True).fill(phone.code())
            page.get_by_role("button", name="Sign in", exact=True).click()
            see(page, "Applications")
        for page, name in ((one, "una"), (two, "duo")):
            expect(page.locator(".me summary b")).to_have_text(name)


def test_without_script_codes_work_and_the_page_says_what_does_not(
    strict: Cluster, chromium: Browser
) -> None:
    with open_context(chromium, java_script_enabled=False) as (context, _):
        page = context.new_page()
        choose_password(page, strict.add_user("nora"))
        expect(page.get_by_text("Passkeys need JavaScript")).to_be_visible()
        set_up_app(page)
        keep_codes(page)
        see(page, "Applications")
