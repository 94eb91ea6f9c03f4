"""The Applications page lists what may be opened now, and nothing that may not; and what is at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from tests.engine.auth.world import GRAFANA, JENKINS, PROXY, World, open_world
from tport.engine.api.catalogue import OwnApp
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.apps.shelf import MAX_FAVOURITES, MAX_OPENED
from tport.engine.errors import InvalidRequest, LimitExceeded, NotFound
from tport.engine.types.app import App
from tport.engine.types.role import Conditions, Role


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


async def acting(world: World, name: str = "alice", role: str = "access") -> AuthAPI:
    return world.proxy.acting_for((await world.alice(name, roles=(role,))).secret)


def names(apps: tuple[OwnApp, ...]) -> list[str]:
    return [app.name for app in apps]


async def test_applications_are_listed_once_and_by_name_with_their_address(world: World) -> None:
    alice = await acting(world)
    own = App(name="wiki", uri="http://localhost:1", public_addr="wiki.example.org")
    first = await world.offer(JENKINS, GRAFANA, own)
    second = await world.offer(GRAFANA, host="agent-2")
    await world.tunnel(*first, *second)

    apps = await alice.own_apps()

    assert [(app.name, app.address) for app in apps] == [
        ("grafana", f"grafana.{PROXY}:3080"),
        ("jenkins", f"jenkins.{PROXY}:3080"),
        ("wiki", "wiki.example.org:3080"),
    ]
    assert all(app.up and app.since for app in apps)


async def test_what_no_role_allows_or_the_cluster_refused_is_not_there(world: World) -> None:
    dev = Role(name="dev", allow=Conditions(app_labels={"env": ("dev",)}))
    await world.admin.put_role(role=dev)
    bad = App(name="bad", uri="http://localhost:1", public_addr="10.0.0.1", labels={"env": "dev"})
    await world.serve(GRAFANA, JENKINS, bad)

    assert names(await (await acting(world, role="dev")).own_apps()) == ["grafana"]
    assert await (await acting(world, "erin", role="editor")).own_apps() == ()


async def test_of_an_application_that_two_agents_offer_one_allowed_offer_suffices(
    world: World,
) -> None:
    dev = Role(name="dev", allow=Conditions(app_labels={"env": ("dev",)}))
    await world.admin.put_role(role=dev)
    other = App(name="grafana", uri=GRAFANA.uri, labels={"env": "prod", "secret": "yes"})
    first = await world.offer(other, host="agent-1")
    second = await world.offer(GRAFANA, host="agent-2")
    await world.tunnel(*first, *second)

    [app] = await (await acting(world, role="dev")).own_apps()

    assert app.labels == {"env": "dev"}, "the other offer's labels are not theirs to know"


async def test_one_that_is_away_is_told_to_who_may_open_it_and_to_nobody_else(
    world: World, autojump_clock: MockClock
) -> None:
    dev = Role(name="dev", allow=Conditions(app_labels={"env": ("dev",)}))
    await world.admin.put_role(role=dev)
    alice = await acting(world, role="dev")
    await world.serve(GRAFANA, JENKINS)
    await world.tunnel()
    world.pass_time(minutes=1)
    await trio.sleep(2)  # auth looks each second

    [app] = await alice.own_apps()

    assert (app.name, app.up, app.since) == ("grafana", False, world.clock.now)


async def test_favourites_are_each_person_s_own_and_end_with_them(world: World) -> None:
    alice, bob = await acting(world), await acting(world, "bob")
    await world.serve(GRAFANA, JENKINS)

    await alice.mark_favourite(app="jenkins", favourite=True)
    assert [app.favourite for app in await alice.own_apps()] == [False, True]
    assert [app.favourite for app in await bob.own_apps()] == [False, False]
    await alice.mark_favourite(app="jenkins", favourite=False)
    assert not any(app.favourite for app in await alice.own_apps())

    await alice.mark_favourite(app="grafana", favourite=True)
    await world.admin.delete_user(name="alice")
    again = await acting(world)
    assert not any(app.favourite for app in await again.own_apps())
    assert await world.backend.range("/shelves/") == []


async def test_what_was_opened_is_remembered_with_the_time_and_no_more_than_some(
    world: World, mock_clock: MockClock
) -> None:
    """In no time: an agent that isn't heard of for 15 s is gone, and a slow machine takes longer."""
    signed = await world.alice()
    alice = world.proxy.acting_for(signed.secret)
    apps = [App(name=f"app-{n}", uri="http://localhost:1") for n in range(MAX_OPENED + 3)]
    await world.serve(*apps)
    for app in apps:
        world.pass_time(seconds=30)
        await world.open(signed, f"{app.name}.{PROXY}")
    opened = {app.name: app.opened for app in await alice.own_apps() if app.opened}

    assert len(opened) == MAX_OPENED
    assert max(opened, key=lambda name: str(opened[name])) == apps[-1].name
    assert opened[apps[-1].name] == world.clock.now


async def test_favourites_are_bounded_and_names(world: World) -> None:
    alice = await acting(world)
    for number in range(MAX_FAVOURITES):
        await alice.mark_favourite(app=f"app-{number}", favourite=True)
    with pytest.raises(LimitExceeded):
        await alice.mark_favourite(app="one-more", favourite=True)
    await alice.mark_favourite(app="app-1", favourite=True)
    with pytest.raises(InvalidRequest):
        await alice.mark_favourite(app="x" * 10_000, favourite=True)


async def test_the_icon_of_an_app_is_for_whom_any_of_its_offers_is_allowed(world: World) -> None:
    dev = Role(name="dev", allow=Conditions(app_labels={"env": ("dev",)}))
    await world.admin.put_role(role=dev)
    other = App(name="grafana", uri=GRAFANA.uri, labels={"env": "prod"})
    first = await world.offer(other, host="agent-1")
    second = await world.offer(GRAFANA, host="agent-2")
    await world.tunnel(*first, *second)
    alice = await acting(world, role="dev")
    user = await world.service.cluster.stores.users.get("alice")
    assert await world.service.catalogue.check_of(user, "grafana") == "grafana"
    with pytest.raises(NotFound):  # nobody has looked at it yet
        await alice.own_app_icon(app="grafana")
    await world.tunnel(*first)
    with pytest.raises(NotFound):
        await world.service.catalogue.check_of(user, "grafana")
