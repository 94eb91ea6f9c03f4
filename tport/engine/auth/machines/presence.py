"""Who is there now: what each proxy said last, forgotten when it falls silent. Memory only.

How long it has been silent is told by a clock that nobody sets: one that jumps ahead hides nothing.

Every auth process that restarts is told all of it anew within PRESENCE_INTERVAL; until then
`is_complete` is false, and what isn't known may still be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from msgspec.structs import replace

from tport.engine.api.answers import AgentInfo, ProxyReport
from tport.engine.defaults import PRESENCE_TTL
from tport.engine.types.app import AppServer


@dataclass(frozen=True, slots=True)
class _Heard:
    report: ProxyReport
    at: float  # s


class Presence:
    """`on_change` is called when the offers or the proxies alive are not what they were."""

    def __init__(self, clock: Callable[[], float], proxy_addrs: tuple[str, ...]) -> None:
        """`clock`: s, monotonic."""
        self._clock = clock
        self._configured = proxy_addrs
        self._heard: dict[str, _Heard] = {}
        self._started = clock()
        self._servers: tuple[AppServer, ...] = ()
        self._proxies: tuple[str, ...] = ()
        self._expected: frozenset[str] | None = None
        self.on_change: list[Callable[[], None]] = []

    @property
    def servers(self) -> tuple[AppServer, ...]:
        """What is offered now and counts, and what is refused; one per agent and name."""
        return self._servers

    @property
    def proxies(self) -> tuple[str, ...]:
        """The ids of the proxy processes alive now, sorted."""
        return self._proxies

    @property
    def is_complete(self) -> bool:
        """Tell whether every proxy alive has had time to report since this process began."""
        return self._clock() - self._started >= PRESENCE_TTL

    @property
    def knows_proxies(self) -> bool:
        """Tell whether each proxy alive is among `proxies`. Their agents may still be on their way."""
        if self._expected is not None:
            return self._expected <= self._heard.keys()
        return self.is_complete

    @property
    def proxy_addrs(self) -> tuple[str, ...]:
        """host:port of the proxies, the main one first."""
        reported = (
            address
            for _, heard in sorted(self._heard.items())
            for address in heard.report.public_addrs
        )
        return tuple(dict.fromkeys((*self._configured, *reported)))

    @property
    def agents(self) -> tuple[AgentInfo, ...]:
        found: dict[str, AgentInfo] = {}
        for proxy_id, heard in sorted(self._heard.items()):
            for tunnel in heard.report.tunnels:
                known = found.get(tunnel.host_id)
                found[tunnel.host_id] = AgentInfo(
                    host_id=tunnel.host_id,
                    hostname=tunnel.hostname,
                    version=tunnel.version,
                    remote=tunnel.remote,
                    since=min(tunnel.since, known.since) if known else tunnel.since,
                    proxies=tuple(dict.fromkeys((*(known.proxies if known else ()), proxy_id))),
                )
        return tuple(found.values())

    def hosts_of(self, app: str) -> set[str]:
        """Return the ids of the agents whose offer of this name counts now."""
        return {s.host_id for s in self._servers if s.app.name == app and not s.refused}

    def report(self, report: ProxyReport) -> None:
        before = self._heard.get(report.proxy_id)
        self._heard[report.proxy_id] = _Heard(report, self._clock())
        if before is None or before.report != report:
            self._settle()

    def expect(self, proxies: Iterable[str]) -> None:
        """Say which proxies live, where that is known: because this process alone starts any."""
        self._expected = frozenset(proxies)

    def forget(self, proxy_id: str) -> None:
        """Forget a proxy that is known to have ended."""
        if self._heard.pop(proxy_id, None) is not None:
            self._settle()

    def tick(self) -> None:
        """Forget who has been silent for PRESENCE_TTL; call it each second."""
        now = self._clock()
        silent = [id_ for id_, heard in self._heard.items() if now - heard.at >= PRESENCE_TTL]
        for proxy_id in silent:
            del self._heard[proxy_id]
        if silent:
            self._settle()

    def _settle(self) -> None:
        servers: dict[tuple[str, str], AppServer] = {}
        for _, heard in sorted(self._heard.items()):
            for tunnel in heard.report.tunnels:
                for server in tunnel.servers:
                    servers[server.app.name, server.host_id] = _as_offered(server)
        now_servers = tuple(servers[key] for key in sorted(servers))
        now_proxies = tuple(sorted(self._heard))
        if (now_servers, now_proxies) != (self._servers, self._proxies):
            self._servers, self._proxies = now_servers, now_proxies
            for told in self.on_change:
                told()


def _as_offered(server: AppServer) -> AppServer:
    """Return it without values of headers: a proxy goes on with those that an auth of 0.1 let by."""
    if not server.app.rewrite.headers:
        return server
    return replace(server, app=server.app.as_offered(server.app.labels))
