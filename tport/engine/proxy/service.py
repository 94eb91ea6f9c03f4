"""The proxy, put together: its one public port, what comes in there, and its end.

accept ── ClientHello ── by ALPN ─┬─ browser ── TLS ── HTTP ── by Host ─┬─ our own pages
                                  ├─ agent ── mutual TLS ── tunnel      └─ an application
                                  ├─ a CA that looks whether a name is ours
                                  └─ auth ── relayed as it is: TLS ends there
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NoReturn

import trio

from tport.engine.access.locks import check_host
from tport.engine.api.cache import AuthCache
from tport.engine.api.changes import (
    AcmeChanged,
    AppServersChanged,
    AuthoritiesChanged,
    Change,
    LockChanged,
    LockDeleted,
    ProxiesChanged,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
    UserChanged,
    UserDeleted,
)
from tport.engine.api.events import EventQueue
from tport.engine.api.live import LiveStreams
from tport.engine.defaults import DRAIN
from tport.engine.errors import ConnectionProblem, Locked, NotSignedIn, TportError, Unavailable
from tport.engine.net.accept import accept
from tport.engine.net.asgi import run_asgi
from tport.engine.net.http1 import Drain, Exchange, Limits, Page, Work, open_http1, plain_page
from tport.engine.net.memory import keep_within_memory, memory_usage
from tport.engine.net.moments import Moments
from tport.engine.net.seats import Seat, Seats, closed_by_nobody
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tls import refuse_protocols
from tport.engine.net.tls_stream import TlsStream
from tport.engine.net.turns import Turns
from tport.engine.proto.client_hello import ClientHello
from tport.engine.proto.fetch import wants_html
from tport.engine.proto.fields import Headers
from tport.engine.proto.head import RequestHead
from tport.engine.proto.head_meaning import BadHead
from tport.engine.proxy.agent_door import AgentDoor
from tport.engine.proxy.app_session import CookieNames, Credentials, StateSeal
from tport.engine.proxy.apps import Apps
from tport.engine.proxy.certificate_part import CertificatePart
from tport.engine.proxy.doorstep import Doorstep
from tport.engine.proxy.forward import Forwarder
from tport.engine.proxy.hsts import WITH_HSTS, WITHOUT_HSTS
from tport.engine.proxy.measured import Measured
from tport.engine.proxy.offers import Offers
from tport.engine.proxy.pages import send_page
from tport.engine.proxy.presence import keep_presence
from tport.engine.proxy.request_log import RequestLog
from tport.engine.proxy.router import Door, Room, door, room, wanted_proxy
from tport.engine.proxy.settings import ProxySettings, Surroundings, WebParts
from tport.engine.proxy.siblings import elsewhere, take_over, wait_for_tunnels
from tport.engine.proxy.stopping import let_finish
from tport.engine.proxy.tunnels import Tunnels, TunnelService
from tport.engine.proxy.waiting import Waiting
from tport.engine.types.app import App, public_host

logger = logging.getLogger(__name__)

LAST_EVENTS: Final = 2.0  # s for the last audit events to reach auth when we stop
# s between looks at the clock on behalf of what runs: an expired session's WebSocket has a second
# more for its last frame (forward.CLOSE_DEADLINE), and within 5 s all is over.
JUDGE_INTERVAL: Final = 3.0

Clock = Callable[[], datetime]


async def run_proxy(
    settings: ProxySettings,
    around: Surroundings,
    listeners: Sequence[trio.SocketListener],
    clock: Clock,
    stop: trio.Event,
    *,
    drain: float = DRAIN,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the listeners until `stop`, drain, and return. Started: it serves.

    Requests that run may go on for `drain` seconds. When WebSockets alone are left, or it is time,
    those are closed with 1001; what then still runs is cancelled.
    """
    proxy = await _Proxy.open(settings, around, clock)
    await proxy.run(listeners, stop, drain, task_status)


class _Proxy:
    @classmethod
    async def open(cls, settings: ProxySettings, around: Surroundings, clock: Clock) -> _Proxy:
        keys = await around.auth.proxy_keys()
        authorities = await around.auth.authorities()
        return cls(
            settings,
            around,
            clock,
            seal_key=base64.b64decode(keys.seal),
            forms_key=base64.b64decode(keys.forms),
            cluster=authorities.cluster,
            web_authority=authorities.web[0],
            cluster_id8=hashlib.sha256(authorities.host[0].encode()).hexdigest()[:8],
        )

    def __init__(
        self,
        settings: ProxySettings,
        around: Surroundings,
        clock: Clock,
        *,
        seal_key: bytes,
        forms_key: bytes,
        cluster: str,
        web_authority: str,
        cluster_id8: str,
    ) -> None:
        self._settings = settings
        self._around = around
        self._clock = clock
        main = settings.public_addrs[0]
        self._own_hosts = frozenset(address.host for address in settings.public_addrs)
        self._main_host = main.host
        self._port_suffix = "" if main.port == 443 else f":{main.port}"
        self._drain = Drain()
        self._anew = trio.Event()  # the watch was begun anew: nothing remembered counts

        auth = around.auth
        self._cache = AuthCache(auth, clock)
        self._events = EventQueue(auth)
        self._request_log = (
            RequestLog(auth, self._events, clock, include_query=settings.include_query)
            if settings.request_log
            else None
        )
        is_elsewhere = elsewhere(settings.share, lambda: self._cache.servers)
        self._tunnels = Tunnels(clock, lambda: self._cache.down, is_elsewhere)
        self._live: LiveStreams[str] = LiveStreams()
        self._waiting = Waiting()
        self._moments = Moments()
        seal = StateSeal(seal_key, clock)
        credentials = Credentials(auth, clock)
        self._credentials = credentials
        self._forwarder = Forwarder(credentials=credentials, live=self._live, waiting=self._waiting)
        self._apps = Apps(
            auth=auth,
            cache=self._cache,
            tunnels=self._tunnels,
            forwarder=self._forwarder,
            credentials=credentials,
            seal=seal,
            names=CookieNames(cluster_id8),
            pages=around.pages,
            events=self._events,
            request_log=self._request_log,
            proxy_origin=f"https://{main.host}{self._port_suffix}",
            port_suffix=self._port_suffix,
            moments=self._moments,
            offers=Offers(self._cache, main.host, self._port_suffix),
            clock=clock,
        )
        self._seats = Seats(
            settings.room, self._apps.tally.shed, is_shared=settings.clients.is_shared
        )
        self._limits = Limits(idle=settings.idle)
        self._tunnel_service = TunnelService(
            auth=auth,
            events=self._events,
            tunnels=self._tunnels,
            proxy_id=settings.proxy_id,
            cluster=cluster,
            public_address=self._public_address,
            live_proxies=self._live_proxies,
            check_host=self._check_host,
            clock=clock,
        )
        self._agents = AgentDoor(
            self._tunnel_service,
            cache=self._cache,
            events=self._events,
            own_pair=around.own_pair,
            clock=clock,
        )
        self._certificates = CertificatePart(
            settings,
            auth=auth,
            cache=self._cache,
            events=self._events,
            clock=clock,
            web_authority=web_authority,
            own_hosts=self._own_hosts,
            is_known=self._is_known,
            hosts=self._hosts,
            port_suffix=self._port_suffix,
            next_files=around.next_files,
            asked=around.next_reload,
        )
        self._doorstep = Doorstep(self._seats, settings.clients, self._certificates.shown, self)
        self._listed_hosts: tuple[str, ...] = ()  # ours, and those of `_known_servers`
        self._known_hosts: frozenset[str] = frozenset()  # the same
        self._known_servers: object = None
        parts = WebParts(
            open_launch=seal.open, forms_key=forms_key, cluster=cluster, cluster_id8=cluster_id8
        )
        self._web = around.make_web(parts)
        self._cache.on_change = self._changed
        measured = Measured(
            tally=self._apps.tally,
            tunnels=self._tunnels,
            live=self._live,
            cache=self._cache,
            events=self._events,
            request_log=self._request_log,
            certificates=self._certificates,
            connections=lambda: (self._doorstep.browsers, len(self._seats)),
            strangers=lambda: self._seats.strangers,
        )
        around.board.add("proxy", measured.figures, measured.troubles)

    def _public_address(self, app: App) -> str:
        return public_host(app, self._main_host) + self._port_suffix

    def _live_proxies(self) -> tuple[str, ...]:
        others = (proxy for proxy in self._cache.proxies if proxy != self._settings.proxy_id)
        return (self._settings.proxy_id, *others)

    def _check_host(self, host_id: str) -> None:
        check_host(self._cache.locks, host_id, self._clock())

    def _is_known(self, host: str) -> bool:
        """Tell whether a host is ours or an application's now."""
        self._hosts()
        return host in self._known_hosts

    def _hosts(self) -> tuple[str, ...]:
        """Return the hosts that are served now: ours, then those of applications."""
        if self._known_servers is not self._cache.servers:
            self._known_servers = self._cache.servers
            servers = (each for each in self._cache.servers if not each.refused)
            apps = sorted({public_host(server.app, self._main_host) for server in servers})
            ours = (address.host for address in self._settings.public_addrs)
            self._listed_hosts = (*ours, *apps)
            self._known_hosts = frozenset(self._listed_hosts)
        return self._listed_hosts

    def _changed(self, change: Change | None) -> None:
        """Judge anew what a change may end, and drop the credentials that it makes untrue."""
        match change:
            case SessionEnded(id=session):
                self._credentials.forget(session)
                self._live.cut(session, "session ended")
            case RoleChanged() | RoleDeleted() | UserChanged() | UserDeleted():
                self._live.judge(self._apps.verdict)
            case LockChanged() | LockDeleted():
                self._live.judge(self._apps.verdict)
                self._tunnel_service.judge()
            case AuthoritiesChanged(authorities=authorities):
                self._certificates.authorities_changed(authorities.web[0])
                self._credentials.forget_all()
            case AcmeChanged():
                self._certificates.acme.changed()
            case AppServersChanged(servers=servers):
                self._credentials.redefined(servers)
            case ProxiesChanged():
                self._tunnel_service.proxies_changed()
            case None:
                self._credentials.forget_all()
                self._live.judge(self._apps.verdict)
                self._tunnel_service.judge()
                self._tunnel_service.proxies_changed()
                self._certificates.acme.changed(anew=True)
                self._anew.set()
                self._anew = trio.Event()
            case _:
                pass  # nobody's access

    # --- Running -----------------------------------------------------------------------------------

    async def run(
        self,
        listeners: Sequence[trio.SocketListener],
        stop: trio.Event,
        drain: float,
        task_status: trio.TaskStatus[None],
    ) -> None:
        async with trio.open_nursery() as background:
            background.start_soon(self._events.keep)
            background.start_soon(self._waiting.keep)
            background.start_soon(self._moments.keep)
            if self._request_log is not None:
                background.start_soon(self._request_log.keep)
            await background.start(self._cache.keep)
            background.start_soon(self._judge_by_clock)
            background.start_soon(self._judge_tunnels_by_clock)
            background.start_soon(keep_within_memory, self._seats, memory_usage())
            background.start_soon(keep_presence, self._around.auth, self._settings, self._tunnels)
            background.start_soon(self._certificates.keep)
            async with self._connections() as connections:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        take_over, self._around.siblings, self._doorstep.welcome_handed
                    )
                    if (share := self._settings.share) is not None:
                        await wait_for_tunnels(self._tunnels, lambda: self._cache.servers)
                    for listener in listeners:
                        accepting.start_soon(
                            accept, listener, self._doorstep.welcome, self._seats, share
                        )
                    task_status.started()
                    await stop.wait()
                    accepting.cancel_scope.cancel()
                await let_finish(self._drain, self._doorstep, self._forwarder, drain)
                connections.cancel_scope.cancel()
            with trio.move_on_after(LAST_EVENTS):
                if self._request_log is not None:
                    await self._request_log.send()
                await self._events.wait_sent()
            background.cancel_scope.cancel()

    @asynccontextmanager
    async def _connections(self) -> AsyncIterator[trio.Nursery]:
        """Yield where the tasks of connections run; on leaving, no connection is left."""
        try:
            async with trio.open_nursery() as tasks:
                self._doorstep.begin(tasks)
                try:
                    yield tasks
                finally:
                    self._doorstep.close()
        finally:
            self._doorstep.close()  # those that a task had until now

    async def _judge_by_clock(self) -> NoReturn:
        while True:
            with trio.move_on_after(JUDGE_INTERVAL):
                await self._anew.wait()
            self._live.judge(self._apps.verdict)
            for session in self._live.held():
                if self._cache.live_session(session) is None:
                    await self._ask_again(session)

    async def _judge_tunnels_by_clock(self) -> NoReturn:
        while True:
            await trio.sleep(JUDGE_INTERVAL)
            self._tunnel_service.judge()

    async def _ask_again(self, session: str) -> None:
        """Ask auth about a session that runs something and isn't remembered any more.

        That it isn't is no verdict: a new watch forgets all of them, and ends none.
        """
        try:
            await self._cache.app_session(session)
        except (NotSignedIn, Locked):
            self._live.cut(session, "session ended")
        except TportError as problem:
            logger.debug("a session can't be asked for now: %s", problem)

    # --- One connection ------------------------------------------------------------------------------

    async def serve_other(
        self,
        stream: PrefixedStream,
        seat: Seat,
        hello: ClientHello,
        remote: str,
        *,
        is_ours: bool,
    ) -> None:
        match door(hello.alpn):
            case Door.TUNNEL:
                wanted = "" if is_ours else wanted_proxy(hello.alpn)
                if not await self._around.siblings.hand_over(wanted, stream, remote):
                    await self._agents.serve(stream, seat, remote)
            case Door.AUTH:
                seat.hand_on()  # auth counts those of strangers by itself, and ends them
                seat.end_if_resting = closed_by_nobody
                await self._around.to_auth(stream, remote)
            case Door.CHALLENGE:
                await self._certificates.acme.prove_by_tls(stream, hello.server_name)
            case _:
                await refuse_protocols(stream)

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
        visit = _Visit(self, self._apps, server_name, self._settings.clients.of_requests(remote))
        return open_http1(
            tls,
            visit.answer,
            visit.take,
            by_task=by_task,
            closed=closed,
            on_error=self._on_error,
            refusal=visit.refusal,
            limits=self._limits,
            drain=self._drain,
            seal=WITH_HSTS if hsts else WITHOUT_HSTS,
            seat=seat,
        )

    async def answer(self, exchange: Exchange, server_name: str | None, remote: str) -> None:
        request = exchange.request
        where = self._room(request, server_name)
        if where is Room.APP:
            await self._apps.answer(exchange, remote=remote)
        elif where is Room.MISDIRECTED:
            exchange.keep_alive = False
            html = wants_html(request.headers)
            page = self._around.pages.misdirected(html=html, host=request.host)
            await send_page(exchange, page)
        else:
            await run_asgi(self._web, exchange, client=(remote, 0))

    def app_host(self, server_name: str | None) -> str | None:
        """Return the one Host by which requests with this SNI may reach an application."""
        host = server_name or ""
        where = room(server_name=server_name, host=host, own_hosts=self._own_hosts, path=b"")
        return host if where is Room.APP else None

    def refusal(self, bad: BadHead, server_name: str | None) -> Page:
        if bad.status != 431:
            return plain_page(bad)
        page = self._around.pages.head_too_large(html=True, host=server_name or "")
        return [(n.encode(), v.encode()) for n, v in page.headers], page.body

    def _room(self, request: RequestHead, server_name: str | None) -> Room:
        return room(
            server_name=server_name,
            host=request.host,
            own_hosts=self._own_hosts,
            path=request.target.partition(b"?")[0],
        )

    async def _on_error(self, exchange: Exchange, error: TportError) -> None:
        pages, html = self._around.pages, wants_html(exchange.request.headers)
        if isinstance(error, Unavailable | ConnectionProblem):
            await send_page(exchange, pages.unavailable(html=html))
        elif error.status >= 500:
            await send_page(exchange, pages.broken(html=html))
        else:
            headers, body = plain_page(error)
            await exchange.respond(error.status, headers, body)


class _Visit:
    """What a browser's connection asks of the proxy, with what is known of the connection."""

    __slots__ = ("_app_host", "_apps", "_client_of", "_name", "_proxy")

    def __init__(
        self, proxy: _Proxy, apps: Apps, name: str | None, client_of: Callable[[Headers], str]
    ) -> None:
        self._proxy, self._apps = proxy, apps
        self._name = name
        self._app_host: str | None = None  # not asked yet; a fault in it is a request's, not ours
        self._client_of = client_of

    async def answer(self, exchange: Exchange) -> None:
        remote = self._client_of(exchange.request.headers)
        await self._proxy.answer(exchange, self._name, remote)

    def take(self, exchange: Exchange, turns: Turns) -> bool:
        request = exchange.request
        if self._app_host is None:
            self._app_host = self._proxy.app_host(self._name) or ""
        if request.host != self._app_host:
            return False
        return self._apps.take(exchange, turns, remote=self._client_of(request.headers))

    def refusal(self, bad: BadHead) -> Page:
        return self._proxy.refusal(bad, self._name)
