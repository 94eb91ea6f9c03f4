"""One request to an application in nobody's name: what it is sent, how long it may take, what came back.

Only the application's configured address is dialled. Besides the headers of its definition nothing
is sent that a signed-out visitor couldn't send. No JWT, no cookie, nobody's name.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import trio

from tport.engine.agent.observed import Failed, Reply, Seen, own_target, uri_host
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream, close
from tport.engine.errors import ConnectionProblem, TportError
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.proto.fields import Lines
from tport.engine.proto.framing import NO_BODY
from tport.engine.proto.sieve import write_lines
from tport.engine.types.app import App
from tport.engine.types.session import SessionCredential

ANSWER: Final = 5.0  # s for one answer's head: slower pages keep people waiting, too
BODY: Final = 2.0  # s for the beginning of its body
MAX_BODY: Final = 64 * 1024  # bytes of it; titles and icons stand at the top
MAX_REDIRECTS: Final = 4  # within the application, to the page that has a title
VISITOR: Final = "192.0.2.1"  # an address for documentation (RFC 5737): a client, and nobody's

NO_REPLY: Final = Failed(problem="it gave no answer in time", is_silence=True)


class Nobody:
    """Asks applications, each request on a connection of its own."""

    def __init__(
        self, public: str, *, hostname: str, headers: Sequence[tuple[bytes, bytes]], until: float
    ) -> None:
        """
        Args:
            public: host[:port] at which people reach the application.
            hostname: of this machine.
            headers: of every request, unless it has others of the same name.
            until: on trio's clock; nothing is asked after it.
        """
        self._public = public
        self._hostname = hostname
        self._own = headers
        self._until = until

    async def ask(
        self,
        upstream: Upstream,
        app: App,
        target: str,
        *,
        method: bytes = b"GET",
        extra: Sequence[tuple[bytes, bytes]] = (),
        upgrade: bool = False,
    ) -> Reply:
        """Send one request as the agent would for a visitor; never raises for what comes back."""
        if trio.current_time() >= self._until:
            return NO_REPLY
        reply: Reply = NO_REPLY
        with trio.move_on_at(min(self._until, trio.current_time() + ANSWER + BODY)):
            connection: ClientConnection | None = None
            try:
                connection = await upstream.connect()
                reply = await self._exchange(connection, app, target, method, extra, upgrade)
            except (ConnectionProblem, UpstreamGone) as problem:
                hint = problem.hint if isinstance(problem, ConnectionProblem) else ""
                reply = Failed(problem=str(problem), hint=hint)
            except TportError as nonsense:
                reply = Failed(problem=f"its answer makes no sense: {nonsense}")
            finally:
                if connection is not None:
                    await close(connection)  # noqa: ASYNC102 - closes at once
        return reply

    async def land(
        self,
        upstream: Upstream,
        app: App,
        page: Seen,
        *,
        extra: Sequence[tuple[bytes, bytes]] = (),
    ) -> Seen:
        """Follow redirects within the application; return the page, or the last one before it fails."""
        own = frozenset({uri_host(app.uri), self._public, urlsplit(app.uri).netloc.lower()})
        for _ in range(MAX_REDIRECTS):
            if page.status not in (301, 302, 303, 307, 308):
                break
            target = own_target(page.header(b"location"), page.target, own)
            following = await self.ask(upstream, app, target, extra=extra) if target else NO_REPLY
            if isinstance(following, Failed):
                break
            page = following
        return page

    async def _exchange(
        self,
        connection: ClientConnection,
        app: App,
        target: str,
        method: bytes,
        extra: Sequence[tuple[bytes, bytes]],
        upgrade: bool,
    ) -> Reply:
        headers = self._headers(app, extra, upgrade=upgrade)
        began = trio.current_time()
        with trio.move_on_after(ANSWER) as waiting:
            await connection.send_head(
                method,
                target.encode("ascii"),
                headers,
                NO_BODY,
                upgrade=b"websocket" if upgrade else b"",
                keep_alive=False,
            )
            head = await connection.receive_head()
            while head.status < 200 and head.status != 101:
                head = await connection.receive_head()
        if waiting.cancelled_caught:
            problem = f"it gave no answer to {target} within {ANSWER:.0f} s"
            return Failed(problem=problem, is_silence=True)
        seconds = trio.current_time() - began
        body, first_byte, is_whole = bytearray(), None, False
        if head.status != 101:
            with trio.move_on_after(BODY):
                while len(body) <= MAX_BODY:
                    piece = await connection.receive_body()
                    if not piece:
                        is_whole = True
                        break
                    first_byte = first_byte or trio.current_time() - began
                    body += piece
                    if b"text/event-stream" in b"".join(head.values(b"content-type")):
                        break  # it has no end
        return Seen(
            target=target,
            status=head.status,
            headers=head.headers,
            body=bytes(body[:MAX_BODY]),
            is_whole=is_whole and len(body) <= MAX_BODY,
            seconds=seconds,
            first_byte=first_byte,
        )

    def _headers(self, app: App, extra: Sequence[tuple[bytes, bytes]], *, upgrade: bool) -> Lines:
        named = {name for name, _ in extra}
        asked = [(name, value) for name, value in self._own if name not in named]
        asked += extra
        if upgrade:
            asked.append((b"sec-websocket-version", b"13"))
            asked.append((b"sec-websocket-key", base64.b64encode(os.urandom(16))))
        rewriter = Rewriter(app, hostname=self._hostname)
        block = write_lines(asked)
        return rewriter.request(block, _credential(app), remote=VISITOR, public=self._public).lines


def target_of(uri: str) -> str:
    """Return the path and query of an application's own address."""
    parts = urlsplit(uri)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _credential(app: App) -> SessionCredential:
    """Return what stands for a person: no name, no role, no trait, no JWT."""
    never = datetime.fromtimestamp(0, UTC)
    return SessionCredential(
        sid="",
        user="",
        user_key="",
        roles=(),
        traits={},
        app=app.name,
        host="",
        cluster="",
        epoch=0,
        issued=never,
        expires=never,
        session_expires=never,
        jwt="",
    )
