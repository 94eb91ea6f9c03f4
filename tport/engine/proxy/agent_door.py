"""Where agents come in: mutual TLS in this proxy's name, and who an agent is by its certificate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from cryptography import x509

from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.errors import AccessDenied
from tport.engine.net.seats import Seat, closed_by_nobody
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls import accept_tls
from tport.engine.pki.contexts import tunnel_server_context
from tport.engine.pki.identity import identity_of
from tport.engine.pki.keys import KeyPair
from tport.engine.pki.own_context import OwnContext
from tport.engine.proxy.tunnels import TunnelService
from tport.engine.types.identity import IdentityKind

_AGENT: Final[tuple[IdentityKind, ...]] = ("agent",)


class AgentDoor:
    """Serves connections that ask for a tunnel."""

    def __init__(
        self,
        tunnels: TunnelService,
        *,
        cache: AuthCache,
        events: EventQueue,
        own_pair: Callable[[], KeyPair],
        clock: Callable[[], datetime],
    ) -> None:
        """`own_pair`: as in Surroundings."""
        self._tunnels = tunnels
        self._cache = cache
        self._events = events
        self._clock = clock
        self._own_context = OwnContext(
            own_pair, lambda pair: tunnel_server_context(pair, cache.authorities.host), clock
        )

    async def serve(self, stream: PrefixedStream, seat: Seat, remote: str) -> None:
        """Serve one connection, from its ClientHello on, until the tunnel ends.

        Raises:
            AccessDenied: no agent of this cluster; or it is locked.
            RemoteProtocolError, ConnectionProblem: the handshake failed.
        """
        tls = await accept_tls(stream, self._own_context.now())
        certificate = tls.peer_certificate
        if certificate is None:  # the handshake demands one; TLS-01 wants it asked again here
            raise AccessDenied("a tunnel without a client certificate")
        try:
            identity = identity_of(
                certificate,
                authorities=self._cache.authorities,
                expected_kinds=_AGENT,
                now=self._clock(),
            )
        except AccessDenied as denied:
            self._events.put("auth.failed", error=denied.reason, **{"addr.remote": remote})
            raise
        seat.recognise()
        seat.end_if_resting = closed_by_nobody  # a tunnel ends for reasons of its own alone
        await self._tunnels.serve(
            tls,
            identity,
            remote=remote,
            not_after=x509.load_der_x509_certificate(certificate).not_valid_after_utc,
        )
