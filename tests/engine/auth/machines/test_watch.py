"""What proxies and agents follow."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.engine.auth.world import GRAFANA, World
from tport.engine.api.changes import (
    AppServersChanged,
    AuthoritiesChanged,
    Change,
    Current,
    EpochChanged,
    ProxiesChanged,
    RoleChanged,
    SessionEnded,
    UserChanged,
    UserDeleted,
)
from tport.engine.auth.machines.watch import QUEUE
from tport.engine.errors import AccessDenied, Unavailable
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
