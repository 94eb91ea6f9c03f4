"""Port 80, where a CA asks by HTTP and people forget the s: nothing else is ever answered there."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final, NoReturn

import trio

from tport.engine.defaults import HTTP_CONNECTIONS
from tport.engine.errors import ConnectionProblem, RemoteProtocolError
from tport.engine.net.accept import accept
from tport.engine.net.http1 import Exchange, Limits, serve_http1
from tport.engine.net.seats import Room, Seat, Seats, closed_by
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream
from tport.engine.proxy.clients import Clients

logger = logging.getLogger(__name__)

CHALLENGES: Final = b"/.well-known/acme-challenge/"
MAX_TARGET: Final = 2048  # bytes that are sent on
_LIMITS: Final = Limits(head=5, idle=5)
# Who holds connections must leave some for the CA.
_ROOM: Final = Room(
    connections=HTTP_CONNECTIONS,
    per_address=HTTP_CONNECTIONS // 2,
    strangers=HTTP_CONNECTIONS,
    strangers_per_address=HTTP_CONNECTIONS // 2,
)
_PLAIN: Final = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


class HttpDoor:
    def __init__(
        self,
        *,
        proof: Callable[[str, str], str | None],
        is_known: Callable[[str], bool],
        zones: Collection[str] = (),
        port_suffix: str,
        clients: Clients | None = None,
    ) -> None:
        """
        Args:
            proof: what a CA is to read at a host under a token; None: nothing.
            is_known: whether a host is served here.
            zones: the proxy's names: of those right below them it isn't told whether they are.
            port_suffix: of public addresses: ":3080", "" for 443.
            clients: takes the PROXY header off that load balancers send; None: there are none.
        """
        self._proof = proof
        self._is_known = is_known
        self._zones = zones
        self._port_suffix = port_suffix
        self._clients = clients or Clients()
        self._seats = Seats(_ROOM, is_shared=self._clients.is_shared)

    async def serve(
        self,
        listener: trio.SocketListener,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> NoReturn:
        """Serve until cancelled."""
        async with trio.open_nursery() as connections:

            def welcome(stream: TcpStream, seat: Seat, peer: str) -> None:
                connections.start_soon(self._serve, stream, seat, peer)

            task_status.started()
            await accept(listener, welcome, self._seats)
        raise AssertionError("unreachable")

    async def _serve(self, stream: TcpStream, seat: Seat, peer: str) -> None:
        seat.end_if_resting = closed_by(stream.close)
        try:
            remote, received = await self._clients.arrival(stream, peer)
            if seat.belongs_to(remote):
                plain = PrefixedStream(received, stream)
                await serve_http1(plain, self.answer, limits=_LIMITS, seat=seat)
        except* (ConnectionProblem, RemoteProtocolError) as errors:
            logger.debug("a connection to the HTTP port ended: %s", errors.exceptions[0])
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the client has gone; there is nobody to tell
        except* Exception:
            logger.exception("a connection to the HTTP port failed")
        finally:
            seat.leave()
            await trio.aclose_forcefully(stream)

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request: a challenge that is pending, or the way to https."""
        request = exchange.request
        exchange.keep_alive = False
        if request.target.startswith(CHALLENGES) and request.method in (b"GET", b"HEAD"):
            token = request.target.removeprefix(CHALLENGES).decode("latin-1")
            proof = self._proof(request.host, token) if token else None
            if proof is not None:
                head = [(b"content-type", b"application/octet-stream"), *_PLAIN[1:]]
                await exchange.respond(200, head, proof.encode())
                return
        is_ours = request.host.partition(".")[2] in self._zones or self._is_known(request.host)
        if not is_ours or len(request.target) > MAX_TARGET:
            await exchange.respond(404, _PLAIN, b"nothing is here\n")
        elif request.method not in (b"GET", b"HEAD"):
            await exchange.respond(403, _PLAIN, b"not sent: https only\n")
        else:
            where = f"https://{request.host}{self._port_suffix}".encode() + request.target
            await exchange.respond(301, [(b"location", where), *_PLAIN], b"https only\n")
