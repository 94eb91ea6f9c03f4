"""Security items that changing how people sign in touches: each test holds the ID of its item."""

from __future__ import annotations

import pytest

from tests.engine.auth.test_preference import cluster, put, wants
from tests.engine.auth.visitor import Visitor, authenticator
from tests.engine.auth.world import World
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import AccessDenied, ProofNeeded
from tport.engine.types.factor import SecondFactor

LATER = 6  # minutes: a proof is too old


async def test_auth_10_what_was_begun_before_a_policy_got_stricter_ends_by_the_stricter() -> None:
    """AUTH-10: neither a step that could be skipped nor one by a kind that counts no more."""
    async with cluster("optional") as world:
        alice, bob = Visitor(world), Visitor(world, name="bob", remote="192.0.2.2")
        begun = await alice.invited()
        assert isinstance(begun, NextStep)
        assert begun.may_skip
        passkey = authenticator()
        await bob.with_passkey(passkey)
        alone = await world.proxy.begin_passkey(browser=bob.browser, remote=bob.remote)

        await put(world, wants("otp"))

        with pytest.raises(AccessDenied):
            await world.proxy.skip_enrolment(
                browser=alice.browser, attempt=begun.attempt, remote="", user_agent=""
            )
        assert not (await world.proxy.next_step(browser=alice.browser)).may_skip
        with pytest.raises(AccessDenied):
            await bob.prove(alone, "webauthn", passkey.get(alone.webauthn))


async def test_auth_10_a_stricter_policy_locks_nobody_out_and_lets_nobody_by() -> None:
    """AUTH-10: who has a password alone sets a device up before there is a session."""
    async with cluster("off") as world:
        editor = Visitor(world, name="editor")
        assert isinstance(await editor.invited("editor"), SignedIn)
        acting = world.proxy.acting_for((await in_by_password(editor)).secret)

        await acting.set_preference(preference=wants("on"), revision=0)

        step = await editor.password()
        assert isinstance(step, NextStep)
        assert (step.to, step.may_skip) == ("enrol", False)
        assert step.totp is not None
        editor.secret = step.totp.secret
        assert (await editor.enrol(step, "totp", editor.code())).recovery_codes


async def test_auth_10_the_last_device_is_protected_from_the_moment_one_is_required() -> None:
    async with cluster("optional") as world:
        alice = Visitor(world)
        acting = world.proxy.acting_for((await alice.with_app()).secret)
        [device] = (await acting.own_account()).devices
        await put(world, wants("on"))
        with pytest.raises(Exception, match="your last device"):
            await acting.remove_device(id=device.id)


@pytest.mark.parametrize("word", ["off", "on"])
async def test_auth_12_who_changes_how_people_sign_in_has_just_proven_who_they_are(
    word: SecondFactor,
) -> None:
    """AUTH-12: for a session that has lain for a while, neither weaker nor stricter, nor back."""
    async with cluster("optional") as world:
        acting = await lain_editor(world)
        with pytest.raises(ProofNeeded):
            await acting.set_preference(preference=wants(word), revision=0)
        await put(world, wants(word))
        with pytest.raises(ProofNeeded):
            await acting.reset_preference()
        assert (await world.proxy.factor_policy()).word == word


async def test_az_05_settings_are_for_who_administers_and_say_no_secret() -> None:
    """AZ-05: nor can a role that edits users, say, weaken how everybody signs in."""
    async with cluster("on") as world:
        for role in ("access", "auditor"):
            person = await signed(world, role, role)
            with pytest.raises(AccessDenied):
                await world.proxy.acting_for(person.secret).list_settings()
            with pytest.raises(AccessDenied):
                await world.proxy.acting_for(person.secret).set_preference(
                    preference=wants("off"), revision=0
                )
        editor = await signed(world, "editor", "editor")
        assert await world.proxy.acting_for(editor.secret).list_settings()


async def signed(world: World, name: str, role: str) -> SignedIn:
    await world.admin.create_user(name=name, roles=(role,), traits={})
    user = await world.service.cluster.stores.users.get(name)
    return await world.service.sessions.make(user, "192.0.2.1", "UA", method="invite")


async def lain_editor(world: World) -> AuthAPI:
    secret = (await signed(world, "editor", "editor")).secret
    world.pass_time(minutes=LATER)
    return world.proxy.acting_for(secret)


async def in_by_password(visitor: Visitor) -> SignedIn:
    signed = await visitor.password()
    assert isinstance(signed, SignedIn)
    return signed
