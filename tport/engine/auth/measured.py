"""What auth tells of itself: its figures, and what keeps it from being well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from tport.engine.audit.emitter import Emitter
from tport.engine.auth.service import AuthService
from tport.engine.metrics.sample import Sample, Trouble, one
from tport.engine.pki.keys import load_certificate

_DAY = timedelta(days=1)


class AuthMeasured:
    def __init__(self, service: AuthService, emitter: Emitter, shed: Mapping[str, int]) -> None:
        """
        Args:
            emitter: the audit log's.
            shed: connections for which there was no room, by what they were.
        """
        self._service = service
        self._shed = shed
        self._emitter = emitter

    async def figures(self) -> Iterable[Sample]:
        stores = self._service.cluster.stores
        count = stores.backend.count
        return [
            one("tport_sessions", await count("/sessions/web/"), "web"),
            one("tport_sessions", await count("/sessions/app/"), "app"),
            one("tport_sessions", await count("/device_tokens/"), "device-token"),
            *self._figures(),
        ]

    def _figures(self) -> Iterator[Sample]:
        service, emitter = self._service, self._emitter
        yield one("tport_agents", len(service.presence.agents))
        down, offers = set(service.healths.down), service.presence.servers
        states = [
            "refused" if o.refused else "down" if (o.app.name, o.host_id) in down else "up"
            for o in offers
        ]
        for state in ("up", "down", "refused"):
            yield one("tport_offers", states.count(state), state)
        yield one("tport_queue", emitter.waiting, "audit")
        yield one("tport_shed_total", emitter.lost, "audit")
        yield one("tport_shed_total", emitter.sampled, "failures")
        yield one("tport_shed_total", service.hasher.refused, "sign-ins")
        for what, count in self._shed.items():
            yield one("tport_shed_total", count, f"auth-{what}")
        yield from self._days_left()

    def _days_left(self) -> Iterator[Sample]:
        now = self._service.cluster.clock()
        for info in self._service.certificates.all():
            state = info.state
            if state.not_after is not None:
                left = (state.not_after - now) / _DAY
                yield one("tport_certificate_days_left", left, state.host, state.source)
        authorities = self._service.authorities
        for name, certificate in (("host", authorities.host[0]), ("web", authorities.web[0])):
            left = (load_certificate(certificate).not_valid_after_utc - now) / _DAY
            yield one("tport_authority_days_left", left, name)

    def troubles(self) -> Iterator[Trouble]:
        for problem in self._service.degraded():
            yield Trouble("auth", problem)
        if self._emitter.problem:
            yield Trouble("auth", self._emitter.problem)
