"""A request for an application: who asks, may they, now; and what they are told if not.

The decision never depends on the path (HTTP-15): every request for an application's host is
judged the same, but for the exact paths that tport reserves on it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final

import trio
from msgspec.structs import replace

from tport.engine.access.locks import check_person
from tport.engine.access.rbac import check_app_access
from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import AccessDenied, LimitExceeded, Locked, NotSignedIn, Unavailable
from tport.engine.net.http1 import Exchange
from tport.engine.net.moments import Moments
from tport.engine.net.turns import Turns
from tport.engine.proto.device_token import presented_secret
from tport.engine.proto.fetch import wants_html
from tport.engine.proto.fields import Lines
from tport.engine.proto.head import RequestHead as HttpHead
from tport.engine.proto.tunnel import RequestHead
from tport.engine.proxy.app_session import CookieNames, Credentials, StateSeal
from tport.engine.proxy.asked import read_asked
from tport.engine.proxy.cross_origin import heed_origin, may_change, may_connect
from tport.engine.proxy.device_tokens import DeviceTokens
from tport.engine.proxy.failures import failure_of
from tport.engine.proxy.for_agent import for_agent
from tport.engine.proxy.forward import Forwarder, Unanswered
from tport.engine.proxy.offers import Offers
from tport.engine.proxy.pages import Pages, cross_site, send_page
from tport.engine.proxy.passage import Begun
from tport.engine.proxy.request_log import RequestLog
from tport.engine.proxy.sign_in import SignIn
from tport.engine.proxy.tally import Tally
from tport.engine.proxy.tunnels import Tunnel, Tunnels
from tport.engine.proxy.ways import Ways
from tport.engine.types.session import AppSession
from tport.engine.types.user import User

logger = logging.getLogger(__name__)

RESERVED: Final = b"/.tport/"  # on every application's host; what is under it never reaches one
LOGOUT: Final = b"/teleport-logout"  # Teleport's, so that links to it work

Clock = Callable[[], datetime]
Headers = list[tuple[bytes, bytes]]


class Apps:
    """Answers requests for applications' hosts."""

    def __init__(
        self,
        *,
        auth: AuthAPI,
        cache: AuthCache,
        tunnels: Tunnels,
        forwarder: Forwarder,
        credentials: Credentials,
        seal: StateSeal,
        names: CookieNames,
        pages: Pages,
        events: EventQueue,
        request_log: RequestLog | None,
        proxy_origin: str,
        port_suffix: str,
        offers: Offers,
        moments: Moments,
        clock: Clock,
    ) -> None:
        """
        Args:
            request_log: is told of each request that is let through; None: nobody is.
            proxy_origin: `https://host[:port]` of the web UI.
            moments: what is answered without a task; the owner keeps it.
            port_suffix: what follows an application's host in its address: ":3080", or "".
        """
        self._cache = cache
        self._names = names
        self._tunnels = tunnels
        self._forwarder = forwarder
        self._pages = pages
        self._events = events
        self._request_log = request_log
        self.tally = Tally()
        self._port_suffix = port_suffix
        self._offers = offers
        self._clock = clock
        self.moments = moments
        self._now = trio.lowlevel.current_clock().current_time  # what trio.current_time ends in
        self._ways = Ways(cache, credentials, tunnels, clock, allowed=self._allowed)
        self._sign_in = SignIn(
            auth=auth,
            cache=cache,
            credentials=credentials,
            seal=seal,
            names=names,
            pages=pages,
            events=events,
            proxy_origin=proxy_origin,
            port_suffix=port_suffix,
            offers=offers,
            clock=clock,
        )
        self._device_tokens = DeviceTokens(
            cache=cache, credentials=credentials, events=events, offers=offers, clock=clock
        )

    def take(self, exchange: Exchange, turns: Turns, *, remote: str) -> bool:
        """Send a request on at once, and its answer back, if nothing of that takes waiting.

        Every answer but the application's own is left to `answer`: False, and nothing was done.
        """
        request = exchange.request
        path = request.target.partition(b"?")[0]
        if path.startswith(RESERVED) or path == LOGOUT:
            return False
        asked = read_asked(request, self._names.app)
        if asked.shows_secret or not asked.session:
            return False
        way = self._ways.of(asked.session)
        if way is None or way.session.host != request.host:
            return False
        if heed_origin(exchange, self._offers) is not None:
            return False
        if not may_change(request, self._offers):
            return False
        session = way.session
        head = self._head(request, asked.passed, session, remote)
        begun = self._forwarder.begin(exchange, head, way.tunnel)
        if begun is None:
            return False
        exchange.recognise()
        _Taken(self, exchange, turns, session, head, begun)
        return True

    async def answer(self, exchange: Exchange, *, remote: str) -> None:
        """Answer one request whose Host is an application's, or nobody's.

        Args:
            remote: the client's IP address, from its socket.
        """
        request = exchange.request
        path = request.target.partition(b"?")[0]
        if path.startswith(RESERVED):
            serve = self._sign_in.answer_reserved(exchange, path, remote)
        elif path == LOGOUT:
            serve = self._sign_in.sign_out(exchange, remote)
        else:
            serve = self._serve(exchange, remote)
        await self._unless_locked(exchange, serve)

    async def go_on(
        self, exchange: Exchange, session: AppSession, head: RequestHead, begun: Begun
    ) -> None:
        """Answer a request that was taken, as far as it has come."""
        serve = self._pass_on(exchange, session, head, begun)
        try:
            await self._unless_locked(exchange, self._unless_signed_out(exchange, serve))
        finally:
            begun.end()

    async def _unless_locked(self, exchange: Exchange, serve: Coroutine[Any, Any, None]) -> None:
        try:
            await serve
        except Locked as locked:
            html = wants_html(exchange.request.headers)
            await send_page(exchange, self._pages.locked(html=html, message=str(locked)))

    async def _unless_signed_out(
        self, exchange: Exchange, serve: Coroutine[Any, Any, None]
    ) -> None:
        try:
            await serve
        except NotSignedIn as over:
            await self._sign_in.send_on(exchange, over.reason)
        except Unavailable:
            html = wants_html(exchange.request.headers)
            await send_page(exchange, self._pages.unavailable(html=html))

    # --- Who, and may they ---------------------------------------------------------------------

    async def _serve(self, exchange: Exchange, remote: str) -> None:
        request = exchange.request
        if (allowed := heed_origin(exchange, self._offers)) is not None:
            await exchange.send_head(204, allowed, end=True)
        elif (secret := presented_secret(request.headers)) is not None:
            await self._serve_device(exchange, secret, remote)
        else:
            await self._unless_signed_out(exchange, self._serve_cookie(exchange, remote))

    async def _serve_cookie(self, exchange: Exchange, remote: str) -> None:
        session = await self._sign_in.session(exchange.request, remote)
        await self._serve_session(exchange, session, remote)

    async def _serve_device(self, exchange: Exchange, secret: str, remote: str) -> None:
        """Answer what shows a device token: it alone counts, whatever cookies came along."""
        try:
            session = await self._device_tokens.session(secret, exchange.request, remote)
            await self._serve_session(exchange, session, remote)
        except NotSignedIn:
            await send_page(exchange, self._pages.bad_device_token())
        except LimitExceeded as limit:
            page = self._pages.too_many(html=False, retry_after=limit.retry_after)
            await send_page(exchange, page)
        except Unavailable:
            await send_page(exchange, self._pages.unavailable(html=False))

    async def _serve_session(self, exchange: Exchange, session: AppSession, remote: str) -> None:
        exchange.recognise()
        request = exchange.request
        by_cookie = session.web_session != ""  # which browsers send unasked; a device token, never
        if request.upgrade and by_cookie and not may_connect(request, self._offers):
            self._denied(session, remote, "a WebSocket from another origin")
            await send_page(exchange, cross_site(self._pages, request))
            return
        if by_cookie and not may_change(request, self._offers):
            self._denied(session, remote, "what another origin's page sent")
            await send_page(exchange, cross_site(self._pages, request))
            return
        await self._pass_on(
            exchange, session, self._head(request, for_agent(request), session, remote), None
        )

    async def _pass_on(
        self, exchange: Exchange, session: AppSession, head: RequestHead, begun: Begun | None
    ) -> None:
        def candidates() -> list[Tunnel]:
            return self._allowed(session, self._cache.users.get(session.user))

        try:
            if begun is None:
                await self._tunnels.wait_for_offer(session.app)
            await self._forward(exchange, session, head, candidates, begun)
        except NotSignedIn:
            raise NotSignedIn("signed out", reason="session-over") from None
        except AccessDenied as denied:
            self._denied(session, head.remote, denied.reason)
            if isinstance(denied, Locked):
                raise
            await self._tell_denied(exchange, session)

    async def _tell_denied(self, exchange: Exchange, session: AppSession) -> None:
        html, host = wants_html(exchange.request.headers), exchange.request.host
        page = self._pages.denied(html=html, user=session.user, host=host)
        await send_page(exchange, page)

    def _allowed(self, session: AppSession, user: User | None) -> list[Tunnel]:
        """Return the tunnels whose agents' offers this user may open now, the preferred one first.

        Labels belong to each agent's offer, so that one may be allowed and another not.

        Raises:
            AccessDenied: there are offers, and none is allowed; or there is no such user any more.
            Locked: a lock is on the user.
        """
        if user is None:
            raise AccessDenied("access denied", reason="the user was deleted")
        check_person(self._cache.locks, user.name, user.roles, self._clock())
        allowed: list[Tunnel] = []
        refusal: AccessDenied | None = None
        for tunnel in self._tunnels.candidates(session.app, session.id):
            try:
                self._check_offer(session, user, tunnel)
            except AccessDenied as denied:
                refusal = denied
            else:
                allowed.append(tunnel)
        if not allowed and refusal is not None:
            raise refusal
        return allowed

    def _check_offer(self, session: AppSession, user: User, tunnel: Tunnel) -> None:
        labels = tunnel.servers[session.app].labels
        check_app_access(self._cache.roles, user.roles, user.traits, labels)

    def _check_begun(self, session: AppSession, begun: Begun) -> None:
        """Raise AccessDenied, or Locked, if the user may not get the answer to what was sent before.

        That it may go elsewhere now is not enough: it may have changed something where it was sent.
        The tunnel may have been replaced meanwhile; what came by it then goes on.
        """
        user = self._cache.users.get(session.user)
        self._allowed(session, user)
        if user is not None and session.app in begun.tunnel.servers:
            self._check_offer(session, user, begun.tunnel)

    def verdict(self, session: str) -> str | None:
        """Return why what a session runs must end now; None: it may, by all that is known here."""
        if self._cache.is_over(session):
            return "session ended"
        live = self._cache.live_session(session)
        if live is None:
            return None  # not remembered, hence to be asked for: see the service
        try:
            self._allowed(live, self._cache.users.get(live.user))
        except Locked:
            return "account locked"
        except AccessDenied:
            return "access removed"
        return None

    # --- Through the tunnel ----------------------------------------------------------------------

    def _head(
        self, request: HttpHead, passed: Lines, session: AppSession, remote: str
    ) -> RequestHead:
        return RequestHead(
            app=session.app,
            session=session.id,
            credential="",
            method=request.method,
            target=request.target,
            headers=passed,
            length=request.framing.length,
            upgrade=request.upgrade,
            remote=remote,
            public=request.host + self._port_suffix,
            request_id=f"{random.getrandbits(64):016x}",
        )

    async def _forward(
        self,
        exchange: Exchange,
        session: AppSession,
        head: RequestHead,
        candidates: Callable[[], list[Tunnel]],
        begun: Begun | None,
    ) -> None:
        """Send it on, tell what fails, and note for the log of requests how it ended.

        Raises:
            NotSignedIn, AccessDenied, Unavailable: it is not let through; it isn't noted, unless it
                was sent before.
        """
        began = begun.began if begun is not None else trio.current_time()
        end: str | None = ""  # why the application did not answer; None: it isn't let through
        try:
            if begun is not None:  # access may have changed since
                await self._cache.app_session(session.id)
                self._check_begun(session, begun)
            outcome = await self._forwarder.forward(exchange, head, candidates, begun)
            if outcome is not None:
                took = trio.current_time() - began
                await self._failed(exchange, session, head, outcome, took)
                end = _error(outcome)
        except (NotSignedIn, AccessDenied, Unavailable):
            end = None if begun is None else ""
            raise
        finally:
            if end is not None:
                self._note(exchange, session, head, began, end)

    def _note(
        self, exchange: Exchange, session: AppSession, head: RequestHead, began: float, error: str
    ) -> None:
        ended = self._now()
        self.tally.ended(session.app, exchange.status, began, ended)
        if self._request_log is not None:
            error = error or ("" if exchange.is_whole else "cut")
            self._request_log.note(
                exchange, session, head.request_id, head.remote, (began, ended), error
            )

    async def _failed(
        self,
        exchange: Exchange,
        session: AppSession,
        head: RequestHead,
        outcome: Unanswered,
        took: float,
    ) -> None:
        """Tell why there is no answer, on which hop, and what to do."""
        problem, request = outcome.problem, exchange.request
        if problem.kind == "denied":
            self._denied(session, head.remote, problem.cause)
            await self._tell_denied(exchange, session)
            return
        self.tally.unanswered(problem.kind)
        failure = failure_of(problem, head, host=request.host, agent=outcome.agent, took=took)
        if not outcome.agent:
            failure = replace(failure, since=self._tunnels.left_at(session.app))
        logger.info(
            "%s: %s: %s",
            *(session.app, failure.error, failure.cause),
            extra={"request_id": head.request_id},
        )
        page = self._pages.failure(failure, html=wants_html(request.headers), now=self._clock())
        await send_page(exchange, page)

    def _denied(self, session: AppSession, remote: str, reason: str) -> None:
        self._events.put(
            "app.access.denied",
            user=session.user,
            app_name=session.app,
            app_public_addr=session.host,
            sid=session.id,
            error=reason,
            **{"addr.remote": remote},
        )


class _Taken:
    """A request that was sent on without a task: passes its answer on, or leaves that to a task."""

    def __init__(
        self,
        apps: Apps,
        exchange: Exchange,
        turns: Turns,
        session: AppSession,
        head: RequestHead,
        begun: Begun,
    ) -> None:
        self._apps = apps
        self._exchange = exchange
        self._turns = turns
        self._session = session
        self._head = head
        self._begun = begun
        begun.stream.on_arrival = self._arrived
        turns.on_gone = self._gone
        apps.moments.add(self)

    def _arrived(self) -> None:
        try:
            whole = self._begun.pass_on()
        except Exception as error:  # whatever it is: the connection's task tells
            self._end()
            self._turns.fail(error)
            return
        if whole:
            self._end()
            self._turns.done()
        else:
            self.late()

    def late(self) -> None:
        self._leave()
        self._turns.wait(self._go_on)

    async def _go_on(self, exchange: Exchange) -> None:
        await self._apps.go_on(exchange, self._session, self._head, self._begun)

    def _gone(self) -> None:
        """The client has gone."""
        self._end()

    def _end(self) -> None:
        """The request is over, one way or the other."""
        self._leave()
        self._begun.end()
        self._apps._note(self._exchange, self._session, self._head, self._begun.began, "")

    def _leave(self) -> None:
        self._begun.stream.on_arrival = None
        self._apps.moments.discard(self)


def _error(outcome: Unanswered) -> str | None:
    """Return why an application did not answer, for the log; None: it wasn't to be asked."""
    problem = outcome.problem
    return None if problem.kind == "denied" else f"{problem.kind}: {problem.cause}"
