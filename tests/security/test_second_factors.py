"""Security items of second factors: each test holds the ID of its item."""

from __future__ import annotations

import json
from base64 import b32encode
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from tests.engine.auth.sso.visits import GOOGLE, sso_world
from tests.engine.auth.visitor import Visitor, authenticator
from tests.engine.auth.world import CLUSTER, PROXY, World, open_world
from tests.security.test_auth import ARGUMENTS
from tport.engine.access.totp import PERIOD, parse_secret_text
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep, Proof
from tport.engine.api.protocol import FRESH, RULES
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.seal import Seal
from tport.engine.errors import (
    AccessDenied,
    AttemptOver,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    ProofNeeded,
    TportError,
    Unavailable,
)
from tport.engine.types.factor import FactorPolicy, TotpDevice
from tport.engine.types.preference import Preference


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A cluster as it is unless told otherwise: a second factor is required."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080", f"web.{PROXY}:443"))
    async with open_world(settings=settings) as world:
        yield world


async def in_or_not(visitor: Visitor, step: NextStep, kind: str, value: str) -> bool:
    try:
        return isinstance(await visitor.prove(step, kind, value), SignedIn)
    except (AccessDenied, AttemptOver):
        return False


# --- AUTH-01: TOTP replay --------------------------------------------------------------------------


async def test_auth_01_a_code_works_once_and_none_before_it_after_it(world: World) -> None:
    alice = Visitor(world)
    await alice.with_app()
    code, before = alice.code(), alice.code(-1)
    assert await in_or_not(alice, await alice.asked(), "totp", code)
    assert not await in_or_not(alice, await alice.asked(), "totp", code)
    assert not await in_or_not(alice, await alice.asked(), "totp", before)
    assert await in_or_not(alice, await alice.asked(), "totp", alice.code(1))


async def test_auth_01_the_code_that_set_the_app_up_does_not_sign_in(world: World) -> None:
    alice = Visitor(world)
    await alice.with_app()
    assert not await in_or_not(alice, await alice.asked(), "totp", alice.code(-1))


async def test_auth_01_of_two_requests_with_one_code_at_the_same_time_one_signs_in(
    world: World,
) -> None:
    """From two browsers; and a hundred rounds at the place that decides."""
    alice = Visitor(world, remote="192.0.2.1")
    await alice.with_app()
    user = await world.service.cluster.stores.users.get("alice")
    for _ in range(100):
        taken: list[bool] = []

        async def take(code: str, taken: list[bool] = taken) -> None:
            taken.append(await world.service.devices.take_totp(user, code))

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(take, alice.code())
        assert sorted(taken) == [False, True]
        world.pass_time(seconds=PERIOD)
    for number in range(3):
        tabs = [
            Visitor(world, secret=alice.secret, remote=f"2001:db8:{number}:{tab}::1")
            for tab in range(2)
        ]
        steps = [await tab.asked() for tab in tabs]
        came: list[bool] = []

        async def send(tab: Visitor, step: NextStep, came: list[bool] = came) -> None:
            came.append(await in_or_not(tab, step, "totp", tab.code()))

        async with trio.open_nursery() as nursery:
            for tab, step in zip(tabs, steps, strict=True):
                nursery.start_soon(send, tab, step)
        assert sorted(came) == [False, True], f"round {number}"
        world.pass_time(seconds=PERIOD)


async def test_auth_01_a_clock_two_steps_off_is_refused(world: World) -> None:
    alice = Visitor(world)
    await alice.with_app()
    world.pass_time(seconds=10 * PERIOD)
    for ahead in (-2, 2):
        assert not await in_or_not(alice, await alice.asked(), "totp", alice.code(ahead))
    assert await in_or_not(alice, await alice.asked(), "totp", alice.code(-1))


# --- AUTH-02: guessing -----------------------------------------------------------------------------


async def test_auth_02_failures_of_both_steps_count_together_whoever_sends_them(
    world: World, autojump_clock: MockClock
) -> None:
    """Fresh browsers, fresh addresses: the count is the account's. The right code is too late."""
    await (alice := Visitor(world)).with_app()
    for number in range(3):
        guesser = Visitor(world, secret=alice.secret, remote=f"198.51.100.{number}")
        assert not await in_or_not(guesser, await guesser.asked(), "totp", guesser.wrong_code()), (
            "a right password does not begin the count anew"
        )
    for number in range(2):
        guesser = Visitor(world, remote=f"203.0.113.{number}")
        with pytest.raises(AccessDenied):
            await guesser.password("wrong")
    late = Visitor(world, secret=alice.secret, remote="198.51.100.99")
    with pytest.raises(AccessDenied):
        await late.asked()
    [lock] = [event for event in world.audit.events if event.type == "user.locked"]
    assert lock.fields["minutes"] == 30


async def test_auth_02_a_lock_holds_for_who_is_between_the_steps(world: World) -> None:
    await (alice := Visitor(world)).with_app()
    waiting = Visitor(world, secret=alice.secret)
    step = await waiting.asked()
    for number in range(5):
        guesser = Visitor(world, secret=alice.secret, remote=f"198.51.100.{number}")
        await in_or_not(guesser, await guesser.asked(), "totp", guesser.wrong_code())
    assert not await in_or_not(waiting, step, "totp", waiting.code())
    assert not await in_or_not(waiting, step, "recovery", alice.codes[0])


async def test_auth_02_a_day_of_guessing_is_fewer_than_a_hundred_tries(
    world: World, autojump_clock: MockClock
) -> None:
    """Each lock lasts twice as long as the one before, and ends by itself."""
    await (alice := Visitor(world)).with_app()
    tries, end = 0, world.clock() + timedelta(days=1)
    while world.clock() < end:
        guesser = Visitor(world, secret=alice.secret, remote=f"2001:db8:{tries:x}::1")
        try:
            step = await guesser.asked()
        except AccessDenied:
            world.pass_time(hours=1)
            continue
        if not await in_or_not(guesser, step, "totp", guesser.wrong_code()):
            tries += 1
    assert 5 < tries < 100
    world.pass_time(days=2)
    assert isinstance(await Visitor(world, secret=alice.secret).sign_in(), SignedIn)


async def test_auth_02_one_address_is_slowed_down_at_the_second_step_too(world: World) -> None:
    await (alice := Visitor(world, remote="192.0.2.9")).with_app()
    step = await alice.asked()
    for _ in range(39):  # one of forty is used up
        await in_or_not(alice, step, "recovery", "nothing")
    with pytest.raises(LimitExceeded):
        await alice.prove(step, "recovery", "nothing")


# --- AUTH-03: locking others out ---------------------------------------------------------------------


async def lock(world: World) -> None:
    """Guess from many addresses until the account is locked, and go on."""
    for number in range(12):
        guesser = Visitor(world, remote=f"198.51.100.{number}")
        with pytest.raises(AccessDenied):
            await guesser.password("wrong")


async def test_auth_03_guesses_of_others_lock_out_neither_a_passkey_nor_a_known_browser(
    world: World, autojump_clock: MockClock
) -> None:
    passkey = authenticator()
    alice = Visitor(world)
    await alice.with_passkey(passkey)
    written = len(world.audit.events)
    await lock(world)
    assert len(world.audit.events) - written < 20, "a lock is told once, not per try"

    with pytest.raises(AccessDenied):
        await Visitor(world).asked()  # not known: the right password alone
    fresh = Visitor(world)
    begun = await world.proxy.begin_passkey(browser=fresh.browser, remote="192.0.2.5")
    assert await in_or_not(fresh, begun, "webauthn", passkey.get(begun.webauthn))
    step = await alice.asked()  # known: password and device, as ever
    assert await in_or_not(alice, step, "webauthn", passkey.get(step.webauthn))
    with pytest.raises(AccessDenied):
        await Visitor(world).asked()  # and nobody else got in behind them


async def test_auth_03_a_known_browser_has_five_guesses_and_is_known_no_more(
    world: World, autojump_clock: MockClock
) -> None:
    await (alice := Visitor(world)).with_app()
    await lock(world)
    for _ in range(5):
        with pytest.raises(AccessDenied):
            await alice.password("wrong")
    with pytest.raises(AccessDenied):
        await alice.asked()


async def test_auth_03_an_administrator_ends_the_lock(
    world: World, autojump_clock: MockClock
) -> None:
    await (alice := Visitor(world)).with_app()
    await lock(world)
    stranger = Visitor(world, secret=alice.secret)
    with pytest.raises(AccessDenied):
        await stranger.asked()
    await world.admin.unlock_user(name="Alice")
    assert (await stranger.sign_in()).session.user == "alice"
    assert "TPU05I" in world.audit.codes()
    with pytest.raises(NotFound):
        await world.admin.unlock_user(name="nobody")


@pytest.mark.parametrize("cookie", ["", "x", "of another"])
async def test_auth_03_a_cookie_that_was_not_given_makes_nobody_known(
    world: World, autojump_clock: MockClock, cookie: str
) -> None:
    await Visitor(world).with_app()
    await (bob := Visitor(world, name="bob")).with_app()
    await lock(world)
    with pytest.raises(AccessDenied):
        await Visitor(world, known=bob.known if cookie == "of another" else cookie).asked()


# --- AUTH-04 -------------------------------------------------------------------------------------------


async def test_auth_04_every_failure_of_a_step_has_one_answer(
    world: World, autojump_clock: MockClock
) -> None:
    await (alice := Visitor(world)).with_app()
    said = set()
    for kind, value in (
        ("totp", alice.wrong_code()),
        ("recovery", "aaaa-bbbb"),
        ("webauthn", "{}"),
        ("password", "x"),
        ("totp", alice.wrong_code()),
        ("totp", alice.code()),  # locked by now
    ):
        visitor = Visitor(world, secret=alice.secret)
        try:
            step = await visitor.asked()
            await visitor.prove(step, kind, value)
        except AccessDenied as denied:
            said.add((type(denied), str(denied)))
    assert len(said) == 2, "one at the password, one at the second step"
    begun = await world.proxy.begin_passkey(browser=alice.browser, remote="192.0.2.5")
    assert json.loads(begun.webauthn)["allowCredentials"] == [], "no list tells who has what"


# --- AUTH-10, and what lies in storage -----------------------------------------------------------------


async def test_auth_10_no_secret_of_a_second_factor_is_stored_in_the_clear_or_written_down(
    world: World,
) -> None:
    alice = Visitor(world)
    await alice.with_app()
    await alice.prove(await alice.asked(), "recovery", alice.codes[1])
    kept = repr(world.audit.events).encode() + b"".join(
        item.key.encode() + item.value for item in await world.backend.range("/")
    )
    secret = parse_secret_text(alice.secret)
    for clear in (secret, b32encode(secret), secret.hex().encode(), alice.known.encode()):
        assert clear not in kept
    for code in alice.codes:
        assert code.encode() not in kept
        assert code.replace("-", "").encode() not in kept


def test_auth_10_what_is_sealed_opens_for_its_owner_with_its_key_alone() -> None:
    seal = Seal(b"k" * 32)
    sealed = seal.close(b"secret", "alice")
    assert seal.open(sealed, "alice") == b"secret"
    for other, context in ((seal, "bob"), (Seal(b"x" * 32), "alice")):
        with pytest.raises(Unavailable):
            other.open(sealed, context)
    for broken in ("", "AAAA", sealed[:-4], "!"):
        with pytest.raises(Unavailable):
            seal.open(broken, "alice")


# --- AUTH-10, AUTH-12: what a stolen session must not do -------------------------------------------


async def attempt(world: World, session: str, call: str) -> str:
    """Make a call for the person of a session; return the error's name, "" for none of step-up."""
    acting = world.proxy.acting_for(session)
    try:
        await getattr(acting, call)(**ARGUMENTS.get(call, {}))
    except ProofNeeded:
        return "proof needed"
    except TportError:
        return ""
    return ""


@pytest.mark.parametrize("call", sorted(FRESH))
async def test_auth_12_what_changes_access_needs_a_proof_of_the_last_five_minutes(
    world: World, call: str
) -> None:
    """A session that was stolen, or left open, changes neither devices nor what others may."""
    alice = Visitor(world)
    await alice.with_app()
    await world.admin.update_user(name="alice", roles=("access", "editor"), traits=None)
    world.pass_time(days=1)
    signed = await alice.sign_in()
    assert await attempt(world, signed.secret, call) == ""

    world.pass_time(minutes=5)
    assert await attempt(world, signed.secret, call) == "proof needed"
    acting = world.proxy.acting_for(signed.secret)
    step = await acting.begin_proof()
    await acting.prove_again(attempt=step.attempt, proof=Proof(kind="totp", value=alice.code()))
    if call == "change_password":  # counts a wrong password, and is made once
        return
    assert await attempt(world, signed.secret, call) == ""


async def test_auth_03_others_guesses_keep_nobody_from_proving_anew_where_they_have_signed_in(
    world: World, autojump_clock: MockClock
) -> None:
    """A session that was stolen without that browser's cookie is locked with the account."""
    await (alice := Visitor(world)).with_app()
    acting = world.proxy.acting_for((await alice.sign_in()).secret)
    world.pass_time(seconds=PERIOD)
    for number in range(5):
        with pytest.raises(AccessDenied):
            await Visitor(world, remote=f"203.0.113.{number}").password("wrong")

    async def prove(value: str, known: str) -> None:
        step = await acting.begin_proof()
        proof = Proof(kind="totp", value=value)
        await acting.prove_again(attempt=step.attempt, proof=proof, known=known)

    with pytest.raises(AccessDenied):
        await prove(alice.code(), "")
    with pytest.raises(AccessDenied):
        await prove(alice.code(), "some other cookie")
    for _ in range(4):
        with pytest.raises(AccessDenied):
            await prove(alice.wrong_code(), alice.known)
    await prove(alice.code(), alice.known)
    world.pass_time(seconds=PERIOD)
    with pytest.raises(AccessDenied):
        await prove(alice.wrong_code(), alice.known)
    with pytest.raises(AccessDenied):
        await prove(alice.code(), alice.known)  # that was its fifth


async def test_auth_12_one_sessions_proof_is_no_others(world: World) -> None:
    await (alice := Visitor(world)).with_app()
    first = await alice.sign_in()
    world.pass_time(seconds=PERIOD)
    second = await alice.sign_in()
    world.pass_time(minutes=5)
    acting = world.proxy.acting_for(first.secret)
    step = await acting.begin_proof()
    await acting.prove_again(attempt=step.attempt, proof=Proof(kind="totp", value=alice.code()))
    await acting.check_fresh_proof()
    with pytest.raises(ProofNeeded):
        await world.proxy.acting_for(second.secret).check_fresh_proof()


async def test_auth_10_of_two_who_remove_the_last_two_devices_at_once_one_is_refused(
    world: World,
) -> None:
    await (alice := Visitor(world)).with_app()
    signed = await alice.sign_in()
    acting = world.proxy.acting_for(signed.secret)
    step = await acting.begin_device()
    passkey = authenticator().create(step.webauthn)
    await acting.add_device(
        attempt=step.attempt, proof=Proof(kind="webauthn", value=passkey), name=""
    )
    ids = [device.id for device in (await acting.own_account()).devices]
    refused: list[str] = []

    async def remove(id_: str) -> None:
        try:
            await acting.remove_device(id=id_)
        except InvalidRequest as problem:
            refused.append(str(problem))

    async with trio.open_nursery() as nursery:
        for id_ in ids:
            nursery.start_soon(remove, id_)
    assert len(refused) == 1
    assert len((await acting.own_account()).devices) == 1
    assert "T1007I" in world.audit.codes()


def test_auth_12_every_call_that_asks_for_a_proof_is_one_that_people_may_make() -> None:
    assert set(RULES) >= FRESH


async def test_auth_01_one_secret_is_set_up_once(world: World) -> None:
    """Two tabs that send the same code at once would make two devices of one phone."""
    alice = Visitor(world)
    await alice.with_app()
    user = await world.service.cluster.stores.users.get("alice")
    [device] = (await world.service.devices.of(user)).devices
    assert isinstance(device, TotpDevice)
    with pytest.raises(InvalidRequest, match="set up already"):
        await world.service.devices.add_totp(user, "again", device.secret, device.step + 1)


async def test_auth_10_an_app_whose_secret_was_never_shown_is_not_set_up(world: World) -> None:
    """It was begun while apps did not count here."""
    await world.admin.set_preference(
        preference=Preference(second_factor=FactorPolicy.from_word("webauthn")), revision=0
    )
    alice = Visitor(world)
    step = await alice.invited()
    assert isinstance(step, NextStep)
    assert step.totp is None
    await world.admin.reset_preference()
    with pytest.raises(AttemptOver):
        await alice.enrol(step, "totp", "000000")


async def test_auth_12_a_second_step_ends_nowhere_once_passwords_count_no_more() -> None:
    """Whoever took them away may have done so because of the very password that was shown."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",))
    async with sso_world(GOOGLE, settings=settings) as (world, _, _):
        alice = Visitor(world)
        await alice.with_app()
        step = await alice.asked()
        await world.admin.set_preference(preference=Preference(local_auth=False), revision=0)
        with pytest.raises(AccessDenied, match="expired"):
            await alice.prove(step, "totp", alice.code())
        event = world.audit.events[-1]
        assert (event.code, event.fields["user"]) == ("T1000W", "alice")
        assert "local_auth is off" in event.fields["error"]
