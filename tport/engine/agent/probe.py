"""Try an application as people's browsers will, and see what it makes of that.

Only its configured address is dialled. Besides the headers of its definition nothing is sent that
a signed-out visitor couldn't send: GETs, WebSocket handshakes that are hung up at once, and a POST
without a body to a path that nobody serves, which shows who refuses it and why. No JWT, no cookie,
nobody's name.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import trio

from tport.engine.agent.observed import (
    Failed,
    Observed,
    Page,
    Reply,
    Seen,
    is_here,
    own_target,
    uri_host,
)
from tport.engine.agent.rewrite import Rewriter
from tport.engine.agent.upstream import Upstream, close
from tport.engine.config.known_apps import KnownApp, known_app, recognise
from tport.engine.errors import ConnectionProblem, TportError
from tport.engine.net.http1_client import ClientConnection, UpstreamGone
from tport.engine.proto.framing import NO_BODY
from tport.engine.types.app import App
from tport.engine.types.probe import Proposal
from tport.engine.types.session import SessionCredential

ANSWER: Final = 5.0  # s for one answer's head: slower pages keep people waiting, too
BODY: Final = 2.0  # s for the beginning of its body
MAX_BODY: Final = 64 * 1024  # bytes of it; titles and icons stand at the top
MAX_REDIRECTS: Final = 4  # within the application, to the page that has a title
HEADS: Final = (4096, 8192, 16_384)  # bytes added to a head; common limits are 8 and 16 KiB
VISITOR: Final = "192.0.2.1"  # an address for documentation (RFC 5737): a client, and nobody's

_BROWSER: Final = (
    (b"user-agent", b"Mozilla/5.0 (tport probe)"),
    (b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),
    (b"accept-encoding", b"identity"),
)
_NO_REPLY: Final = Failed(problem="it gave no answer in time", is_silence=True)

Clock = Callable[[], datetime]
K = TypeVar("K")


async def observe(
    app: App, public: str, *, hostname: str, clock: Clock, deadline: float
) -> tuple[Observed, KnownApp | None]:
    """Try an application; never raises for what it does.

    Args:
        public: host[:port] at which people reach it.
        hostname: of this machine.
        deadline: seconds for all of it; what wasn't tried by then is missing in the result.

    Raises:
        InvalidRequest, ConfigError: the definition itself can't be served.
    """
    return await _Probe(app, public, hostname, clock, trio.current_time() + deadline).run()


class _Probe:
    def __init__(
        self, app: App, public: str, hostname: str, clock: Clock, give_up_at: float
    ) -> None:
        self._app = app
        self._public = public
        self._hostname = hostname
        self._clock = clock
        self._give_up_at = give_up_at
        self._upstream: Upstream

    async def run(self) -> tuple[Observed, KnownApp | None]:
        app = self._app
        target = _target(app.uri)
        self._upstream = await self._made(app)
        first = await self._ask(app, target)
        if (other := await self._other_scheme(first)) is not None:
            app, self._upstream = other
            page = await self._ask(app, target)
        else:
            page = first
        known = known_app(app.name)
        if isinstance(page, Failed):
            return Observed(uri=app.uri, first=page if other else first), known
        landing = await self._land(app, page)
        known = recognise(Page(landing).title, landing.headers, landing.body) or known
        hosts = {host: _told(app, host) for host in (uri_host(app.uri), self._public)}
        socket_target = (known.websocket if known else "") or landing.target
        events_target = (known.events if known else "") or target
        nowhere = f"/tport-probe-{os.urandom(8).hex()}"
        away = f"https://{self._public}"
        home = f"{urlsplit(app.uri).scheme}://{uri_host(app.uri)}"

        async def post(told: App, origin: str) -> Reply:
            return await self._ask(told, nowhere, method=b"POST", extra=_origin(origin))

        async def socket(told: App, origin: str) -> Reply:
            return await self._ask(told, socket_target, extra=_origin(origin), upgrade=True)

        own = hosts[uri_host(app.uri)]
        stream = [(b"accept", b"text/event-stream")]
        missing = known.path if known and page.status == 404 else ""
        return Observed(
            uri=app.uri,
            first=first,
            landing=landing,
            pages=_heard({host: await self._ask(told, target) for host, told in hosts.items()}),
            posts=_heard({host: await post(told, away) for host, told in hosts.items()}),
            sockets=_heard({host: await socket(told, away) for host, told in hosts.items()}),
            post_at_home=await post(own, home),
            socket_at_home=await socket(own, home),
            events=await self._ask(app, events_target, extra=stream),
            heads=_heard(
                {
                    size: await self._ask(app, target, extra=[(b"x-tport-probe", b"a" * size)])
                    for size in HEADS
                }
            ),
            known_path=await self._ask(app, missing) if missing else None,
            icon=await self._ask(app, Page(landing).icon),
        ), known

    async def _made(self, app: App) -> Upstream:
        if urlsplit(app.uri).scheme == "http":
            return Upstream(app, self._clock)
        return await trio.to_thread.run_sync(Upstream, app, self._clock)  # it reads certificates

    async def _other_scheme(self, first: Reply) -> tuple[App, Upstream] | None:
        """Return the application at its address by the other scheme, if it speaks that one."""
        parts = urlsplit(self._app.uri)
        if parts.scheme == "http":
            fails = isinstance(first, Failed) or first.status == 400
            if not fails or not await self._upstream.expects_tls():
                return None
            scheme = "https"
        elif isinstance(first, Failed) and is_here(self._app.uri):
            # A silent one too: it may wait for the end of a line. Elsewhere, whoever stands in
            # between could so talk people out of TLS.
            scheme = "http"
        else:
            return None
        # The port stays what it is: where none is written, it is the one that was dialled.
        netloc = parts.netloc if parts.port else f"{parts.netloc}:{_port(parts.scheme)}"
        uri = urlunsplit(parts._replace(scheme=scheme, netloc=netloc))
        app = Proposal(uri=uri).applied(self._app)
        upstream = await self._made(app)
        if scheme == "http":
            before, self._upstream = self._upstream, upstream
            reply = await self._ask(app, _target(uri))
            self._upstream = before
            if isinstance(reply, Failed) or reply.status == 400:  # so servers refuse it, of TLS
                return None
        return app, upstream

    async def _land(self, app: App, page: Seen) -> Seen:
        """Follow redirects within the application; return the page, or the last one before it fails."""
        own = frozenset({uri_host(app.uri), self._public, urlsplit(app.uri).netloc.lower()})
        for _ in range(MAX_REDIRECTS):
            if page.status not in (301, 302, 303, 307, 308):
                break
            target = own_target(page.header(b"location"), page.target, own)
            following = await self._ask(app, target) if target else _NO_REPLY
            if isinstance(following, Failed):
                break
            page = following
        return page

    async def _ask(
        self,
        app: App,
        target: str,
        *,
        method: bytes = b"GET",
        extra: Sequence[tuple[bytes, bytes]] = (),
        upgrade: bool = False,
    ) -> Reply:
        """Send one request on a connection of its own, as the agent would for a visitor."""
        if trio.current_time() >= self._give_up_at:
            return _NO_REPLY
        reply: Reply = _NO_REPLY
        with trio.move_on_at(min(self._give_up_at, trio.current_time() + ANSWER + BODY)):
            connection: ClientConnection | None = None
            try:
                connection = await self._upstream.connect()
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
        body, first_byte = bytearray(), None
        if head.status != 101:
            with trio.move_on_after(BODY):
                while len(body) < MAX_BODY and (piece := await connection.receive_body()):
                    first_byte = first_byte or trio.current_time() - began
                    body += piece
                    if b"text/event-stream" in b"".join(head.values(b"content-type")):
                        break  # it has no end
        return Seen(
            target=target,
            status=head.status,
            headers=head.headers,
            body=bytes(body),
            seconds=seconds,
            first_byte=first_byte,
        )

    def _headers(
        self, app: App, extra: Sequence[tuple[bytes, bytes]], *, upgrade: bool
    ) -> list[tuple[bytes, bytes]]:
        named = {name for name, _ in extra}
        asked = [(name, value) for name, value in _BROWSER if name not in named]
        asked += extra
        if upgrade:
            asked.append((b"sec-websocket-version", b"13"))
            asked.append((b"sec-websocket-key", base64.b64encode(os.urandom(16))))
        rewriter = Rewriter(app, hostname=self._hostname)
        return rewriter.request(asked, _nobody(app), remote=VISITOR, public=self._public).headers


def _told(app: App, host: str) -> App:
    return Proposal(host=host).applied(app)


def _heard(replies: dict[K, Reply]) -> dict[K, Reply]:
    """Leave out silence: an application that is slow, or was not asked, has refused nothing."""
    return {
        key: reply
        for key, reply in replies.items()
        if not (isinstance(reply, Failed) and reply.is_silence)
    }


def _origin(origin: str) -> list[tuple[bytes, bytes]]:
    return [(b"origin", origin.encode("ascii"))]


def _target(uri: str) -> str:
    parts = urlsplit(uri)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _nobody(app: App) -> SessionCredential:
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
