"""What a preview of a role tells, and that telling it holds nobody up."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.auth.world import GRAFANA, JENKINS, World
from tport.engine.access.rbac import is_app_allowed
from tport.engine.auth.rights import role_editing
from tport.engine.errors import LimitExceeded
from tport.engine.types.role import Conditions, Role

USERS = 20
DEV = Role(name="dev", allow=Conditions(app_labels={"env": ("dev",)}))
PROD = Role(name="dev", allow=Conditions(app_labels={"env": ("prod",)}))


async def office(world: World) -> None:
    """Make USERS people, every other of whom has the role `dev`."""
    await world.serve(GRAFANA, JENKINS)
    await world.admin.create_role(role=DEV)
    for number in range(USERS):
        roles = ("dev",) if number % 2 == 0 else ("auditor",)
        await world.admin.create_user(name=f"user{number:02}", roles=roles, traits={})


async def test_a_preview_tells_what_each_opens_now_and_then(world: World) -> None:
    await office(world)

    told = await world.admin.preview_role(role=PROD)

    assert told.alone == ("jenkins",)
    assert {(u.now, u.then) for u in told.users[::2]} == {(("grafana",), ("jenkins",))}
    assert {(u.now, u.then) for u in told.users[1::2]} == {((), ())}


async def test_others_have_their_turn_between_two_users_of_a_preview(world: World) -> None:
    await office(world)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_turns)
        await world.admin.preview_role(role=PROD)
        nursery.cancel_scope.cancel()

    assert turns >= USERS


async def test_equal_labels_are_judged_once_for_a_user(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office(world)
    await world.serve(*(replace(GRAFANA, name=f"app{number}") for number in range(50)))
    judged = 0

    def counted(
        roles: Mapping[str, Role],
        names: tuple[str, ...],
        traits: Mapping[str, tuple[str, ...]],
        labels: Mapping[str, str],
    ) -> bool:
        nonlocal judged
        judged += 1
        return is_app_allowed(roles, names, traits, labels)

    monkeypatch.setattr(role_editing, "is_app_allowed", counted)
    told = await world.admin.preview_role(role=PROD)

    assert len(told.users[0].now) == 50
    assert judged <= 1 + 2 * USERS


async def test_one_preview_goes_on_at_a_time_and_others_do_not_wait_without_end(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    users = world.service.cluster.stores.users
    go_on, all_users = trio.Event(), users.all

    async def slowly() -> object:
        await go_on.wait()
        return await all_users()

    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(users, "all", slowly)
            nursery.start_soon(lambda: world.admin.preview_role(role=DEV))
            await wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(LimitExceeded):
            await world.admin.preview_role(role=PROD)
        assert trio.current_time() - began == pytest.approx(role_editing.TURN_WAIT)
        nursery.start_soon(lambda: world.admin.preview_role(role=PROD))
        await wait_all_tasks_blocked()
        go_on.set()
