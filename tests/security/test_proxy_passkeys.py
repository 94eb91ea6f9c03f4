"""AUTH-08 and AUTH-09 through a whole proxy: authenticators that lie, answers that come twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from tests.authenticator import VERIFIED, Authenticator
from tests.owner import Owner, options
from tests.security.conftest import MovableClock
from tests.stack import DOMAIN, Stack, open_stack
from tport.engine.types.factor import ON


@pytest.fixture
async def stack(clock: MovableClock) -> AsyncIterator[Stack]:
    async with open_stack(drain=False, second_factor=ON) as opened:
        yield opened


@pytest.fixture
def passkey(stack: Stack, clock: MovableClock) -> Authenticator:
    """alice's; it counts its signatures, and made one already."""
    made = Owner(stack, clock).passkey()
    made.count = 7
    return made


@pytest.fixture
async def alice(stack: Stack, clock: MovableClock, passkey: Authenticator) -> Owner:
    owner = Owner(stack, clock)
    await owner.sign_up_with_passkey(passkey)
    passkey.count = 8
    return owner


Lie = Callable[[Authenticator], None]


def a_sibling(passkey: Authenticator) -> None:
    passkey.origin = f"https://evil.{DOMAIN}"


def a_sibling_at_the_same_port(passkey: Authenticator) -> None:
    passkey.origin = passkey.origin.replace(DOMAIN, f"evil.{DOMAIN}")


def another_port(passkey: Authenticator) -> None:
    passkey.origin = f"https://{DOMAIN}:8443"


def without_tls(passkey: Authenticator) -> None:
    passkey.origin = passkey.origin.replace("https", "http")


def in_a_frame_of_another(passkey: Authenticator) -> None:
    passkey.cross_origin = True


def for_another_host(passkey: Authenticator) -> None:
    passkey.rp_id = f"evil.{DOMAIN}"


def with_nobody_there(passkey: Authenticator) -> None:
    passkey.flags = VERIFIED


def with_another_key(passkey: Authenticator) -> None:
    passkey.key = Authenticator("", "").key


def with_its_counter_gone_back(passkey: Authenticator) -> None:
    passkey.count = 3


SETTING_UP: list[Lie] = [
    a_sibling,
    a_sibling_at_the_same_port,
    another_port,
    without_tls,
    in_a_frame_of_another,
    for_another_host,
    with_nobody_there,
]
SIGNING_IN: list[Lie] = [*SETTING_UP, with_another_key, with_its_counter_gone_back]


@pytest.mark.parametrize("alone", [False, True], ids=["after the password", "alone"])
@pytest.mark.parametrize("lie", SIGNING_IN, ids=lambda lie: lie.__name__)
async def test_auth_08_auth_09_an_assertion_that_lies_signs_nobody_in(
    stack: Stack, alice: Owner, passkey: Authenticator, lie: Lie, alone: bool
) -> None:
    """AUTH-09: and the cause is written down."""
    thief = alice.elsewhere()
    lie(passkey)

    page = await (thief.begin_passkey() if alone else thief.give_password())
    answer = await thief.second(page, "webauthn", passkey.get(options(page)))

    assert answer.status == 403
    assert not thief.is_signed_in
    failed = await stack.event("user.login", success=False)
    assert str(failed["error"]).startswith("passkey: ")


@pytest.mark.parametrize("lie", SETTING_UP, ids=lambda lie: lie.__name__)
async def test_auth_08_auth_09_a_registration_that_lies_sets_nothing_up(
    stack: Stack, clock: MovableClock, lie: Lie
) -> None:
    """AUTH-09: nor signs anybody in."""
    bob = Owner(stack, clock, "bob")
    passkey = bob.passkey()
    lie(passkey)

    page = await bob.accept()
    answer = await bob.second(page, "webauthn", passkey.create(options(page)))

    assert answer.status == 400
    assert not bob.is_signed_in
    await stack.event("mfa.add", user="bob", success=False)


async def test_auth_08_an_honest_one_signs_in_after_the_password_and_alone(
    alice: Owner, passkey: Authenticator
) -> None:
    """What the lies above differ from by one thing each."""
    for alone in (False, True):
        browser = alice.elsewhere()
        page = await (browser.begin_passkey() if alone else browser.give_password())
        assert (await browser.second(page, "webauthn", passkey.get(options(page)))).status == 200
        assert browser.is_signed_in
        passkey.count += 1


async def test_auth_08_an_answer_signs_in_once_at_the_browser_that_was_asked(
    alice: Owner, passkey: Authenticator
) -> None:
    """Sent again, or from elsewhere; an answer to an older question, and one that comes too late."""
    first, second = alice.elsewhere(), alice.elsewhere()
    page = await first.give_password()
    answer = passkey.get(options(page))
    other = await second.give_password()

    await second.second(other, "webauthn", answer)
    assert not second.is_signed_in
    await first.second(page, "webauthn", answer)
    assert first.is_signed_in

    again = alice.elsewhere()
    page = await again.give_password()
    await again.second(page, "webauthn", answer)
    assert not again.is_signed_in


async def test_auth_08_a_question_is_answered_within_five_minutes(
    clock: MovableClock, alice: Owner, passkey: Authenticator
) -> None:
    late = alice.elsewhere()
    page = await late.give_password()
    answer = passkey.get(options(page))

    clock.ahead += timedelta(minutes=5, seconds=1)
    await late.second(page, "webauthn", answer)

    assert not late.is_signed_in


async def test_auth_08_what_set_a_passkey_up_signs_nobody_in(
    alice: Owner, passkey: Authenticator
) -> None:
    thief = alice.elsewhere()
    page = await thief.give_password()

    answer = await thief.second(page, "webauthn", passkey.create(options(page)))

    assert answer.status == 403
    assert not thief.is_signed_in


async def test_auth_08_anothers_passkey_is_no_second_factor_and_not_set_up_twice(
    stack: Stack, clock: MovableClock, alice: Owner, passkey: Authenticator
) -> None:
    mallory = Owner(stack, clock, "mallory")
    mallorys = mallory.passkey()
    await mallory.sign_up_with_passkey(mallorys)
    thief = alice.elsewhere()
    page = await thief.give_password()

    answer = await thief.second(page, "webauthn", mallorys.get(options(page)))

    assert answer.status == 403
    assert not thief.is_signed_in
    bob = Owner(stack, clock, "bob")
    page = await bob.accept()
    taken = await bob.second(page, "webauthn", passkey.create(options(page)))
    assert taken.status == 400
    assert not bob.is_signed_in
