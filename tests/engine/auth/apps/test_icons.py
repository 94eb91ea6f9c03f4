"""Icons come from the agent that was asked, for who may open the application; rarely, and bounded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.auth.apps.test_probes import asked
from tests.engine.auth.world import GRAFANA, JENKINS, World, open_world
from tests.fakes import START
from tests.pictures import HTML, PNG, png
from tport.engine.api.changes import Change, IconAsked
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.apps import icons
from tport.engine.auth.apps.icons import ANSWERED, MAX_ASKED, RETRY
from tport.engine.errors import AccessDenied, InvalidRequest, NotFound
from tport.engine.types.app import App
from tport.engine.types.health import AppHealth
from tport.engine.types.icon import icon_of

DAY = 300.0  # s, of those here: auth looks about each second, which takes a while for a whole one


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(icons, "DAY", DAY)
    async with open_world() as world:
        yield world


async def acting(world: World, name: str = "alice", role: str = "access") -> AuthAPI:
    return world.proxy.acting_for((await world.alice(name, roles=(role,))).secret)


async def look(person: AuthAPI, told: list[Change]) -> Sequence[str]:
    """Open the Applications page; return which icons agents are asked for by that."""
    told.clear()
    await person.own_apps()
    await wait_all_tasks_blocked()
    return [change.app for change in told if isinstance(change, IconAsked)]


async def tags(person: AuthAPI) -> list[str]:
    return [app.icon for app in await person.own_apps()]


def tag(body: bytes) -> str:
    icon = icon_of(body)
    assert icon is not None
    return icon.tag


async def test_an_icon_is_asked_for_when_somebody_looks_and_then_each_day(
    world: World, autojump_clock: MockClock
) -> None:
    await world.serve(GRAFANA)
    alice, bob = await acting(world), await acting(world, "bob")
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        assert told == [], "nobody looked"

        assert await look(alice, told) == ["grafana"]
        assert await look(bob, told) == []
        assert await tags(alice) == [""]
        await world.agent.tell_icon(app="grafana", icon=PNG, answered=True)

        assert await tags(alice) == await tags(bob) == [tag(PNG)]
        icon = await alice.own_app_icon(app="grafana")
        assert (icon.body, icon.media_type) == (PNG, "image/png")
        await trio.sleep(DAY - 1)
        assert await look(alice, told) == []
        await trio.sleep(1)
        assert await look(alice, told) == ["grafana"]
        assert await tags(alice) == [tag(PNG)], "the old one is shown until there is a new one"
        await world.agent.tell_icon(app="grafana", icon=b"", answered=True)
        assert await tags(alice) == [""]
        nursery.cancel_scope.cancel()


async def test_it_is_asked_for_anew_when_the_application_was_away(
    world: World, autojump_clock: MockClock
) -> None:
    servers = await world.serve(GRAFANA)
    alice = await acting(world)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        await look(alice, told)
        await world.agent.tell_icon(app="grafana", icon=PNG, answered=True)

        await world.tunnel()
        assert await tags(alice) == [tag(PNG)], "it is shown while the application is away"
        await trio.sleep(RETRY)
        await world.tunnel(*servers)

        assert await look(alice, told) == ["grafana"]
        nursery.cancel_scope.cancel()


async def test_one_that_is_down_is_not_asked_and_asked_anew_once_it_answers(
    world: World, autojump_clock: MockClock
) -> None:
    await world.serve(GRAFANA)
    alice = await acting(world)
    up = AppHealth(up=True, since=START)
    down = AppHealth(up=False, since=START, cause="it refused the connection")
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        await look(alice, told)
        await world.agent.tell_icon(app="grafana", icon=PNG, answered=True)

        await world.agent.report_health(apps={"grafana": down})
        assert await look(alice, told) == []
        assert await tags(alice) == [tag(PNG)], "it is shown while the application is down"
        await world.agent.report_health(apps={"grafana": up})

        assert await look(alice, told) == ["grafana"]
        nursery.cancel_scope.cancel()


async def test_without_an_answer_it_is_asked_for_a_minute_later(
    world: World, autojump_clock: MockClock
) -> None:
    """Of the application, or of its agent; what was known of it stays."""
    await world.serve(GRAFANA)
    alice = await acting(world)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        await look(alice, told)
        await world.agent.tell_icon(app="grafana", icon=b"", answered=False)
        assert await look(alice, told) == []
        await trio.sleep(RETRY)
        assert await look(alice, told) == ["grafana"]

        await trio.sleep(ANSWERED)
        with pytest.raises(NotFound):
            await world.agent.tell_icon(app="grafana", icon=PNG, answered=True)
        assert await look(alice, told) == ["grafana"]
        nursery.cancel_scope.cancel()


async def test_only_the_agent_that_was_asked_tells_and_only_pictures(
    world: World, autojump_clock: MockClock
) -> None:
    first = await world.offer(GRAFANA)
    second = await world.offer(JENKINS, host="agent-2")
    await world.tunnel(*first, *second)
    alice = await acting(world)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        with pytest.raises(NotFound):
            await world.agent.tell_icon(app="grafana", icon=PNG, answered=True)
        await look(alice, told)

        with pytest.raises(NotFound):
            await world.caller("agent", name="agent-2").tell_icon(
                app="grafana", icon=PNG, answered=True
            )
        with pytest.raises(NotFound):
            await world.agent.tell_icon(app="jenkins", icon=PNG, answered=True)
        for caller in (world.proxy, world.admin, world.anyone):
            with pytest.raises(AccessDenied):
                await caller.tell_icon(app="grafana", icon=PNG, answered=True)
        with pytest.raises(InvalidRequest):
            await world.agent.tell_icon(app="grafana", icon=HTML, answered=True)

        assert await tags(alice) == ["", ""]
        nursery.cancel_scope.cancel()


async def test_few_are_asked_for_at_a_time_and_each_answer_makes_room(
    world: World, autojump_clock: MockClock
) -> None:
    names = [f"app-{number:02}" for number in range(MAX_ASKED + 2)]
    await world.serve(*(App(name=name, uri="http://localhost:1") for name in names))
    alice = await acting(world)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        assert await look(alice, told) == names[:MAX_ASKED]
        told.clear()

        await world.agent.tell_icon(app="app-03", icon=PNG, answered=True)
        await world.agent.tell_icon(app="app-04", icon=b"", answered=True)
        await wait_all_tasks_blocked()

        assert told == [IconAsked(app=name) for name in names[MAX_ASKED:]]
        nursery.cancel_scope.cancel()


async def test_pictures_take_bounded_memory_and_none_is_asked_for_in_circles(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = {"app-1": png(colour=(1, 1, 1)), "app-2": png(colour=(2, 2, 2)), "app-3": PNG}
    monkeypatch.setattr(icons, "MAX_TOTAL", len(pictures["app-2"]) + len(PNG))
    await world.serve(*(App(name=name, uri="http://localhost:1") for name in pictures))
    alice = await acting(world)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        await look(alice, told)
        for name, picture in pictures.items():
            await world.agent.tell_icon(app=name, icon=picture, answered=True)

        assert await tags(alice) == ["", tag(pictures["app-2"]), tag(PNG)]
        assert await look(alice, told) == []
        await trio.sleep(DAY)
        assert len(await look(alice, told)) == 3
        nursery.cancel_scope.cancel()


async def test_what_is_remembered_of_applications_is_bounded(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(icons, "MAX_APPS", 2)
    await world.serve(*(App(name=f"app-{n}", uri="http://localhost:1") for n in range(4)))
    alice = await acting(world)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(asked, world.agent)
        await look(alice, told)
        for number in range(4):
            await world.agent.tell_icon(app=f"app-{number}", icon=PNG, answered=True)
        assert len([one for one in await tags(alice) if one]) <= 2
        nursery.cancel_scope.cancel()
