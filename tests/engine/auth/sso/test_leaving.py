"""Users of providers who don't come back: what they block, when they go, and who stays."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.sso.visits import ANN, GOOGLE, Visit, session_of, sso_world
from tests.engine.auth.world import CLUSTER, GRAFANA, World
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.sso.leaving import AT_ONCE, EVERY, HELD, KEPT
from tport.engine.errors import InvalidRequest, NotSignedIn
from tport.engine.types.connector import ClaimMapping
from tport.engine.types.factor import Factors, TotpDevice
from tport.engine.types.lock import LockTarget
from tport.engine.types.resource import OidcResource, RoleResource
from tport.engine.types.role import Role
from tport.engine.types.user import User


async def names(world: World) -> list[str]:
    return [info.user.name for info in await world.admin.list_users()]


async def look(world: World) -> None:
    """Let auth look at who is gone once more."""
    world.pass_time(seconds=EVERY)
    await trio.sleep(EVERY)  # it asks each second whether it is time


async def hold(world: World) -> None:
    """Let who is gone now be so for as long as it takes to believe the clock."""
    await trio.sleep(EVERY + HELD)
    assert world.service.cluster.clock.behind == timedelta(0)


async def test_who_does_not_come_back_for_long_is_removed_and_begins_anew(
    autojump_clock: MockClock,
) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        await world.alice()
        first = session_of(await Visit(world).come(provider, **ANN))
        world.clock.now = first.session.expires + KEPT - 2 * timedelta(seconds=EVERY)
        await look(world)
        assert await names(world) == ["alice", "ann@x.test"]
        events = len(world.audit.events)
        await look(world)
        await hold(world)
        assert await names(world) == ["alice"]
        assert [event.type for event in world.audit.events[events:]] == []  # as Teleport's

        again = session_of(await Visit(world).come(provider, **ANN))
        assert again.session.user_id != first.session.user_id
        renamed = await Visit(world).come(provider, **ANN)
        session_of(renamed)


async def test_whom_a_lock_is_on_or_who_has_a_second_factor_stays(
    autojump_clock: MockClock,
) -> None:
    """Else a lock would be passed by under a new name, and a factor by setting up another."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=("tport.example.com:3080",))
    async with sso_world(GOOGLE, settings=settings) as (world, provider, _):
        for number, name in enumerate(("gone", "locked", "keyed")):
            person = ANN | {"sub": str(number), "email": f"{name}@x.test"}
            session_of(await Visit(world).come(provider, **person))
        await world.admin.create_lock(target=LockTarget(user="locked@x.test"), message="", ttl=0)
        stores = world.service.cluster.stores
        keyed = await stores.users.get("keyed@x.test")
        device = TotpDevice(id="1", name="phone", added=world.clock.now, secret="s", step=1)
        await stores.factors.put(keyed.name, Factors(user_id=keyed.id, devices=(device,)))
        world.pass_time(days=KEPT.days + 2)
        await hold(world)
        assert await names(world) == ["keyed@x.test", "locked@x.test"]


async def test_a_clock_that_was_ahead_puts_off_no_look(autojump_clock: MockClock) -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        world.pass_time(days=365)
        await look(world)
        world.pass_time(days=-365)
        await look(world)  # all sessions are ended by that
        first = session_of(await Visit(world).come(provider, **ANN))
        world.clock.now = first.session.expires + KEPT
        await hold(world)
        assert await names(world) == []


async def test_a_clock_that_is_ahead_for_a_while_removes_nobody(autojump_clock: MockClock) -> None:
    """However often it is: favourites and device tokens don't come back with it."""
    async with sso_world(GOOGLE) as (world, provider, _):
        session_of(await Visit(world).come(provider, **ANN))
        for _again in range(3):
            world.pass_time(days=365)
            await trio.sleep(HELD - EVERY)
            world.pass_time(days=-365)
            await trio.sleep(2 * EVERY)
            # What a provider vouched for ended as the clock was set back; the person is not gone.
            assert await names(world) == ["ann@x.test"]


async def test_one_look_removes_so_many_and_the_next_goes_on(autojump_clock: MockClock) -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        store = world.service.cluster.stores.users
        for number in range(AT_ONCE + 5):
            name = f"u{number}"
            gone = User(
                name=name,
                roles=("access",),
                origin="oidc/google",
                subject=f"s{number}",
                id=name,
                expires=world.clock.now,
            )
            await store.create(name, gone)
        world.pass_time(days=KEPT.days + 1)
        await hold(world)
        assert len(await names(world)) == 5
        await look(world)
        assert await names(world) == []


async def test_a_role_that_only_people_have_who_must_sign_in_anew_can_be_deleted() -> None:
    teams = ClaimMapping(claim="groups", value="dev", roles=("team",))
    async with sso_world() as (world, provider, _):
        await world.admin.put_resource(resource=RoleResource(role=Role(name="team")), mode="create")
        connector = replace(GOOGLE, claims_to_roles=(teams, *GOOGLE.claims_to_roles))
        await world.admin.put_resource(resource=OidcResource(connector=connector), mode="create")
        first = session_of(await Visit(world).come(provider, **ANN))
        with pytest.raises(InvalidRequest, match=r"still given to ann@x\.test"):
            await world.admin.delete_resource(kind="role", name="team")
        world.clock.now = first.session.expires
        await world.admin.delete_resource(kind="role", name="team")
        session_of(await Visit(world).come(provider, **ANN))
        [info] = await world.admin.list_users()
        assert info.user.roles == ("access",)


async def test_what_a_provider_vouched_for_does_not_last_longer_by_a_clock_that_is_set_back(
    autojump_clock: MockClock,
) -> None:
    """Sessions end then; what rests on the user alone, as device tokens do, would have gone on."""
    async with sso_world(GOOGLE) as (world, provider, _):
        await world.alice()
        await world.serve(GRAFANA)
        session_of(await Visit(world).come(provider, **ANN))
        world.pass_time(days=-3)
        await trio.sleep(2)
        for info in await world.admin.list_users():
            assert info.user.counts(world.clock.now) == info.user.is_local
        again = session_of(await Visit(world).come(provider, **ANN))
        assert (await world.proxy.web_session(id=again.session.id)).user == "ann@x.test"
        world.clock.now = again.session.expires
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=again.session.id)


async def test_who_comes_back_while_those_who_left_are_looked_for_stays(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tport")
    async with sso_world(GOOGLE) as (world, provider, _):
        first = session_of(await Visit(world).come(provider, **ANN))
        devices_of = world.service.devices.of

        async def back_meanwhile(user: User) -> Factors:
            monkeypatch.setattr(world.service.devices, "of", devices_of)
            session_of(await Visit(world).come(provider, **ANN))
            return await devices_of(user)

        monkeypatch.setattr(world.service.devices, "of", back_meanwhile)
        world.clock.now = first.session.expires + KEPT
        await hold(world)
        assert await names(world) == ["ann@x.test"]
        assert "were removed" not in caplog.text


async def test_a_session_counts_no_longer_than_its_persons_provider_vouches() -> None:
    async with sso_world(GOOGLE) as (world, provider, _):
        signed = session_of(await Visit(world).come(provider, **ANN))
        store = world.service.cluster.stores.users
        read = await store.read("ann@x.test")
        await store.swap("ann@x.test", read, replace(read.value, expires=world.clock.now))
        with pytest.raises(NotSignedIn):
            await world.proxy.web_session(id=signed.session.id)
