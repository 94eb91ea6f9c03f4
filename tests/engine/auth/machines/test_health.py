"""What agents tell of their applications is shown with their own offers, and forgotten when they fall silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.apps.test_catalogue import acting
from tests.engine.auth.machines.test_watch import after, until_current
from tests.engine.auth.world import GRAFANA, JENKINS, World
from tests.fakes import START
from tport.engine.api.changes import AppsDown
from tport.engine.auth.machines.health import MAX_APPS, OLDEST
from tport.engine.defaults import HEALTH_TTL
from tport.engine.errors import InvalidRequest
from tport.engine.types.health import MAX_WORDS, AppHealth

UP = AppHealth(up=True, since=START)
DOWN = AppHealth(up=False, since=START, cause="connection refused", failed=START)


async def shown(world: World, name: str = "grafana") -> AppHealth | None:
    status = await world.admin.status()
    [server] = [server for server in status.app_servers if server.app.name == name]
    return server.health


async def test_who_may_open_an_application_sees_that_it_is_down_and_who_administers_why(
    world: World,
) -> None:
    alice = await acting(world)
    await world.serve(GRAFANA, JENKINS)
    [grafana, _] = await alice.own_apps()
    assert (grafana.up, grafana.answers) == (True, None)

    await world.agent.report_health(apps={"grafana": DOWN, "jenkins": UP})

    [grafana, jenkins] = await alice.own_apps()
    assert (grafana.up, grafana.answers, grafana.since) == (True, False, START)
    assert (jenkins.up, jenkins.answers) == (True, True)
    assert await shown(world) == DOWN
    [info, _] = await world.admin.list_apps()
    assert [server.health for server in info.servers] == [DOWN]


async def test_an_application_is_up_that_answers_one_of_its_agents(world: World) -> None:
    first = await world.offer(GRAFANA, host="agent-1")
    second = await world.offer(GRAFANA, host="agent-2")
    await world.tunnel(*first, *second)
    one, two = (world.caller("agent", name=name) for name in ("agent-1", "agent-2"))

    await one.report_health(apps={"grafana": DOWN})
    [info] = await world.admin.list_apps()
    assert info.answers is None, "the other hasn't told"
    world.pass_time(seconds=30)
    await two.report_health(apps={"grafana": replace(UP, since=world.clock.now)})
    [info] = await world.admin.list_apps()
    assert (info.answers, info.since) == (True, world.clock.now)
    await two.report_health(apps={"grafana": replace(DOWN, since=world.clock.now)})
    [info] = await world.admin.list_apps()
    assert (info.answers, info.since) == (False, world.clock.now)


async def test_what_is_not_told_again_is_forgotten(world: World, autojump_clock: MockClock) -> None:
    await world.serve(GRAFANA)
    await world.agent.report_health(apps={"grafana": DOWN})

    world.pass_time(seconds=HEALTH_TTL - 1)
    assert await shown(world) == DOWN
    world.pass_time(seconds=1)
    await world.serve(GRAFANA)
    assert await shown(world) is None


async def test_a_report_takes_the_place_of_the_one_before(world: World) -> None:
    await world.serve(GRAFANA, JENKINS)
    await world.agent.report_health(apps={"grafana": DOWN})
    await world.agent.report_health(apps={"jenkins": UP})
    assert await shown(world) is None


async def test_proxies_are_told_what_is_down_and_when_it_is_not(
    world: World, autojump_clock: MockClock
) -> None:
    """And whatever an agent says that is no change costs them nothing."""
    await world.serve(GRAFANA, JENKINS)
    await world.agent.report_health(apps={"grafana": DOWN, "jenkins": UP})
    await trio.sleep(1.5)
    async with world.proxy.watch() as changes:
        first = await until_current(changes)
        assert AppsDown(down=(("grafana", "agent-1"),)) in first

        await world.agent.report_health(apps={"grafana": replace(DOWN, cause="other words")})
        await trio.sleep(2)
        await world.agent.report_health(apps={"grafana": UP, "jenkins": UP})
        assert await after(changes) == AppsDown(down=())


async def test_nothing_but_memory_holds_it(world: World) -> None:
    await world.serve(GRAFANA)
    before = await world.backend.range("/")
    await world.agent.report_health(apps={"grafana": DOWN})
    await trio.lowlevel.checkpoint()
    assert await world.backend.range("/") == before


@pytest.mark.parametrize(
    "apps",
    [
        {f"a{n}": UP for n in range(MAX_APPS + 1)},
        {"x" * 64: UP},
        {"grafana": replace(DOWN, cause="x" * (MAX_WORDS + 1))},
        {"grafana": replace(DOWN, advice="x" * (MAX_WORDS + 1))},
        {"grafana": replace(DOWN, since=datetime(2026, 1, 1))},
    ],
    ids=["many", "name", "cause", "advice", "zone"],
)
async def test_what_is_too_much_is_refused_and_what_was_told_before_stays(
    world: World, apps: dict[str, AppHealth]
) -> None:
    await world.serve(GRAFANA)
    await world.agent.report_health(apps={"grafana": UP})

    with pytest.raises(InvalidRequest):
        await world.agent.report_health(apps=apps)

    assert await shown(world) == UP


async def test_a_time_and_words_that_no_page_could_show_are_made_such(world: World) -> None:
    await world.serve(GRAFANA)
    far = timezone(timedelta(hours=14))
    mad = AppHealth(
        up=False,
        since=datetime(1, 1, 1, tzinfo=far),
        cause="a\x1b[31m\nb\u202e",
        failed=datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=14))),
    )

    await world.agent.report_health(apps={"grafana": mad})

    told = await shown(world)
    assert told is not None
    assert (told.since, told.failed) == (world.clock.now - OLDEST, world.clock.now)
    assert told.since.tzinfo is UTC
    assert told.cause == "a [31m b "
