"""What an agent tells of itself: its figures, and what keeps it from being well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from tport.engine.agent.apps import AgentApps
from tport.engine.agent.passage import Offered
from tport.engine.agent.tunnel import TunnelKeeper
from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.defaults import PRESENCE_TTL
from tport.engine.metrics.sample import Sample, Trouble, one

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`expires`: when the agent's certificate ends."""

    keeper: TunnelKeeper
    apps: AgentApps
    offered: Mapping[str, Offered]
    cache: AuthCache
    events: EventQueue
    expires: Callable[[], datetime]
    clock: Callable[[], datetime]

    async def figures(self) -> Iterable[Sample]:
        return list(self._figures())

    def _figures(self) -> Iterator[Sample]:
        yield one("tport_agent_tunnels", self.keeper.open_tunnels)
        yield one("tport_agent_requests", self.apps.running)
        yield one("tport_queue", self.events.waiting, "events")
        yield one("tport_shed_total", self.events.lost, "events")
        yield one("tport_auth_silence_seconds", self.cache.age)
        yield one("tport_agent_certificate_days_left", (self.expires() - self.clock()) / _DAY)
        for name, offer in self.offered.items():
            if (up := offer.upstream.health.up) is not None:
                yield one("tport_agent_app_up", up, name)

    def troubles(self) -> Iterator[Trouble]:
        if not self.keeper.connected:
            why = f": {self.keeper.problem}" if self.keeper.problem else ""
            yield Trouble("agent", f"no tunnel to the proxy{why}")
        if self.cache.age > PRESENCE_TTL:
            yield Trouble("agent", f"auth has said nothing for {self.cache.age:.0f} s")
        for name, offer in self.offered.items():
            if offer.upstream.health.up is False:
                yield Trouble("agent", f"application {name} does not answer", degrades=False)
        if self.expires() <= self.clock():
            yield Trouble("agent", "its certificate has expired and could not be renewed yet")
