"""AuthAPI on the wire: TLS that ends here, HTTP/1.1 inside it, one call a request (`api.wire`).

Connections come from auth's own listener and, relayed byte by byte, from the proxy's port. Who
calls is what the client's certificate says, judged anew at each request: a connection outlives
neither its certificate nor the authority behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import trio

from tport.engine.api import wire
from tport.engine.api.changes import Current
from tport.engine.api.protocol import CALLERS, AuthAPI
from tport.engine.auth.service import AuthService
from tport.engine.defaults import (
    ALPN_AUTH,
    AUTH_CALL_DEADLINE,
    AUTH_CONNECTIONS,
    AUTH_STRANGERS,
    HOST_RENEWAL_GRACE,
    MAX_CALL,
    NEW_PER_ADDRESS,
    STRANGER_GRACE,
)
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    InvalidRequest,
    NotFound,
    OutOfTime,
    RemoteProtocolError,
    TportError,
    Unavailable,
)
from tport.engine.net.accept import accept
from tport.engine.net.exchange import Exchange
from tport.engine.net.http1 import Drain, serve_http1
from tport.engine.net.seats import Room, Seat, Seats, closed_by
from tport.engine.net.tcp import TcpStream
from tport.engine.net.tls import accept_tls
from tport.engine.pki.contexts import auth_server_context
from tport.engine.pki.identity import identity_of
from tport.engine.pki.own_context import OwnContext
from tport.engine.types.identity import Identity

logger = logging.getLogger(__name__)

_ROOM: Final = Room(
    connections=AUTH_CONNECTIONS,
    per_address=AUTH_CONNECTIONS,
    strangers=AUTH_STRANGERS,
    strangers_per_address=AUTH_STRANGERS // 5,
    grace=STRANGER_GRACE,
    new_per_address=NEW_PER_ADDRESS,
)
_JSON = (b"content-type", b"application/json")
_LINES = (b"content-type", b"application/x-ndjson")
_NO_STORE = (b"cache-control", b"no-store")


class AuthServer:
    """Serves connections to auth."""

    def __init__(self, service: AuthService, host_id: str, *, drain: Drain | None = None) -> None:
        """`drain`: ends connections when the service stops."""
        self._service = service
        self._drain = drain or Drain()
        self._own_context = OwnContext(
            lambda: service.issue_own_identity("auth", host_id),
            lambda pair: auth_server_context(pair, service.authorities.host),
            service.cluster.clock,
        )
        self._seats = Seats(_ROOM, clock=trio.current_time)

    @property
    def shed(self) -> Mapping[str, int]:
        """How many connections were turned away or ended for want of room, by what they were."""
        return self._seats.shed

    async def serve_listener(
        self,
        listener: trio.SocketListener,
        *,
        task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve every connection to `listener` until cancelled; the listener is closed then."""
        async with trio.open_nursery() as connections:

            def welcome(stream: TcpStream, seat: Seat, peer: str) -> None:
                connections.start_soon(self._serve, stream, seat, peer)

            task_status.started([listener])
            await accept(listener, welcome, self._seats)

    async def serve_connection(self, stream: trio.abc.HalfCloseableStream, *, remote: str) -> None:
        """Serve one connection, beginning with its ClientHello, until it ends.

        What goes wrong in it stays in it.

        Args:
            stream: owned from here on.
            remote: the client's address (of a relayed connection: not the proxy's).
        """
        if (seat := self._seats.take(remote)) is None:
            await trio.aclose_forcefully(stream)
        else:
            await self._serve(stream, seat, remote)

    async def _serve(self, stream: trio.abc.HalfCloseableStream, seat: Seat, remote: str) -> None:
        try:
            with trio.CancelScope() as handshake:
                seat.end_if_resting = closed_by(handshake.cancel)
                if not seat.is_due:
                    await trio.sleep_until(seat.turn)
                tls = await accept_tls(stream, self._own_context.now())
            if handshake.cancelled_caught:
                return
            # Python's TLS lets a client through that offers other protocols, or none.
            if tls.alpn != ALPN_AUTH:
                await trio.aclose_forcefully(tls)
                return
            calls = _Connection(self._service, remote, certificate=tls.peer_certificate)
            await serve_http1(
                tls, calls.answer, on_error=answer_error, drain=self._drain, seat=seat
            )
        except (ConnectionProblem, RemoteProtocolError, trio.BrokenResourceError) as problem:
            logger.debug("a connection to auth from %s failed: %s", remote, problem)
        except Exception:
            logger.exception("a connection to auth failed")
        finally:
            seat.leave()
            await trio.aclose_forcefully(stream)

    async def serve_own(self, stream: trio.abc.HalfCloseableStream, identity: Identity) -> None:
        """Serve one connection of a process that this one started, until it ends.

        It is known without a certificate, and nobody else can listen: there is no TLS. What goes
        wrong in it stays in it.
        """
        calls = _Connection(self._service, "local", identity=identity, max_body=wire.MAX_ANSWER)
        try:
            await serve_http1(stream, calls.answer, on_error=answer_error)
        except trio.BrokenResourceError as problem:
            logger.debug("a connection of %s to auth broke: %s", identity.name, problem)
        except Exception:
            logger.exception("a connection to auth failed")
        finally:
            await trio.aclose_forcefully(stream)


class _Connection:
    """Whose a connection is, by its certificate or from before, and how its requests are answered."""

    def __init__(
        self,
        service: AuthService,
        remote: str,
        *,
        certificate: bytes | None = None,
        identity: Identity | None = None,
        max_body: int = MAX_CALL,
    ) -> None:
        self._service = service
        self._remote = remote
        self._certificate = certificate
        self._known = identity
        self._late: OutOfTime | None = (
            None  # why the certificate doesn't count, if it may be renewed
        )
        self._max_body = max_body

    async def answer(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.target.decode("latin-1")
        name = path.removeprefix(wire.PREFIX)
        if request.method != b"POST" or not path.startswith(wire.PREFIX):
            raise NotFound("only POST /v1/<call> is served here")
        identity = await self._identity()
        if identity is not None:
            exchange.recognise()
        elif self._late is not None and "anyone" not in CALLERS.get(name, {"anyone"}):
            refusals = self._service.refusals
            await refusals.tell(
                "auth.failed", remote=self._remote, call=name[:40], error=self._late.reason
            )
            raise self._late
        calls = self._service.as_caller(identity, self._remote)
        if acting := request.values(wire.ACTING_FOR):
            calls = calls.acting_for(acting[-1].decode("latin-1"))
        if name not in wire.CALLS:
            refusals = self._service.refusals
            await refusals.tell("auth.failed", remote=self._remote, call=name[:40])
            raise NotFound(
                f"there is no call {name[:40]!r}",
                hint="the versions of tport on the two machines may be too far apart",
            )
        arguments = wire.decode_request(name, await _body(exchange, self._max_body), self._max_body)
        if name == wire.WATCH:
            await self._stream(exchange, calls, identity)
            return
        answer: object = None
        with trio.move_on_after(AUTH_CALL_DEADLINE) as scope:
            answer = await getattr(calls, name)(**arguments)
        if scope.cancelled_caught:
            raise Unavailable(f"{name} took longer than {AUTH_CALL_DEADLINE:.0f} s")
        await exchange.respond(200, [_JSON, _NO_STORE], wire.encode_answer(answer))

    async def _stream(self, exchange: Exchange, calls: AuthAPI, identity: Identity | None) -> None:
        """Send changes, a line each, until the watch, the certificate or the client goes.

        A watch that ends early cuts the connection: its reader can't take that for all there is.
        """
        async with calls.watch() as changes:
            await exchange.send_head(200, [_LINES, _NO_STORE])
            async for change in changes:
                await exchange.send_body(wire.encode_answer(change) + b"\n")
                if isinstance(change, Current) and await self._identity() != identity:
                    raise AccessDenied("the certificate has expired")
        await exchange.finish()

    async def _identity(self) -> Identity | None:
        """Return who calls, as of now. None: nobody known, or a host whose certificate ran out.

        Raises:
            AccessDenied: the certificate is not one of ours.
        """
        if self._known is not None:
            return self._known
        if self._certificate is None:
            return None
        cluster = self._service.cluster
        try:
            identity = identity_of(
                self._certificate,
                authorities=cluster.authorities,
                expected_kinds=("agent", "proxy", "admin"),
                now=cluster.clock(),
            )
        except AccessDenied as denied:
            self._late = denied if isinstance(denied, OutOfTime) else None
            try:
                identity_of(
                    self._certificate,
                    authorities=cluster.authorities,
                    expected_kinds=("agent", "proxy"),
                    now=cluster.clock(),
                    grace=HOST_RENEWAL_GRACE,
                )
            except AccessDenied:
                refusals = self._service.refusals
                await refusals.tell("auth.failed", remote=self._remote, error=denied.reason)
                raise denied from None
            return None
        self._late = None
        return identity


async def answer_error(exchange: Exchange, error: TportError) -> None:
    """Answer with an error as `api.wire` writes it."""
    await exchange.respond(error.status, [_JSON, _NO_STORE], wire.encode_error(error))


async def _body(exchange: Exchange, limit: int) -> bytes:
    length = exchange.request.framing.length
    if length is not None and length > limit:
        raise InvalidRequest(f"the request is over {limit} bytes")
    body = bytearray()
    while piece := await exchange.receive_body():
        body += piece
        if len(body) > limit:
            raise InvalidRequest(f"the request is over {limit} bytes")
    return bytes(body)
