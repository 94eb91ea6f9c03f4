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
        return is_within(address, self._trusted)

    async def arrival(self, stream: TcpStream) -> tuple[str, bytes]:
        """Return the IP address a new connection comes from, and what was received of it already.

        Raises:
            OSError: it is gone already.
            RemoteProtocolError, ConnectionProblem: the PROXY header is missing or broken.
        """
        peer = str(stream.socket.getpeername()[0]).removeprefix("::ffff:")
        if not self._proxy_protocol or not is_within(peer, self._trusted):
            return peer, b""
        try:
            source, received = await receive_proxy_header(stream)
        except RemoteProtocolError as problem:
            if not self._warned:  # once: where one connection lacks it, they all do
                logger.warning(
                    "%s is among trusted_proxies, and each of its connections must begin with a"
                    " PROXY header: %s",
                    peer,
                    problem,
                )
            self._warned = True
            raise
        return source or peer, received

    def of_requests(self, address: str) -> Callable[[Headers], str]:
        """Return what tells whom a request is from that comes by a connection from `address`."""
        if not is_within(address, self._trusted):
            return lambda _: address
        return lambda headers: client_address(address, headers, self._trusted)
