"""ACME at one proxy, put together: certificates, orders, what CAs are shown. Off: none of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import NoReturn

import trio

from tport.engine.api.cache import AuthCache
from tport.engine.api.protocol import AuthAPI
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls import refuse_protocols
from tport.engine.proxy.acme import AcmeCertificates
from tport.engine.proxy.acme_ca import CertificateAuthority, HttpsTransport, Transport
from tport.engine.proxy.acme_order import AcmeOrders
from tport.engine.proxy.acme_proof import AcmeProofs
from tport.engine.proxy.acme_settings import AcmeSettings
from tport.engine.proxy.clients import Clients
from tport.engine.proxy.http_door import HttpDoor


class AcmePart:
    def __init__(
        self,
        settings: AcmeSettings | None,
        *,
        auth: AuthAPI,
        cache: AuthCache,
        clock: Callable[[], datetime],
        own_hosts: Collection[str],
        is_known: Callable[[str], bool],
        has_file: Callable[[str], bool],
        port_suffix: str,
        asked: Callable[[], Awaitable[object]] = trio.sleep_forever,
        http_listener: trio.SocketListener | None = None,
        clients: Clients | None = None,
        transport: Transport | None = None,
    ) -> None:
        """
        Args:
            settings: None: ACME is off.
            is_known: whether a host is served here now.
            has_file: whether it has a certificate in a file.
            port_suffix: of public addresses: ":3080", "" for 443.
            asked: waits until the operator wants what failed to be tried at once.
            http_listener: where CAs ask by HTTP; None: nowhere.
            clients: knows the load balancers before it; None: there are none.
            transport: to the CA; None: HTTPS.
        """
        self._certificates: AcmeCertificates | None = None
        self._proofs: AcmeProofs | None = None
        self._asked = asked
        self._http_listener = http_listener
        self._http_door = HttpDoor(
            proof=self.proof_by_http,
            is_known=is_known,
            zones=own_hosts,
            port_suffix=port_suffix,
            clients=clients,
        )
        if settings is None:
            return
        self._proofs = AcmeProofs(settings.directory, lambda: cache.acme, clock)
        ca = CertificateAuthority(
            settings, auth, transport or HttpsTransport(settings.authority, clock)
        )
        self._certificates = AcmeCertificates(
            settings,
            auth=auth,
            cache=cache,
            orders=AcmeOrders(settings, auth=auth, ca=ca, clock=clock),
            proofs=self._proofs,
            clock=clock,
            own_hosts=own_hosts,
            is_known=is_known,
            has_file=has_file,
        )

    @property
    def sources(self) -> Sequence[AcmeCertificates]:
        """The certificates, if there are any."""
        return (self._certificates,) if self._certificates is not None else ()

    def changed(self, *, anew: bool = False) -> None:
        """Look at the cache again. `anew`: auth may have forgotten what we told it."""
        for certificates in self.sources:
            if anew:
                certificates.forget_held()
            certificates.changed()

    async def prove_by_tls(self, stream: PrefixedStream, server_name: str | None) -> None:
        """Answer a CA that comes by acme-tls/1, and end the connection."""
        if self._proofs is None:
            await refuse_protocols(stream)
        else:
            await self._proofs.prove_by_tls(stream, server_name)

    def proof_by_http(self, host: str, token: str) -> str | None:
        """Return what a CA is to read at a host under a token; None: nothing is pending."""
        return self._proofs.by_http(host, token) if self._proofs is not None else None

    async def keep(self) -> None:
        """Do what is due until cancelled."""
        async with trio.open_nursery() as nursery:
            for certificates in self.sources:
                nursery.start_soon(certificates.keep)
                nursery.start_soon(self._forgive, certificates)
            if self._http_listener is not None:
                nursery.start_soon(self._http_door.serve, self._http_listener)

    async def _forgive(self, certificates: AcmeCertificates) -> NoReturn:
        while True:
            await self._asked()
            await certificates.forgive()
