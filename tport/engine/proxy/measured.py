"""What a proxy tells of itself: its figures, and what keeps it from being well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.api.live import LiveStreams
from tport.engine.defaults import PRESENCE_TTL, REQUEST_LOG_QUEUE
from tport.engine.metrics.sample import Sample, Trouble, one
from tport.engine.proxy.certificate_part import CertificatePart
from tport.engine.proxy.request_log import RequestLog
from tport.engine.proxy.tally import Tally
from tport.engine.proxy.tunnels import Tunnels

SILENT = PRESENCE_TTL  # s without a word from auth, which speaks each second or two


@dataclass(frozen=True, kw_only=True)
class Measured:
    """
    Attributes:
        connections: open now: of browsers, and of all kinds.
        strangers: of these, those on which nobody has shown yet who they are.
    """

    tally: Tally
    tunnels: Tunnels
    live: LiveStreams[str]
    cache: AuthCache
    events: EventQueue
    request_log: RequestLog | None
    certificates: CertificatePart
    connections: Callable[[], tuple[int, int]]
    strangers: Callable[[], int]

    async def figures(self) -> Iterable[Sample]:
        return [*self._figures(), *self.tally.samples()]

    def _figures(self) -> Iterator[Sample]:
        browsers, connections = self.connections()
        yield one("tport_connections", browsers, "browser")
        yield one("tport_connections", connections - browsers, "other")
        yield one("tport_strangers", self.strangers())
        yield one("tport_tunnels", len(self.tunnels))
        yield one("tport_tunnel_streams", self.tunnels.streams)
        yield one("tport_running_sessions", len(self.live.held()))
        yield one("tport_queue", self.events.waiting, "events")
        yield one("tport_shed_total", self.events.lost, "events")
        if self.request_log is not None:
            yield one("tport_queue", self.request_log.waiting, "requests")
            yield one("tport_shed_total", self.request_log.lost, "requests")
        yield one("tport_auth_silence_seconds", self.cache.age)
        failures = self.certificates.reload_failures
        yield one("tport_certificate_reload_failures_total", failures)

    def troubles(self) -> Iterator[Trouble]:
        if self.cache.age > SILENT:
            yield Trouble("proxy", f"auth has said nothing for {self.cache.age:.0f} s")
        if self.request_log is not None and self.request_log.waiting > REQUEST_LOG_QUEUE / 2:
            yield Trouble("proxy", f"{self.request_log.waiting} requests wait to be logged")
        yield from self.certificates.troubles()
