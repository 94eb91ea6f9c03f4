"""Whether applications answer, as their agents told last. Memory only, forgotten like presence.

What an agent says is kept under its own name and found by its own offers: of another agent's
applications it can say nothing that anybody hears.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from msgspec.structs import replace

from tport.engine.defaults import HEALTH_TTL
from tport.engine.errors import InvalidRequest
from tport.engine.types.app import AppServer
from tport.engine.types.health import MAX_WORDS, AppHealth

MAX_APPS: Final = 1000  # of one agent; as many as it may offer
MAX_NAME: Final = 63  # characters; a DNS label
OLDEST: Final = timedelta(days=3650)  # what is said to have begun before this ago, began then

_TTL = timedelta(seconds=HEALTH_TTL)


@dataclass(frozen=True, slots=True)
class _Told:
    apps: Mapping[str, AppHealth]
    at: datetime


class Healths:
    """Attributes:
    down: each application that doesn't answer an agent, with that agent's id; as of the last tick.
    on_change: called, by `tick`, when `down` has become another.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}  # by the agent's id
        self.down: tuple[tuple[str, str], ...] = ()
        self.on_change: list[Callable[[], None]] = []

    def told(
        self, host_id: str, apps: Mapping[str, AppHealth], pinned: tuple[str, ...] | None
    ) -> None:
        """Take what an agent tells; see `AuthAPI.report_health`.

        Args:
            pinned: the names that its certificate allows, None: any; of others nothing is kept.
        """
        if len(apps) > MAX_APPS or any(len(name) > MAX_NAME for name in apps):
            raise InvalidRequest(f"more than {MAX_APPS} applications, or a name too long")
        now = self._clock()
        kept = {
            name: _checked(health, now)
            for name, health in apps.items()
            if pinned is None or name in pinned
        }
        self._told[host_id] = _Told(kept, now)

    def of(self, server: AppServer) -> AppHealth | None:
        """Return how the application behind this offer is; None: not known."""
        told = self._told.get(server.host_id)
        if told is None or server.refused or self._clock() - told.at >= _TTL:
            return None
        return told.apps.get(server.app.name)

    def joined(self, servers: Iterable[AppServer]) -> tuple[AppServer, ...]:
        """Return these offers with how their applications are."""
        return tuple(replace(server, health=self.of(server)) for server in servers)

    def tick(self) -> None:
        """Forget who has fallen silent; call it each second."""
        now = self._clock()
        self._told = {h: told for h, told in self._told.items() if now - told.at < _TTL}
        down = tuple(
            (name, host)
            for host, told in sorted(self._told.items())
            for name, health in sorted(told.apps.items())
            if not health.up
        )
        if down != self.down:
            self.down = down
            for changed in self.on_change:
                changed()


def answers(servers: Sequence[AppServer]) -> bool | None:
    """Tell whether an application answers any of the agents that offer it; None: not known."""
    known = [server.health for server in servers if server.health is not None]
    if any(health.up for health in known):
        return True
    return False if known and len(known) == len(servers) else None


def _checked(health: AppHealth, now: datetime) -> AppHealth:
    if max(len(health.cause), len(health.advice)) > MAX_WORDS:
        raise InvalidRequest(f"a cause or an advice of more than {MAX_WORDS} characters")
    return replace(
        health,
        since=_moment(health.since, now),
        failed=None if health.failed is None else _moment(health.failed, now),
        cause=_one_line(health.cause),
        advice=_one_line(health.advice),
    )


def _moment(told: datetime, now: datetime) -> datetime:
    """Return a time by an agent's clock as one that pages can show: not after now, by ours."""
    if told.tzinfo is None:
        raise InvalidRequest("a time without its zone")
    return min(max(told, now - OLDEST), now).astimezone(UTC)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
