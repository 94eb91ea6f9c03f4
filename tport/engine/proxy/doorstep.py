"""Connections from when they are accepted until they are over, without a task as long as none is needed.

accept ─► PROXY header, ClientHello ─► its turn ─► which door ─┬─ browser, its certificate is there ─► TLS ─► HTTP
          (from balancers)                                     └─ anything else ─► a task

Each step is a plain call from where bytes arrive (`net.ready`). What would have to wait, be it for auth
or for a client that reads slowly, is done by a task, and so is whatever goes wrong and is to be told
the client; it ends with that, or the connection goes on without. Meanwhile its owner is the `Doorstep`:
it knows all of them, bounds how long each step takes (DOS-01), and closes them in the end. How many
there may be is for `net.seats` to say, and when it is the turn of each.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import trio

from tport.engine.defaults import CLIENT_HELLO_DEADLINE, HANDSHAKE_DEADLINE, MAX_CLIENT_HELLO
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    RemoteProtocolError,
    TportError,
    leaves,
)
from tport.engine.net.http1 import Work
from tport.engine.net.patience import Patience, patience
from tport.engine.net.seats import Seat, Seats, closed_by
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream
from tport.engine.net.tls import refuse_handshake, refuse_plain_http, tls_problem
from tport.engine.net.tls_stream import TlsStream
from tport.engine.proto.client_hello import (
    HTTPS_ONLY,
    ClientHello,
    NotTls,
    parse_client_hello,
)
from tport.engine.proto.proxy_protocol import MAX_V2, parse_proxy_header
from tport.engine.proxy.certificates import Certificates, Chosen, TakesWaiting
from tport.engine.proxy.clients import Clients
from tport.engine.proxy.router import Door, door

logger = logging.getLogger(__name__)

LOOK: Final = 0.1  # s between two looks at whether a connection's turn has come


class Rooms(Protocol):
    """Where connections go that have said what they are."""

    def open_browser(
        self,
        tls: TlsStream,
        seat: Seat,
        server_name: str | None,
        remote: str,
        *,
        hsts: bool,
        by_task: Callable[[Work], None],
        closed: Callable[[], None],
    ) -> Callable[[], None]:
        """Serve a browser: see `open_http1` for the two callbacks, and for what it returns.

        Args:
            server_name: the SNI.
            remote: the IP address it comes from.
            hsts: whether its certificate is one that browsers know.
        """
        ...

    async def serve_other(
        self,
        stream: PrefixedStream,
        seat: Seat,
        hello: ClientHello,
        remote: str,
        *,
        is_ours: bool,
    ) -> None:
        """Serve anything else, from its ClientHello on, until it is over.

        `is_ours`: another process took it, and this one is meant.
        """
        ...


class Doorstep:
    """All connections of a proxy.

    Attributes:
        browsers: how many of them speak HTTP.
        for_hellos, for_handshakes: who is at these.
        for_turns: who has said what they want, and whose turn it isn't yet.
    """

    for_hellos: Patience
    for_handshakes: Patience
    for_turns: Patience

    def __init__(
        self, seats: Seats, clients: Clients, certificates: Certificates, rooms: Rooms
    ) -> None:
        self.browsers = 0
        self.seats = seats
        self.clients = clients
        self.certificates = certificates
        self.rooms = rooms
        self._tasks: trio.Nursery | None = None
        self._is_over = False
        self._here: set[_Visitor] = set()
        self._left = trio.Event()

    @property
    def arriving(self) -> int:
        """How many have not come as far as to speak HTTP, or anything else."""
        return sum(not visitor.is_browser and not visitor.tasks for visitor in self._here)

    def begin(self, tasks: trio.Nursery) -> None:
        """Have what needs a task done in this nursery, which stays open as long as connections come."""
        self._tasks = tasks
        self.for_hellos = patience(CLIENT_HELLO_DEADLINE)
        self.for_handshakes = patience(HANDSHAKE_DEADLINE)
        self.for_turns = patience(LOOK)

    def welcome(self, stream: TcpStream, seat: Seat, peer: str) -> None:
        """Serve a connection just accepted, from the IP address `peer`."""
        visitor = _Visitor(self, stream, seat, peer)
        visitor.expect_header = self.clients.begin_with_header(peer)
        visitor.begin(b"")

    def welcome_handed(self, stream: TcpStream, remote: str, received: bytes) -> None:
        """Serve one that another process took: the client's address, and what came of it already."""
        if (seat := self.seats.take(remote)) is None:
            stream.close()
        else:
            _Visitor(self, stream, seat, remote, is_ours=True).begin(received)

    async def until_quiet(self) -> None:
        """Wait until no browser is connected: all else exists to serve those."""
        while self.browsers:
            await self.until_one_left()

    async def until_one_left(self) -> None:
        """Wait until a browser's connection has ended."""
        self._left = trio.Event()
        await self._left.wait()

    def close(self) -> None:
        """Close all that no task has; nothing is begun any more. Tasks are cancelled by whoever has their nursery."""
        self._is_over = True
        for visitor in tuple(self._here):
            if not visitor.tasks:
                visitor.close()

    def entered(self, visitor: _Visitor) -> None:
        self._here.add(visitor)

    def left(self, visitor: _Visitor, *, browser: bool) -> None:
        self._here.discard(visitor)
        if browser:
            self.browsers -= 1
            self._left.set()

    def by_task(self, visitor: _Visitor, work: Work) -> None:
        assert self._tasks is not None, "a connection before `begin`"
        if self._is_over:
            visitor.close()  # which may come in the very pass in which the nursery ends
            return
        visitor.tasks += 1
        self._tasks.start_soon(visitor.run, work)


class _Visitor:
    """One connection. What goes wrong in it stays in it; a bug is logged, never silent.

    Attributes:
        expect_header: a PROXY header comes first.
        is_browser: it speaks HTTP.
        tasks: how many tasks have it: one, or none; two for the moment in which one begins another.
    """

    def __init__(
        self,
        doorstep: Doorstep,
        stream: TcpStream,
        seat: Seat,
        remote: str,
        *,
        is_ours: bool = False,
    ) -> None:
        self.expect_header = False
        self.tasks = 0
        self._doorstep = doorstep
        self._stream = stream
        self._seat = seat
        self._remote = remote
        self._is_ours = is_ours
        self._received = b""
        self._hello: ClientHello | None = None  # while it waits for its turn
        self._tls: TlsStream | None = None  # while hands are shaken
        self._name: str | None = None
        self._hsts = False
        self._patience = doorstep.for_hellos
        self.is_browser = False
        self._abandon: Callable[[], None] | None = None
        self._is_over = False

    def begin(self, received: bytes) -> None:
        """Begin with what was received already."""
        self._doorstep.entered(self)
        self._seat.end_if_resting = closed_by(self.close)
        self._received = received
        self._patience.begin(self)
        self._stream.on_arrival = self._arrived
        self._arrived()

    def late(self) -> None:
        """A step has taken too long; or it may be its turn now."""
        if (hello := self._hello) is not None:
            self._hello = None
            self._do(partial(self._open_door, hello))
            return
        what = "ClientHello" if self._tls is None else "TLS handshake"
        logger.debug("a connection ended: its %s took too long", what)
        self.close()

    def close(self) -> None:
        """Close it now, if it isn't over."""
        if self._is_over:
            return
        self._is_over = True
        self._patience.end(self)
        try:
            if self._abandon is not None:
                self._abandon()
        except Exception:  # a bug there must leave neither this connection open nor others
            logger.exception("what a connection was about could not be given up")
        self._abandon = self._stream.on_arrival = self._tls = None  # no cycle is left behind
        self._stream.close()
        self._seat.leave()
        self._doorstep.left(self, browser=self.is_browser)

    # --- By a task --------------------------------------------------------------------------------

    def _by_task(self, work: Work) -> None:
        self._stream.on_arrival = None
        self._doorstep.by_task(self, work)

    async def run(self, work: Work) -> None:
        """Do what needs a task; close the connection, unless it goes on without one."""
        goes_on = False
        try:
            goes_on = await work()
        except* Exception as errors:
            for error in leaves(errors):
                _tell(error)
        finally:
            self.tasks -= 1
            if not goes_on:
                self.close()

    def _last(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Serve the connection to its end; that has deadlines of its own."""

        async def work() -> bool:
            await serve()
            return False

        self._patience.end(self)
        self._by_task(work)

    # --- Without --------------------------------------------------------------------------------

    def _arrived(self) -> None:
        """Go on by what has come."""
        self._do(self._greet if self._tls is None else partial(self._shake, self._tls))

    def _do(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            _tell(error)
            self.close()

    def _greet(self) -> None:
        """Read until the ClientHello is whole, and do as it says.

        No more is read ahead than it may be long: it goes to another process as one message
        where the connection does.
        """
        while not (self._received and self._is_understood()):
            most = MAX_V2 if self.expect_header else max(1, MAX_CLIENT_HELLO - len(self._received))
            data = self._stream.receive_nowait(most)
            if data is None:
                return
            if not data:
                raise ConnectionProblem("the client left before its ClientHello was whole")
            self._received += data

    def _is_understood(self) -> bool:
        """Do as the ClientHello says; False: it isn't whole."""
        if self.expect_header and not self._has_header():
            return False
        try:
            hello = parse_client_hello(self._received)
        except NotTls as other:
            if not other.http:
                raise
            self._last(partial(refuse_plain_http, self._stream, HTTPS_ONLY))
            return True
        if hello is not None:
            self._open_door(hello)
        return hello is not None

    def _open_door(self, hello: ClientHello) -> None:
        if not self._seat.is_due:
            self._hello = hello
            self._stream.on_arrival = None
            self._patience.end(self)
            self._patience = self._doorstep.for_turns
            self._patience.begin(self)
            return
        if door(hello.alpn) is not Door.BROWSER:
            peeked = PrefixedStream(self._received, self._stream)
            serve = self._doorstep.rooms.serve_other
            self._last(
                partial(serve, peeked, self._seat, hello, self._remote, is_ours=self._is_ours)
            )
            return
        try:
            chosen = self._doorstep.certificates.context_now(hello.server_name)
        except TakesWaiting:
            self._patience.end(self)  # it is our turn
            self._by_task(partial(self._choose, hello))
        else:
            self._begin_shake(hello.server_name, chosen)

    def _has_header(self) -> bool:
        """Take the balancer's header off; False: it isn't whole."""
        try:
            header = parse_proxy_header(self._received)
        except RemoteProtocolError as problem:
            self._doorstep.clients.warn(self._remote, problem)
            raise
        if header is None:
            return False
        self.expect_header = False
        self._remote = header.source or self._remote
        self._received = self._received[header.length :]
        if not self._seat.belongs_to(self._remote):
            raise ConnectionProblem("its address has as many connections as it may")
        self._patience.begin(self)  # from here on it is the client's own time
        return True

    async def _choose(self, hello: ClientHello) -> bool:
        chosen = await self._doorstep.certificates.context_for(hello.server_name)
        if self._is_over:  # it had to make room meanwhile
            return False
        self._begin_shake(hello.server_name, chosen)
        return True

    def _begin_shake(self, name: str | None, chosen: Chosen) -> None:
        self._name, self._hsts = name, chosen.public
        self._tls = TlsStream(
            self._stream,
            chosen.context,
            server_side=True,
            received=self._received,
            ragged_end=True,
        )
        self._received = b""
        self._patience.end(self)
        self._patience = self._doorstep.for_handshakes
        self._patience.begin(self)
        self._stream.on_arrival = self._arrived
        self._shake(self._tls)

    def _shake(self, tls: TlsStream) -> None:
        try:
            is_done = tls.shake_nowait()
        except ssl.SSLError as problem:
            logger.debug("a connection ended: TLS handshake failed: %s", tls_problem(problem)[0])
            self._last(partial(refuse_handshake, self._stream))
            return
        if self._stream.unsent:
            self._by_task(self._flush)
        elif is_done:
            self._open(tls)

    async def _flush(self) -> bool:
        """Wait until the client has room for what was said; the deadline is kept meanwhile."""
        await self._stream.flush()
        if self._is_over:
            return False
        self._stream.on_arrival = self._arrived
        self._arrived()
        return True

    def _open(self, tls: TlsStream) -> None:
        self._patience.end(self)
        self._tls = None
        self.is_browser = True
        self._doorstep.browsers += 1
        self._abandon = self._doorstep.rooms.open_browser(
            tls,
            self._seat,
            self._name,
            self._remote,
            hsts=self._hsts,
            by_task=self._by_task,
            closed=self.close,
        )


def _tell(error: BaseException) -> None:
    """Write down why a connection ended, where that is of interest to anybody."""
    match error:
        case ConnectionProblem() | RemoteProtocolError() | AccessDenied():
            logger.debug("a connection ended: %s", error)
        case trio.BrokenResourceError() | trio.ClosedResourceError() | OSError():
            pass  # the client has gone; there is nobody to tell
        case TportError():
            logger.warning("a connection could not be served: %s", error)
        case _:
            logger.error("a connection failed", exc_info=error)
