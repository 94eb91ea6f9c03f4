"""What a sign-in takes, by what the cluster demands and what the person has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.engine.auth.visitor import Visitor, authenticator
from tests.engine.auth.world import CLUSTER, PROXY, World, open_world
from tests.fakes import WallClock
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep, Proof
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import AccessDenied, AttemptOver, InvalidRequest, NotSignedIn
from tport.engine.types.factor import FactorPolicy, SecondFactor
from tport.engine.types.preference import Preference


@asynccontextmanager
async def cluster(word: SecondFactor, clock: WallClock | None = None) -> AsyncIterator[World]:
    settings = AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=(f"{PROXY}:3080",),
        second_factor=FactorPolicy.from_word(word),
    )
    async with open_world(settings=settings, clock=clock) as world:
        yield world


async def test_off_asks_for_a_password_alone_and_a_long_one() -> None:
    async with cluster("off") as world:
        alice = Visitor(world)
        assert isinstance(await alice.invited(), SignedIn)
        assert isinstance(await alice.password(), SignedIn)
        invite = await world.admin.create_user(name="bob", roles=("access",), traits={})
        info = await world.proxy.invite(token=invite.url.rpartition("/")[2])
        assert info.password_min == 15


async def test_on_makes_no_session_before_a_device_is_set_up() -> None:
    """AUTH-10: not by the invite, not by the password, not by skipping."""
    async with cluster("on") as world:
        alice = Visitor(world)
        step = await alice.invited()
        assert isinstance(step, NextStep)
        assert (step.to, step.kinds, step.may_skip) == ("enrol", ("totp", "webauthn"), False)
        with pytest.raises(AccessDenied):
            await world.proxy.skip_enrolment(
                browser=alice.browser, attempt=step.attempt, remote="", user_agent=""
            )
        again = await alice.password()
        assert isinstance(again, NextStep)
        assert again.to == "enrol"
        assert await world.backend.range("/sessions/") == []
        assert "T1000I" not in world.audit.codes()


async def test_a_person_with_an_app_signs_in_by_password_and_code() -> None:
    async with cluster("on") as world:
        alice = Visitor(world)
        signed = await alice.with_app()
        assert len(signed.recovery_codes) == 10
        assert (await world.proxy.web_session(id=signed.session.id)).user == "alice"
        step = await alice.asked()
        assert (step.to, step.kinds) == ("prove", ("totp", "recovery"))
        again = await alice.prove(step, "totp", alice.code())
        assert isinstance(again, SignedIn)
        assert again.recovery_codes == ()


async def test_12_characters_do_where_a_second_factor_is_required() -> None:
    async with cluster("on") as world:
        invite = await world.admin.create_user(name="bob", roles=("access",), traits={})
        info = await world.proxy.invite(token=invite.url.rpartition("/")[2])
        assert info.password_min == 12


async def test_optional_offers_one_once_and_asks_for_it_ever_after() -> None:
    async with cluster("optional") as world:
        alice, bob = Visitor(world), Visitor(world, name="bob")
        step = await alice.invited()
        assert isinstance(step, NextStep)
        assert (step.to, step.may_skip) == ("enrol", True)
        skipped = await world.proxy.skip_enrolment(
            browser=alice.browser, attempt=step.attempt, remote="", user_agent=""
        )
        assert skipped.session.user == "alice"
        assert isinstance(await alice.password(), SignedIn)
        await bob.with_app()
        assert (await bob.asked()).to == "prove"


async def test_who_has_only_a_kind_that_does_not_count_shows_it_and_sets_up_one_that_does() -> None:
    """A cluster goes from codes to passkeys: nobody is locked out, nobody gets by without."""
    clock = WallClock()
    async with cluster("otp", clock) as world:
        alice = Visitor(world)
        await alice.with_app()
        webauthn = Preference(second_factor=FactorPolicy.from_word("webauthn"))
        await world.admin.set_preference(preference=webauthn, revision=0)
        shown = await alice.prove(await alice.asked(), "totp", alice.code())
        assert isinstance(shown, NextStep)
        assert (shown.to, shown.kinds) == ("enrol", ("webauthn",))
        passkey = authenticator()
        await alice.enrol(shown, "webauthn", passkey.create(shown.webauthn))
        world.pass_time(seconds=30)
        step = await alice.asked()
        assert step.kinds == ("webauthn", "recovery")
        with pytest.raises(AccessDenied):
            await alice.prove(step, "totp", alice.code())


async def test_a_recovery_code_works_once_for_its_owner_alone() -> None:
    """AUTH-10: another person's code is no code."""
    async with cluster("on") as world:
        alice, bob = Visitor(world), Visitor(world, name="bob", remote="192.0.2.2")
        await alice.with_app()
        await bob.with_app()
        with pytest.raises(AccessDenied):
            await bob.prove(await bob.asked(), "recovery", alice.codes[0])
        typed = alice.codes[0].upper().replace("-", " ")
        signed = await alice.prove(await alice.asked(), "recovery", typed)
        assert isinstance(signed, SignedIn)
        with pytest.raises(AccessDenied):
            await alice.prove(await alice.asked(), "recovery", alice.codes[0])
        [used] = [event for event in world.audit.events if event.type == "recovery_code.used"]
        assert used.fields["left"] == 9


async def test_what_was_begun_is_over_after_its_time_its_success_and_a_new_beginning() -> None:
    async with cluster("on") as world:
        alice = Visitor(world)
        await alice.with_app()
        first = await alice.asked()
        second = await alice.asked()
        with pytest.raises(AttemptOver):
            await alice.prove(first, "totp", alice.code())
        assert isinstance(await alice.prove(second, "totp", alice.code()), SignedIn)
        world.pass_time(seconds=30)
        with pytest.raises(AttemptOver):
            await alice.prove(second, "totp", alice.code())
        third = await alice.asked()
        world.pass_time(minutes=5)
        with pytest.raises(AttemptOver):
            await alice.prove(third, "totp", alice.code())


async def test_what_one_browser_began_no_other_finishes() -> None:
    """WEB-06: the right code does not help who holds another cookie."""
    async with cluster("on") as world:
        alice = Visitor(world)
        await alice.with_app()
        step = await alice.asked()
        thief = Visitor(world, secret=alice.secret)
        with pytest.raises(AttemptOver):
            await thief.prove(step, "totp", thief.code())
        with pytest.raises(AttemptOver):
            await world.proxy.next_step(browser=thief.browser)
        for none in ("", "x", "0" * 63, "G" * 64):
            with pytest.raises(InvalidRequest):
                await world.proxy.next_step(browser=none)


async def test_a_reset_ends_what_was_begun_and_takes_every_device() -> None:
    """AUTH-07: who had password, phone and paper starts anew, with all three."""
    async with cluster("on") as world:
        alice = Visitor(world)
        signed = await alice.with_app()
        step = await alice.asked()
        invite = await world.admin.reset_user(name="alice")
        with pytest.raises(AttemptOver):
            await alice.prove(step, "totp", alice.code())
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=signed.session.id)
        assert await world.backend.range("/factors/") == []
        begun = await alice.accept(invite.url)
        assert isinstance(begun, NextStep)
        assert begun.to == "enrol"
        assert begun.totp is not None
        assert begun.totp.secret != alice.secret


async def test_a_page_shown_again_shows_the_same_secret_and_a_double_click_makes_one_device() -> (
    None
):
    async with cluster("on") as world:
        alice = Visitor(world)
        first = await alice.invited()
        again = await world.proxy.next_step(browser=alice.browser)
        assert isinstance(first, NextStep)
        assert first.totp is not None
        assert again.totp == first.totp
        alice.secret = first.totp.secret
        await alice.enrol(first, "totp", alice.code())
        with pytest.raises(AttemptOver):
            await alice.enrol(first, "totp", alice.code())


async def test_who_has_but_the_password_sets_nothing_up_once_the_person_has_a_device() -> None:
    """What is begun while there is no device lasts half an hour; the person may be quicker."""
    async with cluster("on") as world:
        alice = Visitor(world)
        await alice.invited()
        thief = Visitor(world)
        begun = await thief.asked()
        own = await alice.asked()
        assert begun.totp is not None
        assert own.totp is not None
        alice.secret, thief.secret = own.totp.secret, begun.totp.secret
        await alice.enrol(own, "totp", alice.code())
        with pytest.raises(AttemptOver):
            await thief.enrol(begun, "totp", thief.code())
        with pytest.raises(AttemptOver):
            await thief.enrol(begun, "webauthn", authenticator().create(begun.webauthn))
        world.pass_time(seconds=30)
        assert (await thief.asked()).to == "prove"
        assert (await alice.sign_in()).session.user == "alice"


async def test_what_may_be_skipped_is_skipped_no_more_once_the_person_has_a_device() -> None:
    async with cluster("optional") as world:
        alice = Visitor(world)
        begun = await alice.invited()
        assert isinstance(begun, NextStep)
        elsewhere = Visitor(world)
        signed = await elsewhere.password()
        assert isinstance(signed, SignedIn)
        acting = world.proxy.acting_for(signed.secret)
        step = await acting.begin_device()
        assert step.totp is not None
        elsewhere.secret = step.totp.secret
        proof = Proof(kind="totp", value=elsewhere.code())
        await acting.add_device(attempt=step.attempt, proof=proof, name="")
        with pytest.raises(AttemptOver):
            await world.proxy.skip_enrolment(
                browser=alice.browser, attempt=begun.attempt, remote="", user_agent=""
            )


async def test_a_wrong_code_at_set_up_says_what_to_look_at_and_the_next_one_works() -> None:
    async with cluster("on") as world:
        alice = Visitor(world)
        step = await alice.invited()
        assert isinstance(step, NextStep)
        assert step.totp is not None
        alice.secret = step.totp.secret
        with pytest.raises(InvalidRequest, match="that code is wrong") as wrong:
            await alice.enrol(step, "totp", alice.wrong_code())
        assert "clock" in wrong.value.hint
        assert (await alice.enrol(step, "totp", alice.code())).secret
