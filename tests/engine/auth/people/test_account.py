"""What people do about themselves, and what else their browsers may do after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.engine.auth.sso.visits import ANN, GOOGLE, Visit, session_of, sso_world
from tests.engine.auth.visitor import Visitor, authenticator
from tests.engine.auth.world import CLUSTER, GRAFANA, PASSWORD, PROXY, World, open_world
from tport.engine.access.totp import PERIOD
from tport.engine.api.answers import SignedIn
from tport.engine.api.cache import AuthCache
from tport.engine.api.factors import NextStep, Proof
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.signin import login
from tport.engine.errors import AccessDenied, AttemptOver, CompareFailed, NotFound, NotSignedIn
from tport.engine.types.event import Event
from tport.engine.types.factor import Factors
from tport.engine.types.user import PasswordRecord, User

NEW = "another five unrelated words here"
REQUIRED = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",))


async def test_az_04_a_changed_password_ends_what_was_opened_elsewhere_in_proxies_and_agents(
    world: World, autojump_clock: MockClock
) -> None:
    """They remember application sessions, and hear of no end of these: the user's epoch tells."""
    await world.alice()
    await world.serve(GRAFANA)
    thief, mine = await world.sign_in(), await world.sign_in()
    stolen = await world.open(thief)
    agent = AuthCache(world.agent, world.clock)
    proxy = AuthCache(world.proxy, world.clock)
    user = await world.service.cluster.stores.users.get("alice")
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.keep)
        await nursery.start(agent.keep)
        await proxy.app_session(stolen.session.id)

        await world.proxy.acting_for(mine.secret).change_password(current=PASSWORD, new=NEW)
        await trio.sleep(1)

        assert proxy.is_over(stolen.session.id)
        assert set(agent._known.epochs.values()) == {user.epoch + 1}
        nursery.cancel_scope.cancel()
    await world.proxy.web_session(id=mine.session.id)
    await world.open(mine)
    with pytest.raises(NotSignedIn):
        await world.proxy.web_session(id=thief.session.id)


async def test_a_sign_in_that_renews_a_hash_brings_no_old_password_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password changes after a sign-in with the old one was judged, before its hash is renewed."""
    await world.alice()
    store = world.service.cluster.stores.passwords
    changed = PasswordRecord(phc="the new one's", changed=world.clock())

    async def change(_: User) -> None:
        await store.put("alice", changed)

    monkeypatch.setattr(login, "needs_rehash", lambda _: True)
    monkeypatch.setattr(world.service.sessions, "check_may_sign_in", change)
    await world.sign_in()

    assert await store.get("alice") == changed


async def test_auth_07_a_device_that_is_set_up_while_the_user_is_reset_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who was in before a reset leaves no device behind, however the two fall together."""
    async with open_world(settings=REQUIRED) as world:
        thief = Visitor(world)
        step = await thief.invited()
        assert isinstance(step, NextStep)
        assert step.totp
        thief.secret = step.totp.secret
        devices = world.service.devices
        add = devices.add_totp

        async def reset_meanwhile(*args: Any, **more: Any) -> tuple[str, ...]:
            await world.admin.reset_user(name="alice")
            return await add(*args, **more)

        monkeypatch.setattr(devices, "add_totp", reset_meanwhile)
        with pytest.raises(AttemptOver):
            await thief.enrol(step, "totp", thief.code())

        assert await world.backend.range("/factors/") == []


async def test_devices_of_a_namesake_who_is_gone_keep_nobody_from_setting_one_up() -> None:
    async with open_world(settings=REQUIRED) as world:
        stores = world.service.cluster.stores
        await stores.factors.put(
            "alice", Factors(user_id="of one who was deleted", recovery=("x",))
        )
        alice = Visitor(world)
        await alice.with_app()
        assert (await stores.factors.get("alice")).recovery != ("x",)
        await alice.sign_in()


async def test_a_proof_in_between_begins_the_count_of_failures_anew(
    autojump_clock: MockClock,
) -> None:
    """Five in a row lock an account; one now and then, with right ones between, don't."""
    async with open_world(settings=REQUIRED) as world:
        alice = Visitor(world)
        await alice.with_app()
        acting = world.proxy.acting_for((await alice.sign_in()).secret)
        for _ in range(6):
            world.pass_time(seconds=PERIOD)
            step = await acting.begin_proof()
            with pytest.raises(AccessDenied):
                await acting.prove_again(
                    attempt=step.attempt, proof=Proof(kind="totp", value=alice.wrong_code())
                )
            await acting.prove_again(
                attempt=step.attempt, proof=Proof(kind="totp", value=alice.code())
            )


async def test_a_page_of_the_second_step_that_is_loaded_again_and_again_writes_nothing() -> None:
    """Nobody is signed in there. And another tab's challenge still counts."""
    async with open_world(settings=REQUIRED) as world:
        alice = Visitor(world)
        await alice.with_passkey(passkey := authenticator())
        step = await alice.asked()
        [kept] = await world.backend.range("/attempts/")
        for _ in range(20):
            again = await world.proxy.next_step(browser=alice.browser)
            assert again.webauthn == step.webauthn
        assert await world.backend.range("/attempts/") == [kept]

        world.pass_time(minutes=1)
        later = await world.proxy.next_step(browser=alice.browser)
        assert later.webauthn != step.webauthn
        with pytest.raises(AccessDenied):
            await alice.prove(step, "webauthn", passkey.get(step.webauthn))
        assert isinstance(
            await alice.prove(later, "webauthn", passkey.get(await anew(alice))), SignedIn
        )


async def anew(visitor: Visitor) -> str:
    return (await visitor.world.proxy.next_step(browser=visitor.browser)).webauthn


class Meanwhile:
    """Does something as soon as an event of one type is written down: in the middle of what writes it."""

    def __init__(
        self,
        world: World,
        type_: str,
        act: Callable[[], Awaitable[object]],
        patch: pytest.MonkeyPatch,
    ) -> None:
        self._record, self._type, self._act = world.audit.record, type_, act
        patch.setattr(world.audit, "record", self.record)

    async def record(self, event: Event) -> None:
        await self._record(event)
        if event.type == self._type:
            self._type = ""
            await self._act()


async def test_a_password_that_is_changed_while_the_user_is_reset_is_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AZ-04: who was in before a reset leaves no password behind."""
    thief = await world.alice()
    Meanwhile(
        world,
        "user.password_change",
        lambda: world.admin.reset_user(name="alice"),
        monkeypatch,
    )
    with pytest.raises(NotSignedIn):
        await world.proxy.acting_for(thief.secret).change_password(
            current=PASSWORD, new="six other words stand here now", known=""
        )
    for password in (PASSWORD, "six other words stand here now"):
        with pytest.raises(AccessDenied):
            await world.sign_in(password=password)


async def test_an_invite_makes_no_password_for_a_namesake(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    invite = await world.admin.create_user(name="alice", roles=("access",), traits={})

    async def made_anew() -> None:
        await world.admin.delete_user(name="alice")
        await world.admin.create_user(name="alice", roles=("editor",), traits={})

    Meanwhile(world, "user.password_change", made_anew, monkeypatch)
    with pytest.raises(NotFound, match="unknown, used or expired"):
        await world.accept(invite.url)
    with pytest.raises(AccessDenied):
        await world.sign_in()


async def test_a_reset_makes_no_link_for_whom_a_provider_has_vouched_for_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        await world.alice("ann@x.test")

        async def made_anew() -> None:
            await world.admin.delete_user(name="ann@x.test")
            session_of(await Visit(world).come(provider, **ANN))

        Meanwhile(world, "reset_password_token.create", made_anew, monkeypatch)
        with pytest.raises(CompareFailed, match="made anew meanwhile"):
            await world.admin.reset_user(name="ann@x.test")
        assert await world.backend.range("/invites/") == []
