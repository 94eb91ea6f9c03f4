"""Security items of passkeys: what they sign counts once, and here alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import pytest

from tests.authenticator import PRESENT, VERIFIED, Authenticator
from tests.engine.auth.visitor import ORIGIN, Visitor, authenticator
from tests.engine.auth.world import CLUSTER, PROXY, World, open_world
from tests.security.test_second_factors import in_or_not
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import (
    AttemptOver,
    InvalidRequest,
)
from tport.engine.types.factor import WebauthnDevice


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A cluster as it is unless told otherwise: a second factor is required."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080", f"web.{PROXY}:443"))
    async with open_world(settings=settings) as world:
        yield world


async def test_auth_08_a_passkey_signs_in_with_a_password_and_without(world: World) -> None:
    passkey = authenticator()
    alice = Visitor(world)
    await alice.with_passkey(passkey)
    step = await alice.asked()
    assert await in_or_not(alice, step, "webauthn", passkey.get(step.webauthn))
    begun = await world.proxy.begin_passkey(browser=alice.browser, remote="192.0.2.5")
    assert begun.user == ""
    signed = await alice.prove(begun, "webauthn", passkey.get(begun.webauthn))
    assert isinstance(signed, SignedIn)
    assert signed.session.user == "alice"


Lie = Callable[[Authenticator], None]


def another_site(passkey: Authenticator) -> None:
    passkey.origin = f"https://evil.{PROXY}"


def another_port(passkey: Authenticator) -> None:
    passkey.origin = f"https://{PROXY}:8443"


def no_port(passkey: Authenticator) -> None:
    passkey.origin = f"https://{PROXY}"


def no_tls(passkey: Authenticator) -> None:
    passkey.origin = f"http://{PROXY}:3080"


def a_longer_name(passkey: Authenticator) -> None:
    passkey.origin = f"{ORIGIN}.evil.example"


def in_a_frame(passkey: Authenticator) -> None:
    passkey.cross_origin = True


def another_host(passkey: Authenticator) -> None:
    passkey.rp_id = f"evil.{PROXY}"


def nobody_there(passkey: Authenticator) -> None:
    passkey.flags = VERIFIED


def another_key(passkey: Authenticator) -> None:
    passkey.key = authenticator().key


def another_credential(passkey: Authenticator) -> None:
    passkey.id = b"x" * 32


def counter_goes_back(passkey: Authenticator) -> None:
    passkey.count = 3


LIES = [
    another_site,
    another_port,
    no_port,
    no_tls,
    a_longer_name,
    in_a_frame,
    another_host,
    nobody_there,
]


@pytest.mark.parametrize(
    "lie", [*LIES, another_key, another_credential, counter_goes_back], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("alone", [False, True], ids=["after the password", "alone"])
async def test_auth_08_auth_09_an_assertion_that_lies_signs_nobody_in(
    world: World, lie: Lie, alone: bool
) -> None:
    """And is written down, with the cause; the next honest one works."""
    passkey = authenticator()
    passkey.count = 7
    alice = Visitor(world)
    await alice.with_passkey(passkey)
    honest = (passkey.origin, passkey.rp_id, passkey.flags, passkey.key, passkey.id)

    async def begin() -> NextStep:
        if not alone:
            return await alice.asked()
        return await world.proxy.begin_passkey(browser=alice.browser, remote="192.0.2.5")

    passkey.count = 8
    lie(passkey)
    step = await begin()
    assert not await in_or_not(alice, step, "webauthn", passkey.get(step.webauthn))
    [failure] = [event for event in world.audit.events if event.code == "T1000W"]
    assert str(failure.fields["error"]).startswith("passkey: ")

    passkey.origin, passkey.rp_id, passkey.flags, passkey.key, passkey.id = honest
    passkey.cross_origin, passkey.count = False, 9
    step = await begin()
    assert await in_or_not(alice, step, "webauthn", passkey.get(step.webauthn))


@pytest.mark.parametrize("lie", LIES, ids=lambda f: f.__name__)
async def test_auth_08_auth_09_a_registration_that_lies_sets_nothing_up(
    world: World, lie: Lie
) -> None:
    await check_not_set_up(world, lie)


@pytest.mark.parametrize("algorithm", [0, -65535, -37, 5])
async def test_auth_08_an_algorithm_that_is_not_listed_is_not_taken(
    world: World, algorithm: int
) -> None:
    """None, RS1, PS256, HMAC."""

    def lie(passkey: Authenticator) -> None:
        passkey.algorithm = algorithm

    await check_not_set_up(world, lie)


async def check_not_set_up(world: World, lie: Lie) -> None:
    passkey = authenticator()
    lie(passkey)
    step = await Visitor(world).invited()
    assert isinstance(step, NextStep)
    visitor = Visitor(world)
    begun = await visitor.asked()
    with pytest.raises(Exception, match="that passkey can't be set up"):
        await visitor.enrol(begun, "webauthn", passkey.create(begun.webauthn))
    assert await world.backend.range("/credentials/") == []
    assert await world.backend.range("/sessions/") == []
    assert "TPU06W" in world.audit.codes()


async def test_auth_08_a_challenge_is_answered_once_in_time_and_by_the_kind_it_was_for(
    world: World,
) -> None:
    passkey = authenticator()
    alice = Visitor(world)
    step = await alice.invited()
    assert isinstance(step, NextStep)
    created = passkey.create(step.webauthn)
    await alice.enrol(step, "webauthn", created)

    step = await alice.asked()
    answer = passkey.get(step.webauthn)
    other = Visitor(world)
    elsewhere = await other.asked()
    assert not await in_or_not(other, elsewhere, "webauthn", answer), "another's challenge"
    assert not await in_or_not(alice, step, "webauthn", created), "a registration is no assertion"
    assert not await in_or_not(alice, step, "webauthn", answer), "and spent the challenge"

    step = await alice.asked()
    assert await in_or_not(alice, step, "webauthn", answer := passkey.get(step.webauthn))
    again = await alice.asked()
    assert not await in_or_not(alice, again, "webauthn", answer), "replayed"

    late = await alice.asked()
    world.pass_time(minutes=5)
    assert not await in_or_not(alice, late, "webauthn", passkey.get(late.webauthn))


async def test_auth_08_a_passkey_is_one_persons_and_proves_no_other(world: World) -> None:
    passkey = authenticator()
    await Visitor(world).with_passkey(passkey)
    bob = Visitor(world, name="bob")
    step = await bob.invited()
    assert isinstance(step, NextStep)
    with pytest.raises(Exception, match="set up already"):
        await bob.enrol(step, "webauthn", passkey.create(step.webauthn))
    begun = await bob.asked()
    await bob.enrol(begun, "webauthn", authenticator().create(begun.webauthn))
    step = await bob.asked()
    assert not await in_or_not(bob, step, "webauthn", passkey.get(step.webauthn))


async def test_auth_08_alone_a_passkey_must_have_asked_who_it_is(world: World) -> None:
    """A touch is enough beside a password, and not without one."""
    passkey = authenticator()
    alice = Visitor(world)
    await alice.with_passkey(passkey)
    passkey.flags = PRESENT
    begun = await world.proxy.begin_passkey(browser=alice.browser, remote="192.0.2.5")
    assert json.loads(begun.webauthn)["userVerification"] == "required"
    assert not await in_or_not(alice, begun, "webauthn", passkey.get(begun.webauthn))
    step = await alice.asked()
    assert await in_or_not(alice, step, "webauthn", passkey.get(step.webauthn))


@pytest.mark.parametrize(
    "junk",
    ["", "x", "[]", "{}", '{"rawId": 3}', '{"rawId": "AA"}', "[" * 100_000, "{" + "x" * 20_000],
)
async def test_auth_08_what_is_no_answer_is_refused_and_breaks_nothing(
    world: World, junk: str
) -> None:
    passkey = authenticator()
    alice = Visitor(world)
    await alice.with_passkey(passkey)
    step = await alice.asked()
    assert not await in_or_not(alice, step, "webauthn", junk)
    answer = json.loads(passkey.get(step.webauthn))
    for part in ("clientDataJSON", "authenticatorData", "signature"):
        step = await alice.asked()
        cut = {**answer, "response": {**answer["response"], part: "AAAA"}}
        assert not await in_or_not(alice, step, "webauthn", json.dumps(cut))


async def test_auth_09_another_public_address_below_the_first_is_ours(world: World) -> None:
    passkey = Authenticator(f"https://web.{PROXY}", PROXY)
    alice = Visitor(world)
    await alice.with_passkey(passkey)
    step = await alice.asked()
    assert await in_or_not(alice, step, "webauthn", passkey.get(step.webauthn))


async def test_auth_09_of_two_answers_with_one_count_at_once_one_counts(world: World) -> None:
    """Both were judged by what was stored before; the second to be noted is a copy's."""
    alice, passkey = Visitor(world), authenticator()
    await alice.with_passkey(passkey)
    user = await world.service.cluster.stores.users.get("alice")
    [device] = (await world.service.devices.of(user)).devices
    assert isinstance(device, WebauthnDevice)
    count = device.sign_count + 1
    await world.service.devices.take_passkey(user, device.credential, count)
    with pytest.raises(InvalidRequest, match="counter went back"):
        await world.service.devices.take_passkey(user, device.credential, count)


async def test_auth_08_a_challenge_to_set_a_passkey_up_counts_five_minutes_of_the_thirty(
    world: World,
) -> None:
    alice, passkey = Visitor(world), authenticator()
    step = await alice.invited()
    assert isinstance(step, NextStep)
    created = passkey.create(step.webauthn)
    world.pass_time(minutes=5)
    with pytest.raises(AttemptOver):
        await alice.enrol(step, "webauthn", created)
    step = await world.proxy.next_step(browser=alice.browser)
    assert isinstance(await alice.enrol(step, "webauthn", passkey.create(step.webauthn)), SignedIn)
