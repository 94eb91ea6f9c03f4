"""Who does nothing for too long signs in again; who works doesn't, wherever they work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.engine.auth.world import CLUSTER, GRAFANA, PROXY, World, open_world
from tport.engine.auth.cluster import AuthSettings
from tport.engine.errors import NotSignedIn
from tport.engine.types.factor import OFF


@pytest.fixture
async def world() -> AsyncIterator[World]:
    settings = AuthSettings(
        cluster=CLUSTER,
        proxy_addrs=(f"{PROXY}:3080",),
        second_factor=OFF,
        web_idle=timedelta(hours=1),
    )
    async with open_world(settings=settings) as world:
        yield world


async def test_auth_12_after_an_hour_of_nothing_the_sign_in_and_what_came_from_it_are_over(
    world: World,
) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    world.pass_time(minutes=59)
    await world.proxy.web_session(id=alice.session.id)
    world.pass_time(minutes=60)
    for ask in (
        world.proxy.web_session(id=alice.session.id),
        world.proxy.app_session(id=opened.session.id),
        world.proxy.sign_session(id=opened.session.id),
        world.proxy.acting_for(alice.secret).own_rights(),
    ):
        with pytest.raises(NotSignedIn):
            await ask


@pytest.mark.parametrize("where", ["pages", "an application"])
async def test_who_works_stays_signed_in_until_the_absolute_end(world: World, where: str) -> None:
    """A proxy asks auth of a session in use every few minutes."""
    alice = await world.alice()
    await world.serve(GRAFANA)
    opened = await world.open(alice)
    for _ in range(143):  # of 5 minutes: a little less than 12 hours
        world.pass_time(minutes=5)
        if where == "pages":
            await world.proxy.web_session(id=alice.session.id)
        else:
            await world.proxy.sign_session(id=opened.session.id)
    world.pass_time(minutes=5)
    with pytest.raises(NotSignedIn):
        await world.proxy.web_session(id=alice.session.id)


async def test_who_was_idle_too_long_is_not_listed_as_signed_in(world: World) -> None:
    alice = await world.alice()
    await world.serve(GRAFANA)
    await world.open(alice)
    world.pass_time(minutes=59)
    await world.proxy.web_session(id=alice.session.id)
    seen = world.clock()
    world.pass_time(minutes=59)
    found = await world.admin.list_sessions(user="", limit=10)
    assert {each.kind: each.seen for each in found} == {"web": seen, "app": None}
    world.pass_time(minutes=1)
    assert await world.admin.list_sessions(user="", limit=10) == ()


async def test_many_requests_of_one_minute_are_one_write(world: World) -> None:
    alice = await world.alice()
    world.pass_time(minutes=2)
    await world.proxy.web_session(id=alice.session.id)
    [first] = await world.backend.range("/seen/")
    for _ in range(10):
        world.pass_time(seconds=5)
        await world.proxy.web_session(id=alice.session.id)
    assert await world.backend.range("/seen/") == [first]
