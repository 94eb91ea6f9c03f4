"""Who changes what lets them in shows first that it is they, in the order that it was begun in."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from tests.engine.auth.visitor import Visitor, authenticator
from tests.engine.auth.world import CLUSTER, PASSWORD, PROXY, World, open_world
from tport.engine.access.totp import PERIOD
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep, Proof
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.factors import devices as devices_module
from tport.engine.errors import (
    AccessDenied,
    AttemptOver,
    InvalidRequest,
    NotFound,
    ProofNeeded,
    Unavailable,
)
from tport.engine.types.factor import FactorPolicy

NEW = "another five unrelated words here"
REQUIRED = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",))
OPTIONAL = AuthSettings(
    cluster=CLUSTER,
    proxy_addrs=(f"{PROXY}:3080",),
    second_factor=FactorPolicy(kinds=("totp", "webauthn"), required=False),
)


@pytest.fixture
async def strict() -> AsyncIterator[World]:
    """A cluster that asks for a second factor."""
    async with open_world(settings=REQUIRED) as world:
        yield world


def totp(code: str) -> Proof:
    return Proof(kind="totp", value=code)


async def become_a_providers(world: World, name: str = "alice") -> None:
    """Have a provider vouch for a user from now on."""
    users = world.service.cluster.stores.users
    read = await users.read(name)
    await users.swap(name, read, replace(read.value, origin="oidc/acme"))


async def test_what_was_begun_for_one_thing_is_over_for_any_other(strict: World) -> None:
    alice = Visitor(strict)
    acting = strict.proxy.acting_for((await alice.with_app()).secret)
    device = await acting.begin_device()
    with pytest.raises(AttemptOver):
        await acting.prove_again(attempt=device.attempt, proof=totp(alice.code()))
    proof = await acting.begin_proof()
    with pytest.raises(AttemptOver):
        await acting.add_device(attempt=proof.attempt, proof=totp(alice.code()), name="")
    with pytest.raises(AttemptOver):
        await acting.prove_again(
            attempt=proof.attempt, proof=Proof(kind="provider", value="I was there")
        )
    step = await alice.asked()
    with pytest.raises(AttemptOver):
        await alice.enrol(step, "totp", alice.code())

    bob = Visitor(strict, name="bob")
    setting_up = await bob.invited()
    assert isinstance(setting_up, NextStep)
    assert setting_up.totp
    bob.secret = setting_up.totp.secret
    with pytest.raises(AttemptOver):
        await bob.prove(setting_up, "totp", bob.code())


async def test_a_page_that_is_loaded_again_goes_on_with_what_was_begun(strict: World) -> None:
    """The secret that a phone has read already is the one that counts."""
    alice = Visitor(strict)
    acting = strict.proxy.acting_for((await alice.with_passkey(authenticator())).secret)
    first, second = await acting.begin_device(), await acting.begin_device()

    assert first.totp is not None
    assert first.totp == second.totp
    alice.secret = first.totp.secret
    await acting.add_device(attempt=first.attempt, proof=totp(alice.code()), name="phone")
    strict.pass_time(seconds=PERIOD)
    assert isinstance(await alice.sign_in(), SignedIn), "its passkey is not taken for an app"


async def test_where_there_is_a_password_alone_it_is_the_proof(world: World) -> None:
    signed = await world.alice()
    acting = world.proxy.acting_for(signed.secret)
    step = await acting.begin_proof()
    assert step.kinds == ("password",)
    with pytest.raises(AccessDenied) as told:
        await acting.prove_again(
            attempt=step.attempt, proof=Proof(kind="password", value="a wrong one")
        )
    assert told.value.reason == "wrong password"
    await acting.prove_again(attempt=step.attempt, proof=Proof(kind="password", value=PASSWORD))
    await acting.check_fresh_proof()
    with pytest.raises(NotFound):
        await acting.begin_device()


async def test_a_session_that_does_not_say_that_it_was_proven_wants_a_proof(world: World) -> None:
    """As those of before an upgrade, for the five minutes of which it would matter."""
    signed = await world.alice()
    acting = world.proxy.acting_for(signed.secret)
    await acting.check_fresh_proof()
    stored = world.service.cluster.stores.web_sessions
    await stored.put(signed.session.id, replace(signed.session, proven=None))

    with pytest.raises(ProofNeeded):
        await acting.check_fresh_proof()


async def test_a_person_without_a_password_proves_nothing_by_one(world: World) -> None:
    acting = world.proxy.acting_for((await world.alice()).secret)
    await world.service.cluster.stores.passwords.delete("alice")
    with pytest.raises(AccessDenied) as told:
        await acting.change_password(current=PASSWORD, new=NEW)

    assert told.value.reason == "wrong password"


async def test_who_signs_in_by_a_provider_has_no_password_to_change_here(world: World) -> None:
    acting = world.proxy.acting_for((await world.alice()).secret)
    await become_a_providers(world)
    with pytest.raises(InvalidRequest, match="oidc/acme"):
        await acting.change_password(current=PASSWORD, new=NEW)


async def test_guesses_in_an_open_browser_lock_the_account_for_the_right_password_too(
    strict: World,
) -> None:
    alice = Visitor(strict)
    acting = strict.proxy.acting_for((await alice.with_app()).secret)
    step = await acting.begin_proof()
    for _ in range(5):
        with pytest.raises(AccessDenied):
            await acting.prove_again(attempt=step.attempt, proof=totp(alice.wrong_code()))
    with pytest.raises(AccessDenied) as told:
        await acting.change_password(current=PASSWORD, new=NEW)
    assert told.value.reason == "the account is locked"
    with pytest.raises(AccessDenied) as told:
        await acting.prove_again(attempt=step.attempt, proof=totp(alice.code()))
    assert told.value.reason == "the account is locked"


async def test_a_passkey_alone_signs_nobody_in_for_whom_a_provider_must_vouch(
    strict: World,
) -> None:
    alice, passkey = Visitor(strict), authenticator()
    await alice.with_passkey(passkey)
    await become_a_providers(strict)
    step = await strict.proxy.begin_passkey(browser=alice.browser, remote=alice.remote)
    with pytest.raises(AccessDenied) as told:
        await alice.prove(step, "webauthn", passkey.get(step.webauthn))

    assert told.value.reason == "its owner signs in by oidc/acme"


async def test_what_is_no_passkey_is_none_where_one_was_asked_for(strict: World) -> None:
    alice = Visitor(strict)
    await alice.with_app()
    step = await strict.proxy.begin_passkey(browser=alice.browser, remote=alice.remote)
    with pytest.raises(AccessDenied) as told:
        await alice.prove(step, "totp", alice.code())

    assert told.value.reason == "it is no passkey"


async def test_a_person_has_so_many_devices_and_no_more(
    strict: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices_module, "MAX_DEVICES", 1)
    acting = strict.proxy.acting_for((await Visitor(strict).with_app()).secret)
    step = await acting.begin_device()
    proof = Proof(kind="webauthn", value=authenticator().create(step.webauthn))
    with pytest.raises(InvalidRequest, match="which is the most"):
        await acting.add_device(attempt=step.attempt, proof=proof, name="")


async def test_a_kind_that_the_cluster_does_not_take_is_not_set_up() -> None:
    policy = FactorPolicy(kinds=("webauthn",), required=True)
    async with open_world(settings=replace_policy(policy)) as world:
        alice = Visitor(world)
        acting = world.proxy.acting_for((await alice.with_passkey(authenticator())).secret)
        step = await acting.begin_device()
        assert step.totp is None
        with pytest.raises(InvalidRequest, match="does not take"):
            await acting.add_device(attempt=step.attempt, proof=totp("000000"), name="")


def replace_policy(policy: FactorPolicy) -> AuthSettings:
    return AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",), second_factor=policy)


async def test_with_the_last_device_its_recovery_codes_go_too() -> None:
    async with open_world(settings=OPTIONAL) as world:
        alice = Visitor(world)
        acting = world.proxy.acting_for((await alice.with_app()).secret)
        [device] = (await acting.own_account()).devices
        assert (await acting.own_account()).recovery_left > 0
        await acting.remove_device(id=device.id)

        account = await acting.own_account()
        assert (account.devices, account.recovery_left) == ((), 0)
        with pytest.raises(InvalidRequest):
            await acting.new_recovery_codes()


async def test_before_any_proxy_has_an_address_no_passkey_is_asked_for() -> None:
    """It would be asked for by no name, and made for none."""
    async with open_world(settings=AuthSettings(cluster=CLUSTER, proxy_addrs=())) as world:
        with pytest.raises(Unavailable, match="no proxy"):
            await world.proxy.begin_passkey(browser="0" * 64, remote="192.0.2.1")
