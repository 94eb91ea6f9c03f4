"""The agent looks at its applications by connecting, and tells auth what changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from tests.fakes import START
from tport.engine.agent.health_watch import LOOKS, HealthWatch
from tport.engine.agent.passage import Offered
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import HEALTH_REPORT
from tport.engine.errors import ConnectionProblem, Unavailable
from tport.engine.types.app import App
from tport.engine.types.health import AppHealth


class Place:
    """Where an application would be: takes connections while `up`."""

    def __init__(self) -> None:
        self.up = True
        self.heard: list[trio.testing.MemoryReceiveStream] = []
        self.dials = 0
        self.hangs = False

    async def dial(self) -> trio.abc.Stream:
        self.dials += 1
        if self.hangs:
            await trio.sleep(10)
        if not self.up or self.hangs:
            raise ConnectionProblem("connection refused", hint="start it")
        ours, its = trio.testing.memory_stream_pair()
        self.heard.append(its.receive_stream)
        return ours


class Told:
    """Auth, as far as it hears of applications."""

    def __init__(self) -> None:
        self.reports: list[Mapping[str, AppHealth]] = []
        self.away = False

    async def report_health(self, *, apps: Mapping[str, AppHealth]) -> None:
        if self.away:
            raise Unavailable("away")
        self.reports.append(apps)

    def last(self, name: str = "a") -> AppHealth:
        return self.reports[-1][name]


def offered(name: str, place: Place) -> Offered:
    app = App(name=name, uri="http://localhost:3000")
    upstream = Upstream(app, lambda: START, dial=place.dial)
    return Offered(app, upstream, Rewriter(app, hostname="h"))


@pytest.fixture
def told() -> Told:
    return Told()


def watch(told: Told, offers: Mapping[str, Offered]) -> HealthWatch:
    return HealthWatch(offers, cast("AuthAPI", told))


async def test_an_application_that_stops_is_told_within_15_seconds_and_one_that_is_back_too(
    told: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    place = Place()
    nursery.start_soon(watch(told, {"a": offered("a", place)}).keep)
    await trio.sleep(60)
    assert told.last().up

    place.up = False
    await trio.sleep(15)
    assert not told.last().up
    assert told.last().cause == "http://localhost:3000 can't be reached: connection refused"
    assert told.last().advice == "Start it."

    place.up = True
    await trio.sleep(15)
    assert told.last().up


async def test_a_look_sends_nothing(
    told: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    place = Place()
    nursery.start_soon(watch(told, {"a": offered("a", place)}).keep)
    await trio.sleep(30)

    assert len(place.heard) > 1
    for stream in place.heard:
        assert await stream.receive_some(1) == b""


async def test_no_look_is_taken_while_requests_are_answered(
    told: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    place = Place()
    offer = offered("a", place)
    nursery.start_soon(watch(told, {"a": offer}).keep)
    await trio.sleep(0.5)
    before = place.dials

    for _ in range(20):
        offer.upstream.health.answered(200, trio.current_time())
        await trio.sleep(5)

    assert place.dials == before


async def test_what_stays_is_told_seldom_and_again_when_auth_may_have_forgotten(
    told: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    watching = watch(told, {"a": offered("a", Place())})
    nursery.start_soon(watching.keep)
    await trio.sleep(2.5)
    assert len(told.reports) == 1
    watching.tell_again()
    await trio.sleep(2)
    assert len(told.reports) == 2
    await trio.sleep(4 * HEALTH_REPORT)
    assert 5 <= len(told.reports) <= 6


async def test_what_was_not_heard_is_told_with_the_next_report(
    told: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    told.away = True
    nursery.start_soon(watch(told, {"a": offered("a", Place())}).keep)
    await trio.sleep(5)
    told.away = False
    await trio.sleep(HEALTH_REPORT)
    assert told.reports


async def test_an_application_that_is_offered_no_more_is_told_of_no_more(
    told: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    offers = {"a": offered("a", Place())}
    nursery.start_soon(watch(told, offers).keep)
    await trio.sleep(2.5)

    del offers["a"]
    await trio.sleep(2)

    assert told.reports[-1] == {}
    count = len(told.reports)
    await trio.sleep(10 * HEALTH_REPORT)
    assert len(told.reports) == count, "there is nothing to tell"


async def test_those_that_hang_hold_up_some_looks_and_are_a_bounded_number(
    told: Told, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    hanging = Place()
    hanging.hangs = True
    well = Place()
    offers = {f"a{n}": offered(f"a{n}", hanging) for n in range(LOOKS + 10)}
    offers["well"] = offered("well", well)
    nursery.start_soon(watch(told, offers).keep)
    await trio.sleep(5)
    assert hanging.dials == LOOKS

    await trio.sleep(20)

    assert well.dials
    assert told.last("well").up
