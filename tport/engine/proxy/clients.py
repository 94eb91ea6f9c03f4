"""Who a connection, and a request on it, comes from: by the socket, and by whom the operator trusts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tport.engine.errors import RemoteProtocolError
from tport.engine.net.proxy_protocol import receive_proxy_header
from tport.engine.net.tcp import TcpStream
from tport.engine.proto.fields import Headers
from tport.engine.proto.forwarded import Network, client_address, is_within

logger = logging.getLogger(__name__)


class Clients:
    """Knows the operator's load balancers.

    Args:
        trusted: their networks; none: nobody is believed.
        proxy_protocol: they begin each connection with a PROXY header. From others there is
            none, and what looks like one is no TLS (TLS-12).
    """

    def __init__(self, trusted: Sequence[Network] = (), *, proxy_protocol: bool = False) -> None:
        self._trusted = trusted
        self._proxy_protocol = proxy_protocol
        self._warned = False

    def is_shared(self, address: str) -> bool:
        """Tell whether many clients come from an address: a load balancer has it."""
        return bool(self._trusted) and is_within(address, self._trusted)

    def begin_with_header(self, peer: str) -> bool:
        """Tell whether connections from this IP address must begin with a PROXY header."""
        return self._proxy_protocol and is_within(peer, self._trusted)

    def warn(self, peer: str, problem: RemoteProtocolError) -> None:
        """Warn of a header that is missing or broken; once: where one connection lacks it, all do."""
        if not self._warned:
            logger.warning(
                "%s is among trusted_proxies, and each of its connections must begin with a"
                " PROXY header: %s",
                peer,
                problem,
            )
        self._warned = True

    async def arrival(self, stream: TcpStream, peer: str) -> tuple[str, bytes]:
        """Wait for the header, if there must be one: who has a task can.

        Returns:
            The IP address that the connection comes from, and what was received of it already.

        Raises:
            RemoteProtocolError, ConnectionProblem: the PROXY header is missing or broken.
        """
        if not self.begin_with_header(peer):
            return peer, b""
        try:
            source, received = await receive_proxy_header(stream)
        except RemoteProtocolError as problem:
            self.warn(peer, problem)
            raise
        return source or peer, received

    def of_requests(self, address: str) -> Callable[[Headers], str]:
        """Return what tells whom a request is from that comes by a connection from `address`."""
        if not self._trusted or not is_within(address, self._trusted):
            return lambda _: address
        return lambda headers: client_address(address, headers, self._trusted)
