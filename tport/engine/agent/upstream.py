"""Connections to one application: dialled when needed, kept for the next request, never trusted long.

A kept connection may have died, or be about to: applications close idle ones when they like. One
that has become readable while idle is over or confused, and one idle for longer than KEEP is more
likely to be than not; neither is used again.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

import trio

from tport.engine.access.targets import is_metadata
from tport.engine.agent.health import Health
from tport.engine.agent.upstream_tls import in_plain_words, upstream_context
from tport.engine.errors import ConnectionProblem
from tport.engine.net.dial import dial_tcp
from tport.engine.net.http1_client import ClientConnection
from tport.engine.net.tls import connect_tls
from tport.engine.pki.contexts import https_context
from tport.engine.types.app import App

KEEP: Final = 2.0  # s idle; common servers close after 2 (uvicorn, Puma: 5; gunicorn: 2)
MAX_KEPT: Final = 1000  # idle connections of one application, as many requests run at once; a further one is closed
PROBE_DEADLINE: Final = 2.0  # s for a look at whether an http:// application speaks TLS
PROBE_PAUSE: Final = 10.0  # s between two such looks

Clock = Callable[[], datetime]
Dial = Callable[[], Awaitable[trio.abc.Stream]]


class TargetDenied(ConnectionProblem):
    """The application's address is one where agents don't connect to (AG-07). Nothing was sent."""


class Upstream:
    """One application's connections."""

    def __init__(self, app: App, clock: Clock, *, dial: Dial | None = None) -> None:
        """Make ready to dial; reads certificates for `https`. Blocks for ms.

        Args:
            dial: connects where the application isn't at its URI; for the debug app.

        Raises:
            ConfigError: a file of `app.tls` can't be used.
        """
        parts = urlsplit(app.uri)
        self._dial = dial or self._dial_tcp
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = upstream_context(app)
        self._deadline = app.timeouts.connect
        self._allow_metadata = app.allow_metadata
        self._host = parts.hostname or ""
        self._server_name = app.tls.server_name or self._host
        self._port = parts.port or (443 if self._tls else 80)
        self._kept: deque[tuple[float, ClientConnection]] = deque()
        self._retired = False
        self._uri = app.uri
        self.health = Health(clock)
        self._probed = -PROBE_PAUSE
        self._speaks_tls = False  # when it was probed

    async def connect(self) -> ClientConnection:
        """Dial the application.

        Raises:
            ConnectionProblem: why not, in words; nothing has reached the application.
        """
        try:
            stream = await self._dial()
            if self._tls is not None:
                stream = await connect_tls(
                    stream,
                    self._tls,
                    server_name=self._server_name,
                    deadline=self._deadline,
                    ragged_end=True,  # many applications leave without a TLS goodbye
                )
        except ConnectionProblem as problem:
            words = in_plain_words(problem, self._server_name)
            self.health.unreachable(self.why(words), words.hint, trio.current_time())
            raise words from None
        self.health.connected(trio.current_time())
        return ClientConnection(stream)

    async def look(self) -> None:
        """Connect, as for a request, and hang up: the application's `health` learns how it went."""
        try:
            await close(await self.connect())
        except ConnectionProblem:
            pass  # `connect` has told

    def why(self, problem: ConnectionProblem) -> str:
        """Return what people are told when the application can't be connected to."""
        return f"{self._uri} can't be reached: {problem}"

    async def _dial_tcp(self) -> trio.abc.Stream:
        stream = await dial_tcp(self._host, self._port, deadline=self._deadline)
        # Judged by where it really leads, so that no name and no answer of DNS gets by.
        try:
            address = str(stream.socket.getpeername()[0])
        except OSError as problem:  # it has hung up already
            await trio.aclose_forcefully(stream)
            raise ConnectionProblem(f"it closed the connection at once: {problem}") from None
        if is_metadata(address) and not self._allow_metadata:
            await trio.aclose_forcefully(stream)
            raise TargetDenied(
                f"it leads to {address}, where clouds keep their machines' credentials"
            )
        return stream

    async def expects_tls(self) -> bool:
        """Tell whether an `http://` application that fails would speak TLS, were it asked to.

        Looks only while it has never answered. Nothing but a handshake is sent.
        """
        if self._tls is not None or self.health.has_answered:
            return False
        if trio.current_time() - self._probed >= PROBE_PAUSE:
            self._probed = trio.current_time()
            self._speaks_tls = False
            with trio.move_on_after(PROBE_DEADLINE):
                self._speaks_tls = await self._probe()
        return self._speaks_tls

    async def _probe(self) -> bool:
        try:
            stream = await self._dial()
            tls = await connect_tls(
                stream, https_context(insecure=True), server_name=self._server_name
            )
        except ConnectionProblem:
            return False
        await trio.aclose_forcefully(tls)
        return True

    def take_nowait(self, now: float) -> ClientConnection | None:
        """Return a kept connection for who uses it without a task; None: `take` or dial.

        One that is about to die may be among them, of which nobody has told yet: only for what
        may be asked again.
        """
        if not self._kept:
            return None
        since, connection = self._kept[-1]
        if connection.prompt is None or connection.has_stirred() or now - since > KEEP:
            return None
        self._kept.pop()
        return connection

    async def take(self) -> ClientConnection | None:
        """Return a kept connection that looks alive, the one used last; None: dial."""
        while self._kept:
            since, connection = self._kept.pop()
            if trio.current_time() - since <= KEEP and not connection.has_stirred():
                return connection
            await close(connection)
        return None

    async def put(self, connection: ClientConnection) -> None:
        """Keep a connection for the next request, if it can take one."""
        if not self.keep(connection, trio.current_time()):
            await close(connection)

    def keep(self, connection: ClientConnection, now: float) -> bool:
        """Keep a connection for the next request; False: it can't take one, close it."""
        if connection.reusable and len(self._kept) < MAX_KEPT and not self._retired:
            self._kept.append((now, connection))
            return True
        return False

    async def close_idle(self, idle: float = KEEP) -> None:
        """Close connections that have waited for `idle` seconds."""
        latest = trio.current_time() - idle
        while self._kept and self._kept[0][0] <= latest:
            await close(self._kept.popleft()[1])

    async def retire(self) -> None:
        """Keep no connection from now on: only requests that run already use this."""
        self._retired = True
        await self.close_idle(0)


async def close(connection: ClientConnection) -> None:
    """Close at once: an application is owed no goodbye."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await connection.aclose()
