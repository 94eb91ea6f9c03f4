"""What agents and proxies ask of auth for themselves, and report to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from tport.engine.api.answers import (
    Authorities,
    Joined,
    ProxyKeys,
    ProxyReport,
)
from tport.engine.api.callers import MACHINES, PROXY
from tport.engine.api.changes import Change
from tport.engine.types.app import App, AppServer
from tport.engine.types.event import Event
from tport.engine.types.probe import ProbeReport
from tport.engine.types.token import JoinRole


class MachineAPI(Protocol):
    async def join(self, *, token: str, csr: str, role: JoinRole, hostname: str) -> Joined:
        """Enter the cluster with a token's secret (no pin) and a CSR (PEM).

        Asking again with the same token and key, within the token's life, gives the same host.

        Raises:
            AccessDenied: unknown, expired, used up or for another role: each with its own words.
            LimitExceeded: too many failures from this address.
        """
        ...

    async def renew(self, *, certificate: str, csr: str, proof: str) -> Joined:
        """Renew a host certificate; idempotent by the CSR's key.

        Needs no connection identity, since an agent that was off for days has an expired
        certificate: up to HOST_RENEWAL_GRACE after its end it still may, by its key.

        Args:
            certificate: the one that ends, PEM.
            csr: for the next key, PEM.
            proof: base64 of a signature by the key in `certificate` over the CSR
                (`pki.renewal.prove_renewal`).

        Raises:
            OutOfTime: too old, by auth's clock.
            AccessDenied: not ours, a wrong proof.
        """
        ...

    async def authorities(self) -> Authorities: ...

    async def ping(self) -> str:
        """Return the cluster's name."""
        ...

    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Follow what the caller's kind needs: first all there is, then `Current`, then changes.

        Ends with ConnectionProblem or Unavailable when the watcher is too slow or auth goes
        away: read again from the start.
        """
        ...

    # What proxies report and need

    async def report(self, *, report: ProxyReport) -> None: ...

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
        """Judge what an agent offers: one AppServer each, `refused` set where it does not count.

        `pinned` are the names that the agent's certificate allows, None: any; `pinned_uri` the
        one address, "": any. Labels of the
        apps are the current ones.
        """
        ...

    async def proxy_keys(self) -> ProxyKeys: ...

    async def web_certificate(self, *, csr: str, host: str) -> str:
        """Issue a leaf of the web CA for one host that the proxy serves: PEM, leaf first.

        Raises:
            NotFound: neither a proxy's nor an application's host.
        """
        ...

    async def emit(self, *, events: tuple[Event, ...]) -> None:
        """Write audit events; the caller's identity is added to each."""
        ...

    # What agents answer

    async def probed(self, *, id: str, report: ProbeReport) -> None:
        """Tell what was found; of the agent that was asked.

        Raises:
            NotFound: nobody waits for it.
        """
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "join": frozenset({"anyone"}),
    "renew": frozenset({"anyone", "agent", "proxy"}),
    "authorities": frozenset({"anyone"}) | MACHINES,
    "ping": frozenset({"anyone"}) | MACHINES,
    "watch": frozenset({"agent", "proxy"}),
    "report": PROXY,
    "offer": PROXY,
    "proxy_keys": PROXY,
    "web_certificate": PROXY,
    "emit": frozenset({"agent", "proxy"}),
    "probed": frozenset({"agent"}),
}
