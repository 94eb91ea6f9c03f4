"""What machines ask of auth, as `Calls` answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from msgspec.structs import replace

from tport.engine.api.answers import (
    Authorities,
    Joined,
    ProxyKeys,
    ProxyReport,
)
from tport.engine.api.changes import Change
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.auth.machines.watch import Follower
from tport.engine.errors import AccessDenied, InvalidRequest, NotFound
from tport.engine.pki.authority import issue_web_certificate
from tport.engine.pki.keys import public_key_of_csr
from tport.engine.types.app import App, AppServer
from tport.engine.types.event import CODES, Event
from tport.engine.types.probe import ProbeReport
from tport.engine.types.token import JoinRole

MAX_EVENTS: Final = 500  # of one `emit`
# What an agent, and a proxy, may say happened: what only they see. Anything else is no event of that
# machine's, and least of all what auth decides: one that is taken over could have anybody signed in.
AGENT_EVENTS: Final = frozenset(
    {
        "app.access.denied",
        "app.dial.denied",
        "header.rewrite.skipped",
        "auth.failed",
        "audit.lost",
    }
)
PROXY_EVENTS: Final = frozenset(
    {
        "app.access.denied",
        "auth.failed",
        "audit.lost",
        "cert.reload",
        "device_token.use",
        "tunnel.up",
        "tunnel.down",
        "tunnel.protocol_error",
    }
)


class MachineCalls(Caller):
    @call
    async def join(self, *, token: str, csr: str, role: JoinRole, hostname: str) -> Joined:
        return await self.service.joining.join(token, csr, role, hostname, self.remote)

    @call
    async def renew(self, *, certificate: str, csr: str, proof: str) -> Joined:
        return await self.service.joining.renew(certificate, csr, proof, self.remote)

    @call
    async def authorities(self) -> Authorities:
        return self.service.cluster.authorities

    @call
    async def ping(self) -> str:
        return self.service.cluster.name

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Change]]:
        await self.check("watch")
        assert self.identity is not None
        follower: Follower = "proxy" if self.identity.kind == "proxy" else "agent"
        async with self.service.watches.watch(
            follower, self.name, apps=self.identity.apps
        ) as changes:
            yield changes

    # What proxies report and need

    @call
    async def report(self, *, report: ProxyReport) -> None:
        if report.proxy_id != self.name:
            raise AccessDenied("a proxy reports for itself only")
        self.service.presence.report(report)

    @call
    async def offer(
        self,
        *,
        host_id: str,
        hostname: str,
        version: str,
        apps: tuple[App, ...],
        pinned: tuple[str, ...] | None,
        pinned_uri: str,
    ) -> tuple[AppServer, ...]:
        return await self.service.apps.judge(host_id, hostname, version, apps, pinned, pinned_uri)

    @call
    async def proxy_keys(self) -> ProxyKeys:
        return self.service.cluster.proxy_keys

    @call
    async def web_certificate(self, *, csr: str, host: str) -> str:
        if not await self.service.apps.is_ours(host):
            raise NotFound(f"{host[:253]!r} is neither a proxy's nor an application's host")
        cluster = self.service.cluster
        certificate = issue_web_certificate(
            cluster.keys["web"], public_key_of_csr(csr), host, now=cluster.clock()
        )
        await cluster.record("cert.create", cert_type="web", host=host, server_id=self.name)
        return certificate

    @call
    async def emit(self, *, events: tuple[Event, ...]) -> None:
        if len(events) > MAX_EVENTS:
            raise InvalidRequest(f"{len(events)} events at once, at most {MAX_EVENTS}")
        assert self.identity is not None
        kind = self.identity.kind
        theirs = PROXY_EVENTS if kind == "proxy" else AGENT_EVENTS
        for one in events:
            if one.type not in theirs or one.code not in _codes(one.type):
                who = "proxies" if kind == "proxy" else "agents"
                raise AccessDenied(f"{who} write no event {one.type[:40]!r}")
        origin = {"server_id": self.name, "server_kind": kind}
        for one in events:
            await self.service.cluster.audit.emit(replace(one, fields={**one.fields, **origin}))

    # What agents answer

    @call
    async def probed(self, *, id: str, report: ProbeReport) -> None:
        self.service.probes.told(id, report, by=self.name)


def _codes(type_: str) -> set[str | None]:
    """Return the codes that an event of this type may have: its own, and its failure's."""
    return {CODES.get(type_), CODES.get(f"{type_}.failed")}
