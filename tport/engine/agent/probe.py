"""Try an application as people's browsers will, and see what it makes of that.

Only its configured address is dialled. Besides the headers of its definition nothing is sent that
a signed-out visitor couldn't send: GETs, WebSocket handshakes that are hung up at once, and a POST
without a body to a path that nobody serves, which shows who refuses it and why. No JWT, no cookie,
nobody's name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import trio

from tport.engine.agent.nobody import Nobody, target_of
from tport.engine.agent.observed import Failed, Observed, Page, Reply, is_here, uri_host
from tport.engine.agent.upstream import Upstream
from tport.engine.config.known_apps import KnownApp, known_app, recognise
from tport.engine.types.app import App
from tport.engine.types.probe import Proposal

HEADS: Final = (4096, 8192, 16_384)  # bytes added to a head; common limits are 8 and 16 KiB

_BROWSER: Final = (
    (b"user-agent", b"Mozilla/5.0 (tport probe)"),
    (b"accept", b"text/html,application/xhtml+xml,*/*;q=0.8"),
    (b"accept-encoding", b"identity"),
)

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
        self._clock = clock
        self._nobody = Nobody(public, hostname=hostname, headers=_BROWSER, until=give_up_at)
        self._upstream: Upstream

    async def run(self) -> tuple[Observed, KnownApp | None]:
        app = self._app
        target = target_of(app.uri)
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
        landing = await self._nobody.land(self._upstream, app, page)
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
            reply = await self._ask(app, target_of(uri))
            self._upstream = before
            if isinstance(reply, Failed) or reply.status == 400:  # so servers refuse it, of TLS
                return None
        return app, upstream

    async def _ask(
        self,
        app: App,
        target: str,
        *,
        method: bytes = b"GET",
        extra: Sequence[tuple[bytes, bytes]] = (),
        upgrade: bool = False,
    ) -> Reply:
        return await self._nobody.ask(
            self._upstream, app, target, method=method, extra=extra, upgrade=upgrade
        )


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


def _port(scheme: str) -> int:
    return 443 if scheme == "https" else 80
