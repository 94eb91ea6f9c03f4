"""AUTH-01 to AUTH-07, AUTH-10 and AUTH-13 through a whole proxy: forms over TLS, as browsers send them."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
import trio
from cryptography.exceptions import InvalidKey

from tests.browser import Browser
from tests.owner import Owner, options
from tests.security.conftest import MovableClock
from tests.stack import DOMAIN, PASSWORD, Answer, Stack, open_stack, without_secrets
from tport.engine.access.totp import PERIOD
from tport.engine.errors import TportError
from tport.engine.types.factor import ON
from tport.engine.types.lock import LockTarget

STEP = timedelta(seconds=PERIOD)
REFUSED = 403  # a wrong name or password, of which the page says no more


@pytest.fixture
async def stack(clock: MovableClock) -> AsyncIterator[Stack]:
    """A cluster that demands a second factor, behind a load balancer that tells who comes."""
    async with open_stack(drain=False, second_factor=ON, trusted_proxies=["127.0.0.0/8"]) as opened:
        yield opened


@pytest.fixture
async def alice(stack: Stack, clock: MovableClock) -> Owner:
    """With an authenticator app; its next code hasn't been used."""
    owner = Owner(stack, clock)
    await owner.sign_up_with_app()
    clock.ahead += STEP
    return owner


# --- Codes -------------------------------------------------------------------------------------------


async def test_auth_01_a_code_signs_in_once(alice: Owner) -> None:
    code, before = alice.code(), alice.code(-1)
    first, second, third = (alice.elsewhere(f"198.51.100.{n}") for n in range(3))

    assert (await first.sign_in("totp", code)).status == 200
    again = await second.sign_in("totp", code)
    earlier = await third.sign_in("totp", before)

    assert first.is_signed_in
    assert (again.status, earlier.status) == (403, 403)
    assert not second.is_signed_in
    assert not third.is_signed_in


async def test_auth_01_of_two_browsers_that_send_a_code_at_once_one_is_signed_in(
    alice: Owner,
) -> None:
    tabs = [alice.elsewhere(f"198.51.100.{n}") for n in range(2)]
    pages = [await tab.give_password() for tab in tabs]
    code = alice.code()

    async with trio.open_nursery() as nursery:
        for tab, page in zip(tabs, pages, strict=True):
            nursery.start_soon(tab.second, page, "totp", code)

    assert sorted(tab.is_signed_in for tab in tabs) == [False, True]


async def test_auth_02_guesses_lock_the_account_whatever_browser_and_address_they_come_from(
    stack: Stack, alice: Owner
) -> None:
    """Password and code share the count, and the right password doesn't begin it anew."""
    for number in range(3):
        guesser = alice.elsewhere(f"198.51.100.{number}")
        await guesser.sign_in("totp", guesser.wrong_code())
    for number in range(2):
        await alice.elsewhere(f"203.0.113.{number}").give_password("wrong")

    late = alice.elsewhere("192.0.2.77")
    answer = await late.give_password()

    assert answer.status == REFUSED
    assert not late.is_signed_in
    told = await stack.event("user.locked", user="alice")
    assert told["minutes"] == 30


async def test_auth_03_others_guesses_lock_out_neither_a_passkey_nor_a_browser_that_is_known(
    stack: Stack, clock: MovableClock, alice: Owner
) -> None:
    bob, passkey = Owner(stack, clock, "bob"), Owner(stack, clock, "bob").passkey()
    await bob.sign_up_with_passkey(passkey)
    async with trio.open_nursery() as nursery:
        for name in ("alice", "bob"):
            for number in range(8):
                guesser = Owner(stack, clock, name)
                guesser.remote = f"198.51.100.{number}"
                nursery.start_soon(guesser.give_password, "wrong")
    assert len(await stack.events("user.locked")) == 2, "told once each, not per try"

    alice.browser.jar[DOMAIN].pop(stack.web_cookie)
    await alice.sign_in("totp", alice.code())
    alone = bob.elsewhere()
    page = await alone.begin_passkey()
    await alone.second(page, "webauthn", passkey.get(options(page)))
    stranger = alice.elsewhere()

    assert alice.is_signed_in
    assert alone.is_signed_in
    assert (await stranger.give_password()).status == REFUSED


# --- What answers tell ---------------------------------------------------------------------------------


async def test_auth_04_nobody_learns_from_an_answer_who_exists(
    stack: Stack, clock: MovableClock, alice: Owner
) -> None:
    """An unknown name, a wrong password and a locked account: status, headers and page are the same."""
    await alice.elsewhere().give_password("wrong")
    answers = {"known": await _failed(alice.elsewhere("198.51.100.1"))}
    async with trio.open_nursery() as nursery:
        for number in range(6):
            guesser = alice.elsewhere(f"203.0.113.{number}")
            nursery.start_soon(guesser.give_password, "wrong")
    answers["locked"] = await _failed(alice.elsewhere("198.51.100.2"))
    nobody = Owner(stack, clock, "nobody")
    nobody.remote = "198.51.100.3"
    answers["unknown"] = await _failed(nobody)

    assert {answer.status for answer in answers.values()} == {REFUSED}
    pages = {
        without_secrets(answer.body).replace(b'value="alice"', b"").replace(b'value="nobody"', b"")
        for answer in answers.values()
    }
    assert len(pages) == 1
    names = {tuple(sorted(name for name, _ in answer.headers)) for answer in answers.values()}
    assert len(names) == 1


async def _failed(owner: Owner) -> Answer:
    return await owner.give_password("certainly wrong")


async def test_auth_04_an_invite_that_never_was_and_one_that_is_over_look_alike(
    stack: Stack, clock: MovableClock
) -> None:
    made = await stack.admin.create_user(name="carol", roles=("access",), traits={})
    await stack.admin.reset_user(name="carol")  # whose link takes the place of the first
    never = "A" * len(made.url.rpartition("/")[2])

    over = await stack.request(DOMAIN, urlsplit(made.url).path)
    unknown = await stack.request(DOMAIN, f"/web/invite/{never}")

    assert over.status == unknown.status == 404
    assert without_secrets(over.body) == without_secrets(unknown.body)


# --- Passwords -----------------------------------------------------------------------------------------


async def test_auth_05_a_password_that_is_too_long_is_refused_unhashed_and_its_end_matters(
    stack: Stack, alice: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than a form may be, and longer than a password may be."""
    hashed: list[bytes] = []

    class Argon2id:
        @staticmethod
        def verify_phc_encoded(password: bytes, phc: str) -> None:
            hashed.append(password)
            raise InvalidKey

    with monkeypatch.context() as patched:
        patched.setattr("tport.engine.access.passwords.Argon2id", Argon2id)
        for length, status in ((20_000, 413), (10_000, REFUSED), (129, REFUSED), (128, REFUSED)):
            owner = alice.elsewhere(f"198.51.{length // 100}.1")
            assert (await owner.give_password("x" * length)).status == status
    assert [len(each) for each in hashed] == [128]
    wrong = alice.elsewhere("198.51.100.2")
    assert (await wrong.give_password(PASSWORD + "x")).status == REFUSED


async def test_auth_05_many_who_sign_in_at_once_hold_up_no_application(
    stack: Stack, alice: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hashing is in threads of its own, few of them, and who finds the queue full is told to wait."""
    person = await _person(stack, alice)
    statuses: list[int] = []
    goes_on = threading.Event()

    class Argon2id:
        @staticmethod
        def verify_phc_encoded(password: bytes, phc: str) -> None:
            goes_on.wait(20)  # s, for which the loop would stand
            raise InvalidKey

    async def guess(number: int) -> None:
        owner = alice.elsewhere(f"198.51.100.{number}")
        statuses.append((await owner.give_password(f"wrong {number}")).status)

    monkeypatch.setattr("tport.engine.access.passwords.Argon2id", Argon2id)
    monkeypatch.setattr("tport.engine.auth.signin.hashing.ACCOUNT_QUEUE", 2)
    room = 2 + 1
    try:
        async with trio.open_nursery() as nursery:
            for number in range(room + 3):
                nursery.start_soon(guess, number)
            with trio.fail_after(20):
                while len(statuses) < 3:  # noqa: ASYNC110 - those who find no room
                    await trio.sleep(0.01)
            for _ in range(10):
                assert (await person.ask(stack.url("echo"))).status == 200
            assert len(statuses) == 3
            goes_on.set()
    finally:
        goes_on.set()

    assert set(statuses[:3]) <= {429, 503}
    assert statuses[3:] == [REFUSED] * room


async def _person(stack: Stack, owner: Owner) -> Browser:
    assert (await owner.browser.go(stack.url("echo"))).status == 200
    return owner.browser


@pytest.mark.parametrize(
    "password",
    ["short-one-1", "tport.localhost", "alicealicealice", "password1234", "123456789012"],
)
async def test_auth_06_a_password_that_is_easily_guessed_is_not_taken(
    stack: Stack, clock: MovableClock, password: str
) -> None:
    """Too short, the cluster's or the user's name, a common one. The link lives on."""
    made = await stack.admin.create_user(name="alice", roles=("access",), traits={})
    owner = Owner(stack, clock)

    refused = await owner.choose_password(made.url, password)

    assert refused.status == 400
    assert b'id="password-fault"' in refused.body
    assert (await owner.choose_password(made.url)).status == 200


async def test_auth_06_a_long_passphrase_is_taken_to_the_letter(
    stack: Stack, clock: MovableClock
) -> None:
    passphrase = "Ünïcode wörds, söme wïth spaces ✓ and mörè of thém — sixty-fóur!!"
    made = await stack.admin.create_user(name="alice", roles=("access",), traits={})
    owner = Owner(stack, clock)
    assert len(passphrase) >= 64

    assert (await owner.choose_password(made.url, passphrase)).status == 200
    assert (await owner.elsewhere().give_password(passphrase[:-1])).status == REFUSED
    assert (await owner.elsewhere().give_password(passphrase)).status == 200


# --- Invites ------------------------------------------------------------------------------------------


async def test_auth_07_a_link_is_used_once_also_by_two_at_once(
    stack: Stack, clock: MovableClock
) -> None:
    made = await stack.admin.create_user(name="alice", roles=("access",), traits={})
    owners = [Owner(stack, clock) for _ in range(3)]
    answers: list[Answer] = []

    async def accept(owner: Owner, number: int) -> None:
        answers.append(await owner.choose_password(made.url, f"{number} unrelated words are here"))

    async with trio.open_nursery() as nursery:
        for number, owner in enumerate(owners):
            nursery.start_soon(accept, owner, number)

    assert sorted(answer.status for answer in answers) == [200, 404, 404]
    assert (await stack.request(DOMAIN, urlsplit(made.url).path)).status == 404


async def test_auth_07_a_reset_ends_password_devices_and_sessions(
    stack: Stack, clock: MovableClock, alice: Owner
) -> None:
    """Who has the link sets up both anew; nothing of before helps, and the link is over in time."""
    assert (await alice.page("/web/account")).status == 200
    made = await stack.admin.reset_user(name="alice")

    assert b"/web/login" in (await alice.page("/web/account")).body
    before = alice.elsewhere()
    assert (await before.give_password()).status == REFUSED
    clock.ahead += timedelta(hours=24)
    assert (await stack.request(DOMAIN, urlsplit(made.url).path)).status == 404
    newer = await stack.admin.reset_user(name="alice")
    page = await before.choose_password(newer.url)
    assert b"Protect your account" in page.body
    assert not before.is_signed_in


async def test_auth_07_a_link_of_who_was_removed_opens_nothing(
    stack: Stack, clock: MovableClock
) -> None:
    made = await stack.admin.create_user(name="alice", roles=("access",), traits={})
    await stack.admin.delete_user(name="alice")

    assert (await stack.request(DOMAIN, urlsplit(made.url).path)).status == 404


async def test_auth_07_az_11_a_secret_of_one_kind_opens_no_door_of_another(
    stack: Stack, alice: Owner
) -> None:
    """A join token and a session's cookie are no invite; an invite is no session."""
    token = await stack.admin.create_token(
        roles=("app",), ttl=600, app_name="", app_uri="", max_uses=1
    )
    made = await stack.admin.create_user(name="carol", roles=("access",), traits={})
    invite = made.url.rpartition("/")[2]

    for secret in (token.token, token.token.partition(".")[0], alice.web):
        assert (await stack.request(DOMAIN, f"/web/invite/{secret}")).status == 404
    for secret in (invite, token.token):
        cookie = {"Cookie": f"{stack.web_cookie}={secret}", "Accept": "text/html"}
        answer = await stack.request(DOMAIN, "/web/account", cookie)
        assert "/web/login" in answer.header("location")


# --- The order of the steps -------------------------------------------------------------------------------


async def test_auth_10_a_password_alone_is_no_session_whatever_is_asked_for(
    stack: Stack, alice: Owner
) -> None:
    half = alice.elsewhere()
    page = await half.give_password()
    assert b"One more step" in page.body
    assert not half.is_signed_in

    skipped = await half.second(page, "skip", "yes")
    account = await half.page("/web/account")
    opened = await half.browser.go(stack.url("echo"))
    api = await half.browser.ask(
        f"{stack.proxy_url}/v1/own_account",
        {"Content-Type": "application/json", "Origin": stack.proxy_url},
        method="POST",
        body=b"{}",
    )

    assert not half.is_signed_in
    assert skipped.status == 403
    assert b"Your account" not in account.body
    assert opened.body != b"hello"
    assert api.status == 401
    assert stack.echo.seen == []


async def test_auth_10_of_two_peoples_recovery_codes_each_works_for_its_own_and_once(
    stack: Stack, clock: MovableClock, alice: Owner
) -> None:
    bob = Owner(stack, clock, "bob")
    await bob.sign_up_with_app()
    clock.ahead += STEP
    first, second, third = (alice.elsewhere(f"198.51.100.{n}") for n in range(3))

    assert (await first.sign_in("recovery", bob.codes[0])).status == 403
    assert (await second.sign_in("recovery", alice.codes[0])).status == 200
    assert (await third.sign_in("recovery", alice.codes[0])).status == 403

    assert [each.is_signed_in for each in (first, second, third)] == [False, True, False]
    assert len(alice.codes) == 10


async def test_auth_10_the_last_device_is_not_removed(stack: Stack, alice: Owner) -> None:
    account = await alice.page("/web/account")
    [path] = re.findall(rb'href="(/web/account/device/[^"/]+)"', account.body)

    await alice.send("/web/prove", {"totp": alice.code()}, await alice.page("/web/prove?next=/"))
    page = await alice.page(path.decode())
    refused = await alice.send(f"{path.decode()}/remove", {}, page)

    assert refused.status == 400
    assert b"last" in refused.body
    assert path in (await alice.page("/web/account")).body


# --- Names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Alice", "ALICE", "ａｌｉｃｅ"])
async def test_auth_11_one_name_in_any_spelling_is_one_user(
    stack: Stack, alice: Owner, name: str
) -> None:
    """Nobody else is made of it, it signs in as alice, and a lock on it is a lock on alice."""

    with pytest.raises(TportError):
        await stack.admin.create_user(name=name, roles=("access",), traits={})
    other = alice.elsewhere()
    other.name = name
    assert b"One more step" in (await other.give_password()).body

    await stack.admin.create_lock(target=LockTarget(user=name), message="", ttl=0)
    assert (await other.elsewhere().give_password()).status == REFUSED


# --- Addresses --------------------------------------------------------------------------------------------


async def test_auth_13_one_address_has_forty_tries_and_others_are_not_held_up(
    stack: Stack, clock: MovableClock, alice: Owner
) -> None:
    """And twenty a minute. An IPv6 address counts with its whole /64. It is told when to come back."""
    answers: list[Answer] = []
    while not answers or answers[-1].status != 429:
        visitor = Owner(stack, clock)
        visitor.remote = f"2001:db8:0:1::{len(answers):x}"
        answers.append(await visitor.begin_passkey())
        assert len(answers) < 80

    assert len(answers) > 40
    assert {answer.status for answer in answers[:-1]} == {200}
    assert int(answers[-1].header("retry-after")) > 0
    assert (await alice.elsewhere("2001:db8:0:1::ffff").give_password()).status == 429
    await (elsewhere := alice.elsewhere("2001:db8:0:2::1")).sign_in("totp", alice.code())
    assert elsewhere.is_signed_in
