"""What proxies and agents follow."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.world import GRAFANA, World
from tport.engine.api.changes import (
    AcmeChanged,
    AppDefined,
    AppServersChanged,
    AppUndefined,
    AuthoritiesChanged,
    Change,
    Current,
    EpochChanged,
    LockChanged,
    LockDeleted,
    ProxiesChanged,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
    UserChanged,
    UserDeleted,
)
from tport.engine.auth.machines.watch import (
    CURRENT_INTERVAL,
    QUEUE,
    TURNS,
    WATCHED_DEADLINE,
    Watches,
)
from tport.engine.errors import AccessDenied, Unavailable
from tport.engine.types.acme import AcmeState
from tport.engine.types.app import App
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.role import Role
from tport.engine.types.user import user_key


async def until_current(changes: AsyncIterator[Change]) -> list[Change]:
    told: list[Change] = []
    async for change in changes:
        if isinstance(change, Current):
            break
        told.append(change)
    return told


async def read_on(changes: AsyncIterator[Change]) -> None:
    async for _ in changes:
        pass


async def after(changes: AsyncIterator[Change]) -> Change:
    """Return the next change that says something."""
    async for change in changes:
        if not isinstance(change, Current):
            return change
    raise AssertionError("the watch ended")


async def test_a_proxy_is_told_all_there_is_and_then_what_changes(
    world: World, autojump_clock: MockClock
) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    async with world.proxy.watch() as changes:
        first = await until_current(changes)
        kinds = {type(change) for change in first}
        assert kinds == {
            RoleChanged,
            UserChanged,
            AuthoritiesChanged,
            AppServersChanged,
            ProxiesChanged,
        }
        opened = await world.open(alice)
        await world.proxy.end_app_session(id=opened.session.id)
        assert await after(changes) == SessionEnded(id=opened.session.id)
        user = await world.admin.update_user(name="alice", roles=("auditor",), traits=None)
        assert await after(changes) == UserChanged(user=user)
        await world.admin.delete_user(name="alice")
        assert await after(changes) == UserDeleted(name="alice")
        role = Role(name="new")
        await world.admin.put_role(role=role)
        assert await after(changes) == RoleChanged(role=role)
        await world.tunnel()
        assert await after(changes) == AppServersChanged(servers=())


async def test_an_agent_learns_epochs_and_no_names(world: World, autojump_clock: MockClock) -> None:
    """AG-12 (auth part)."""
    alice = await world.alice()
    key = user_key(alice.session.user_id)
    async with world.agent.watch() as changes:
        first = await until_current(changes)
        assert EpochChanged(user_key=key, epoch=1) in first
        assert not any(isinstance(c, UserChanged | AppServersChanged) for c in first)
        assert "alice" not in repr(first)
        await world.admin.reset_user(name="alice")
        assert await after(changes) == EpochChanged(user_key=key, epoch=2)
        await world.admin.delete_user(name="alice")
        assert await after(changes) == EpochChanged(user_key=key, epoch=-1)
        await world.proxy.sign_out(id=alice.session.id)
        assert await after(changes) == SessionEnded(id=alice.session.id)


async def test_that_all_is_told_is_said_each_second(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.agent.watch() as changes:
        await until_current(changes)
        started = trio.current_time()
        for _ in range(3):
            assert await until_current(changes) == []
        assert trio.current_time() - started == pytest.approx(3)


async def test_who_came_at_another_time_is_assured_at_another_time(
    world: World, autojump_clock: MockClock
) -> None:
    """A hundred agents are not told all in one breath, in which nothing else could be done."""
    waited: list[float] = []

    async def follow() -> None:
        came = trio.current_time()
        async with world.proxy.watch() as changes:
            for _ in range(2):
                await until_current(changes)
            waited.append(trio.current_time() - came)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await trio.sleep(0.4)
        nursery.start_soon(follow)

    assert waited == [pytest.approx(CURRENT_INTERVAL, abs=CURRENT_INTERVAL / TURNS)] * 2


async def test_a_process_that_stood_still_assures_once_and_not_for_each_second(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.agent.watch() as changes:
        await until_current(changes)
        autojump_clock.jump(30)
        for _ in range(2):
            await until_current(changes)
        assert trio.current_time() - 30 == pytest.approx(1, abs=1 / TURNS)


async def test_what_is_still_to_be_told_comes_before_the_assurance_that_it_was(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.proxy.watch() as changes:
        await until_current(changes)
        await trio.sleep(3)  # three assurances that nobody reads
        role = Role(name="new")
        await world.admin.put_role(role=role)
        await trio.testing.wait_all_tasks_blocked()
        assert await until_current(changes) == [RoleChanged(role=role)]


async def test_a_change_made_while_the_list_is_read_is_not_lost(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.proxy.watch() as changes:
        await anext(changes)  # it is in the middle of its first list
        user = (await world.alice()).session.user
        told = await until_current(changes)
        if not any(isinstance(c, UserChanged) for c in told):
            told.append(await after(changes))
        assert any(isinstance(c, UserChanged) and c.user.name == user for c in told)


async def test_a_watcher_that_does_not_read_is_let_go(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.proxy.watch() as changes:
        await until_current(changes)
        for number in range(QUEUE + 2):
            await world.service.roles.put(Role(name=f"r{number % 7}"), by="test")
            await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(Unavailable):
            await read_on(changes)


async def test_who_may_not_watch_learns_nothing(world: World) -> None:
    for caller in (world.anyone, world.admin):
        with pytest.raises(AccessDenied):
            async with caller.watch():
                raise AssertionError("it was let in")


async def test_what_was_in_the_first_list_is_not_told_again(
    world: World, autojump_clock: MockClock
) -> None:
    """Changes are queued before the list is read, so that none is lost; those in the list are old then.

    What was gone again by then comes and goes.
    """
    async with world.proxy.watch() as changes:
        for text in ("first", "second"):
            await world.admin.put_role(role=Role(name="dev", description=text))
        await world.admin.put_role(role=Role(name="short-lived"))
        await world.admin.delete_role(name="short-lived")
        await world.alice("alice", roles=("dev",))
        await world.admin.update_user(name="alice", roles=("auditor",), traits=None)
        await world.alice("bob")
        await world.admin.delete_user(name="bob")
        lock = await world.admin.create_lock(target=LockTarget(role="dev"), message="", ttl=0)
        lifted = await world.admin.create_lock(target=LockTarget(role="editor"), message="", ttl=0)
        await world.admin.delete_lock(name=lifted.name)
        await trio.testing.wait_all_tasks_blocked()

        told = await until_current(changes)
        later = await until_current(changes)

    roles = [each.role for each in told if isinstance(each, RoleChanged)]
    assert [role.description for role in roles if role.name == "dev"] == ["second"]
    users = [each.user for each in told if isinstance(each, UserChanged)]
    assert [(user.name, user.roles) for user in users] == [("alice", ("auditor",))]
    assert [each.lock.name for each in told if isinstance(each, LockChanged)] == [lock.name]
    assert [type(each) for each in later] == [
        *(RoleChanged, RoleDeleted),
        *(UserChanged, UserDeleted),
        *(LockChanged, LockDeleted),
    ]
    assert not [each for each in later if "name='dev'" in repr(each) or lock.name in repr(each)]


async def test_a_role_that_is_deleted_is_told_to_proxies_and_agents(
    world: World, autojump_clock: MockClock
) -> None:
    """AZ-04: access ends with it."""
    await world.admin.put_role(role=Role(name="dev"))
    async with world.proxy.watch() as seen, world.agent.watch() as heard:
        for changes in (seen, heard):
            await until_current(changes)
        await world.admin.delete_role(name="dev")
        assert [await after(seen), await after(heard)] == [RoleDeleted(name="dev")] * 2


async def test_an_agent_is_told_of_locks_on_roles_and_of_no_name_that_is_locked(
    world: World, autojump_clock: MockClock
) -> None:
    """AZ-04: a locked user's grants are void to it, and valid again with the lock's end."""
    await world.alice()
    [info] = await world.admin.list_users()
    key = user_key(info.user.id)
    async with world.agent.watch() as changes:
        await until_current(changes)
        role = await world.admin.create_lock(target=LockTarget(role="editor"), message="m", ttl=0)
        told = await after(changes)
        user = await world.admin.create_lock(target=LockTarget(user="alice"), message="m", ttl=0)
        void = await after(changes)
        await world.admin.delete_lock(name=user.name)
        valid = await after(changes)
        await world.admin.delete_lock(name=role.name)
        lifted = await after(changes)

    assert told == LockChanged(lock=Lock(name=role.name, target=LockTarget(role="editor")))
    assert void == EpochChanged(user_key=key, epoch=-1)
    assert valid == EpochChanged(user_key=key, epoch=info.user.epoch)
    assert lifted == LockDeleted(name=role.name)


async def test_a_lock_that_is_moved_from_a_role_to_a_user_is_told_as_both(
    world: World, autojump_clock: MockClock
) -> None:
    await world.alice()
    lock = await world.admin.create_lock(target=LockTarget(role="editor"), message="", ttl=0)
    async with world.agent.watch() as changes:
        await until_current(changes)
        await world.service.cluster.stores.locks.put(
            lock.name, replace(lock, target=LockTarget(user="alice"))
        )
        told = [await after(changes), await after(changes)]

    assert told[0] == LockDeleted(name=lock.name)
    assert isinstance(told[1], EpochChanged)
    assert told[1].epoch == -1


async def test_an_agent_hears_of_applications_that_are_handed_out_and_a_proxy_does_not(
    world: World, autojump_clock: MockClock
) -> None:
    stores = world.service.cluster.stores
    async with world.agent.watch() as heard, world.proxy.watch() as seen:
        await stores.app_resources.put("early", App(name="early", uri="http://localhost:1"))
        await stores.app_resources.put("gone", App(name="gone", uri="http://localhost:1"))
        await stores.app_resources.delete("gone")
        await trio.testing.wait_all_tasks_blocked()
        first = await until_current(heard)
        assert await until_current(heard) == [
            AppDefined(app=App(name="gone", uri="http://localhost:1")),
            AppUndefined(name="gone"),
        ]
        later = App(name="later", uri="http://localhost:2")
        await stores.app_resources.put("later", later)
        await stores.app_resources.delete("early")
        told = [await after(heard), await after(heard)]
        of_proxy = [*await until_current(seen), *await until_current(seen)]

    assert [each.app.name for each in first if isinstance(each, AppDefined)] == ["early"]
    assert told == [AppDefined(app=later), AppUndefined(name="early")]
    assert not any(isinstance(each, AppDefined | AppUndefined) for each in of_proxy)


async def test_when_storage_loses_a_watch_every_follower_begins_anew(
    world: World, autojump_clock: MockClock
) -> None:
    """AZ-01: what was missed can't be known, so nobody goes on with what they have."""
    async with world.proxy.watch() as changes:
        await until_current(changes)
        world.backend.close()
        with pytest.raises(Unavailable, match="watch"):
            await read_on(changes)


async def test_who_begins_to_follow_while_storage_is_not_watched_waits_until_it_is(
    world: World, autojump_clock: MockClock
) -> None:
    """AZ-01: else a lock of that moment would never be told, and all be said to have been told.

    Nor does anybody read all there is twice.
    """
    locks = world.service.cluster.stores.locks
    world.backend.close()  # ends the watches there are, and no more
    await trio.testing.wait_all_tasks_blocked()
    lock = Lock(name="l", target=LockTarget(user="alice"), created=world.clock.now)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(locks.put, "l", lock)
        async with world.proxy.watch() as changes:
            assert trio.current_time() - began == pytest.approx(CURRENT_INTERVAL)
            assert LockChanged(lock=lock) in await until_current(changes)
            await locks.delete("l")
            assert await after(changes) == LockDeleted(name="l")
            assert await until_current(changes) == []


async def test_nobody_waits_for_a_storage_that_is_never_watched(
    world: World, autojump_clock: MockClock
) -> None:
    service = world.service
    watches = Watches(service.cluster, service.presence, service.healths)  # kept by nobody
    with pytest.raises(Unavailable, match="watch"):
        async with watches.watch("proxy"):
            raise AssertionError("it was let in")

    assert trio.current_time() == WATCHED_DEADLINE


async def test_certificates_of_acme_are_told_to_proxies_once_and_to_agents_never(
    world: World, autojump_clock: MockClock
) -> None:
    stores = world.service.cluster.stores
    state = AcmeState(directory="https://ca.test", name="x.test", names=("x.test",))
    await stores.acme.put("early", state)
    async with world.proxy.watch() as seen, world.agent.watch() as heard:
        await stores.acme.put("early", replace(state, failures=1))  # queued, and in the list
        await trio.testing.wait_all_tasks_blocked()
        first = await until_current(seen)
        assert [each for each in await until_current(seen) if isinstance(each, AcmeChanged)] == []
        await stores.acme.put("early", replace(state, failures=2))
        await stores.acme.delete("early")  # changes nothing: what was shown stays until it ends
        later = await until_current(seen)
        of_agent = [*await until_current(heard), *await until_current(heard)]

    assert [c.state.failures for c in first if isinstance(c, AcmeChanged)] == [1]
    assert [type(c) for c in later] == [AcmeChanged]
    assert not any(isinstance(each, AcmeChanged) for each in of_agent)


async def test_a_locked_person_who_is_no_user_is_told_to_no_agent(
    world: World, autojump_clock: MockClock
) -> None:
    """A lock may outlast its user; agents know users by key alone, and there is none."""
    stores = world.service.cluster.stores
    async with world.agent.watch() as heard:
        await until_current(heard)
        lock = Lock(name="l", target=LockTarget(user="nobody"))
        await stores.locks.put("l", lock)
        await stores.locks.put("l", replace(lock, message="still"))
        await stores.locks.delete("l")
        assert await until_current(heard) == []
