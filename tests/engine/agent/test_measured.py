"""What an agent says of itself: nothing while all is well, and each thing that is wrong by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import pytest

from tests.engine.agent.test_rewrite import app
from tests.fakes import START, WallClock
from tport.engine.agent.apps import AgentApps
from tport.engine.agent.measured import Measured
from tport.engine.agent.passage import Offered
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.tunnel import TunnelKeeper
from tport.engine.agent.upstream import Upstream
from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.defaults import PRESENCE_TTL


@dataclass
class Parts:
    """What is looked at, well unless a test says otherwise."""

    connected: bool = True
    problem: str = ""
    open_tunnels: int = 2
    running: int = 3
    waiting: int = 4
    lost: int = 5
    age: float = 6.0


class Agent:
    def __init__(self) -> None:
        self.parts, self.clock = Parts(), WallClock()
        self.expires = START + timedelta(days=10)
        definition = app()
        self.offer = Offered(
            definition,
            Upstream(definition, self.clock),
            Rewriter(definition, hostname="box"),
        )
        self.measured = Measured(
            keeper=cast("TunnelKeeper", self.parts),
            apps=cast("AgentApps", self.parts),
            offered={"grafana": self.offer},
            cache=cast("AuthCache", self.parts),
            events=cast("EventQueue", self.parts),
            expires=lambda: self.expires,
            clock=self.clock,
        )

    def fail(self) -> None:
        """Have the application fail twice, which is down."""
        for now in (0.0, 10.0):
            self.offer.upstream.health.unreachable("connection refused", "", now)

    async def told(self) -> dict[str, float]:
        return {sample.name: sample.values[0] for sample in await self.measured.figures()}

    @property
    def troubles(self) -> list[str]:
        return [trouble.why for trouble in self.measured.troubles()]


async def test_each_figure_is_of_the_part_that_it_names() -> None:
    agent = Agent()
    figures = await agent.told()

    assert figures == {
        "tport_agent_tunnels": 2,
        "tport_agent_requests": 3,
        "tport_queue": 4,
        "tport_shed_total": 5,
        "tport_auth_silence_seconds": 6,
        "tport_agent_certificate_days_left": 10,
    }
    assert agent.troubles == []


@pytest.mark.parametrize("up", [True, False])
async def test_an_application_has_a_figure_once_something_is_known_of_it(up: bool) -> None:
    agent = Agent()
    assert "tport_agent_app_up" not in await agent.told()
    if up:
        agent.offer.upstream.health.answered(200, 0.0)
    else:
        agent.fail()

    assert (await agent.told())["tport_agent_app_up"] == up


@pytest.mark.parametrize(
    ("problem", "said"),
    [("", "no tunnel to the proxy"), ("no route", "no tunnel to the proxy: no route")],
)
def test_an_agent_without_a_tunnel_says_why_when_it_knows(problem: str, said: str) -> None:
    agent = Agent()
    agent.parts.connected, agent.parts.problem = False, problem

    assert agent.troubles == [said]


def test_a_silent_auth_is_trouble() -> None:
    agent = Agent()
    agent.parts.age = PRESENCE_TTL + 1

    assert agent.troubles == [f"auth has said nothing for {PRESENCE_TTL + 1:.0f} s"]


def test_an_application_that_is_down_is_told_and_does_not_make_the_agent_unwell() -> None:
    agent = Agent()
    agent.fail()
    [trouble] = agent.measured.troubles()

    assert trouble.why == "application grafana does not answer"
    assert not trouble.degrades


def test_an_expired_certificate_is_trouble() -> None:
    agent = Agent()
    agent.clock.now = agent.expires

    assert agent.troubles == ["its certificate has expired and could not be renewed yet"]
