"""A request for an application: who asks, may they, now; and what they are told if not.

The decision never depends on the path (HTTP-15): every request for an application's host is
judged the same, but for the exact paths that tport reserves on it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol
from urllib.parse import parse_qs

from tport.engine.access.rbac import check_app_access
from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI, OpenedApp
from tport.engine.defaults import LAUNCH_STATE_TTL
from tport.engine.errors import AccessDenied, NotSignedIn, Unavailable
from tport.engine.net.http1 import Exchange
from tport.engine.proto.cookies import (
    clear_cookie,
    find_cookie,
    is_ambiguous,
    is_ours,
    set_cookie,
    strip_cookies,
)
from tport.engine.proto.fetch import Intent, intent, wants_html
from tport.engine.proto.fields import fold, forwardable, is_reserved
from tport.engine.proto.head import RequestHead as HttpHead
from tport.engine.proto.tunnel import NoAnswer, RequestHead
from tport.engine.proxy.app_session import CookieNames, Credentials, StateSeal
from tport.engine.proxy.forward import Forwarder
from tport.engine.proxy.tunnels import Tunnel, Tunnels
from tport.engine.types.failure import Failure, Page, Place
from tport.engine.types.launch import RoundCause
from tport.engine.types.session import AppSession, session_id
from tport.engine.types.user import User

logger = logging.getLogger(__name__)

RESERVED: Final = b"/.tport/"  # on every application's host; what is under it never reaches one
LOGOUT: Final = b"/teleport-logout"  # Teleport's, so that links to it work
MAX_STATE_ID: Final = 64  # characters; ours have 22

Clock = Callable[[], datetime]
Headers = list[tuple[bytes, bytes]]


class Pages(Protocol):
    """What a person, or a program, is told. The web service's pages keep this promise."""

    def failure(self, failure: Failure, *, html: bool, now: datetime) -> Page: ...
    def not_signed_in(self, *, html: bool, login_url: str, reason: str) -> Page: ...
    def not_sent(self, *, host: str, login_url: str) -> Page: ...
    def framed(self, *, host: str, url: str) -> Page: ...
    def denied(self, *, html: bool, user: str, host: str) -> Page: ...
    def not_found(self, *, html: bool) -> Page: ...
    def misdirected(self, *, html: bool, host: str) -> Page: ...
    def head_too_large(self, *, html: bool, host: str) -> Page: ...
    def broken(self, *, html: bool) -> Page: ...
    def unavailable(
        self, *, html: bool, retry_after: float = ..., request_id: str = ""
    ) -> Page: ...
    def plain(
        self,
        *,
        html: bool,
        status: int,
        error: str,
        title: str,
        message: str,
        action: tuple[str, str] | None = None,
    ) -> Page: ...


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
        proxy_origin: str,
        port_suffix: str,
        clock: Clock,
    ) -> None:
        """
        Args:
            proxy_origin: `https://host[:port]` of the web UI.
            port_suffix: what follows an application's host in its address: ":3080", or "".
        """
        self._auth = auth
        self._cache = cache
        self._tunnels = tunnels
        self._forwarder = forwarder
        self._credentials = credentials
        self._seal = seal
        self._names = names
        self._pages = pages
        self._events = events
        self._proxy_origin = proxy_origin
        self._port_suffix = port_suffix
        self._clock = clock

    async def answer(self, exchange: Exchange, *, remote: str) -> None:
        """Answer one request whose Host is an application's, or nobody's.

        Args:
            remote: the client's IP address, from its socket.
        """
        request = exchange.request
        path = request.target.partition(b"?")[0]
        if path.startswith(RESERVED):
            await self._reserved(exchange, path, remote)
        elif path == LOGOUT:
            await self._sign_out(exchange, remote)
        else:
            await self._serve(exchange, remote)

    # --- Who, and may they ---------------------------------------------------------------------

    async def _serve(self, exchange: Exchange, remote: str) -> None:
        request = exchange.request
        html = wants_html(request.headers)
        try:
            session = await self._session(request, remote)
            await self._serve_session(exchange, session, remote)
        except NotSignedIn as over:
            await self._unknown(exchange, over.reason)
        except Unavailable:
            await send_page(exchange, self._pages.unavailable(html=html))

    async def _serve_session(self, exchange: Exchange, session: AppSession, remote: str) -> None:
        request = exchange.request
        if request.upgrade and not _is_own_origin(request):
            self._denied(session, remote, "a WebSocket from another origin")
            await self._cross_site(exchange)
            return
        try:
            tunnels = self._allowed(session, self._cache.users[session.user])
            outcome = await self._forward(exchange, session, tunnels, remote)
        except NotSignedIn:
            raise
        except AccessDenied as denied:
            self._denied(session, remote, denied.reason)
            await self._tell_denied(exchange, session)
            return
        if outcome is not None:
            await self._failed(exchange, session, outcome)

    async def _tell_denied(self, exchange: Exchange, session: AppSession) -> None:
        html, host = wants_html(exchange.request.headers), exchange.request.host
        page = self._pages.denied(html=html, user=session.user, host=host)
        await send_page(exchange, page)

    async def _cross_site(self, exchange: Exchange) -> None:
        page = self._pages.plain(
            html=wants_html(exchange.request.headers),
            status=403,
            error="cross-site",
            title="Another site asked for this",
            message=f"A page of another site asked {exchange.request.host} for something that only"
            " its own pages may ask for.",
        )
        await send_page(exchange, page)

    async def _session(self, request: HttpHead, remote: str) -> AppSession:
        """Return the live session that the request's cookie names, for this host.

        Raises:
            NotSignedIn: `reason` is one word.
            Unavailable: auth can't be asked.
        """
        cookies = [value for name, value in request.headers if name == b"cookie"]
        secret = find_cookie(cookies, self._names.app)
        if secret is None:
            if is_ambiguous(cookies, self._names.app):
                self._events.put(
                    "auth.failed",
                    error="two session cookies of one name",
                    **_where(request, remote),
                )
            raise NotSignedIn("not signed in", reason="no-session")
        try:
            session = await self._cache.app_session(session_id(secret.decode("ascii")))
        except NotSignedIn:
            raise NotSignedIn("not signed in", reason="session-over") from None
        if session.host != request.host:
            # Not deleted: whoever guesses at hosts must not end another's session (WEB-07).
            self._events.put(
                "auth.failed",
                error="the session is for another host",
                user=session.user,
                sid=session.id,
                **_where(request, remote),
            )
            raise NotSignedIn("not signed in", reason="no-session")
        return session

    def _allowed(self, session: AppSession, user: User) -> list[Tunnel]:
        """Return the tunnels whose agents' offers this user may open now, the preferred one first.

        Labels belong to each agent's offer, so that one may be allowed and another not.

        Raises:
            AccessDenied: there are offers, and none is allowed.
        """
        allowed: list[Tunnel] = []
        refusal: AccessDenied | None = None
        for tunnel in self._tunnels.candidates(session.app, session.id):
            try:
                check_app_access(
                    self._cache.roles,
                    user.roles,
                    user.traits,
                    tunnel.servers[session.app].labels,
                )
            except AccessDenied as denied:
                refusal = denied
            else:
                allowed.append(tunnel)
        if not allowed and refusal is not None:
            raise refusal
        return allowed

    def verdict(self, session: str) -> str | None:
        """Return why what a session runs must end now; None: it may go on."""
        live = self._cache.live_session(session)
        if live is None:
            return "session ended"
        try:
            self._allowed(live, self._cache.users[live.user])
        except AccessDenied:
            return "access removed"
        return None

    # --- Through the tunnel ----------------------------------------------------------------------

    async def _forward(
        self, exchange: Exchange, session: AppSession, tunnels: list[Tunnel], remote: str
    ) -> tuple[NoAnswer, RequestHead] | None:
        request = exchange.request
        head = RequestHead(
            app=session.app,
            session=session.id,
            credential="",
            method=request.method,
            target=request.target,
            headers=tuple(_for_agent(request)),
            length=request.framing.length,
            upgrade=request.upgrade,
            remote=remote,
            public=request.host + self._port_suffix,
            request_id=secrets.token_hex(8),
        )
        if not tunnels:
            cause = f"no agent that offers {session.app} is connected"
            return NoAnswer(kind="unreachable", hop="agent", cause=cause), head
        problem = await self._forwarder.forward(exchange, head, tunnels)
        return None if problem is None else (problem, head)

    async def _failed(
        self, exchange: Exchange, session: AppSession, outcome: tuple[NoAnswer, RequestHead]
    ) -> None:
        """Tell why there is no answer, on which hop, and what to do."""
        problem, head = outcome
        request = exchange.request
        if problem.kind == "denied":
            self._denied(session, head.remote, problem.cause)
            await self._tell_denied(exchange, session)
            return
        status, error, place, advice = _FAILURES[problem.kind]
        tunnel = next(iter(self._tunnels.candidates(session.app, session.id)), None)
        logger.info("%s %s: %s (request %s)", session.app, error, problem.cause, head.request_id)
        failure = Failure(
            status=status,
            hop=problem.hop if problem.kind == "unreachable" else place,
            error=error,
            cause=problem.cause,
            advice=advice if tunnel is not None else _NO_AGENT,
            app=session.app,
            host=request.host,
            agent="" if tunnel is None else tunnel.hostname,
            since=datetime.fromisoformat(problem.since) if problem.since else None,
            request_id=head.request_id,
            repeatable=request.method in (b"GET", b"HEAD"),
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

    # --- Signing in --------------------------------------------------------------------------------

    async def _unknown(self, exchange: Exchange, reason: str, cause: RoundCause = "") -> None:
        """Send a person on to sign in; tell everything else what is missing."""
        request = exchange.request
        url = f"https://{request.host}{self._port_suffix}/"
        match intent(request.method, request.headers):
            case Intent.NAVIGATE:
                await self._launch(exchange, request.target, cause)
                return
            case Intent.SUBMIT:
                page = self._pages.not_sent(host=request.host, login_url=url)
            case Intent.FRAME:
                page = self._pages.framed(host=request.host, url=url)
            case _:
                page = self._pages.not_signed_in(html=False, login_url=url, reason=reason)
        await send_page(exchange, page)

    async def _launch(
        self, exchange: Exchange, target: bytes, cause: RoundCause, *extra: tuple[bytes, bytes]
    ) -> None:
        """Begin a launch: to the launcher, with the state in the URL and in a cookie of this host."""
        state_id, sealed = self._seal.make(exchange.request.host, target, cause=cause)
        cookie = set_cookie(self._names.state(state_id), sealed.encode(), max_age=LAUNCH_STATE_TTL)
        location = f"{self._proxy_origin}/web/launch?state={sealed}"
        await redirect(exchange, location, (b"set-cookie", cookie), *extra)

    async def _reserved(self, exchange: Exchange, path: bytes, remote: str) -> None:
        if path == b"/.tport/auth" and exchange.request.method == b"GET":
            await self._finish(exchange, remote)
        elif path == b"/.tport/session" and exchange.request.method == b"GET":
            await self._show_session(exchange, remote)
        else:
            page = self._pages.not_found(html=wants_html(exchange.request.headers))
            await send_page(exchange, page)

    async def _finish(self, exchange: Exchange, remote: str) -> None:
        """Spend the code that the launcher made, for the browser that began."""
        request = exchange.request
        query = parse_qs(request.target.partition(b"?")[2].decode("ascii"), max_num_fields=8)
        code, state_id = query.get("code", [""])[0], query.get("state", [""])[0]
        if not code or not state_id.isascii() or len(state_id) > MAX_STATE_ID:
            await self._launch(exchange, b"/", "")
            return
        cookies = [value for name, value in request.headers if name == b"cookie"]
        sealed = find_cookie(cookies, self._names.state(state_id))
        began = self._seal.open(sealed.decode("ascii")) if sealed else None
        ours = (
            began is not None
            and not began.expired
            and secrets.compare_digest(began.state_id, state_id)
            and began.app_host == request.host
        )
        try:
            # Without the cookie the code is spent all the same: it was seen by another browser.
            opened = await self._auth.redeem(
                code=code,
                state=hashlib.sha256(state_id.encode()).hexdigest() if ours else "",
                host=request.host,
                remote=remote,
            )
        except AccessDenied:
            target = began.raw_path.encode("ascii") if began else b"/"
            await self._launch(exchange, target, "code-refused" if ours else "no-state-cookie")
            return
        assert began is not None  # an empty state is never accepted
        await self._enter(exchange, opened, began.raw_path, state_id)

    async def _enter(self, exchange: Exchange, opened: OpenedApp, path: str, state_id: str) -> None:
        self._cache.remember(opened.session)  # it must be known before the browser comes back
        await redirect(
            exchange,
            f"https://{opened.session.host}{self._port_suffix}{path}",
            (b"set-cookie", set_cookie(self._names.app, opened.secret.encode())),
            (b"set-cookie", clear_cookie(self._names.state(state_id))),
        )

    async def _show_session(self, exchange: Exchange, remote: str) -> None:
        """Tell a page of the application about its own session."""
        try:
            session = await self._session(exchange.request, remote)
        except NotSignedIn as over:
            url = f"https://{exchange.request.host}{self._port_suffix}/"
            page = self._pages.not_signed_in(html=False, login_url=url, reason=over.reason)
            await send_page(exchange, page)
            return
        body = {"user": session.user, "app": session.app, "expires": session.expires.isoformat()}
        await exchange.respond(
            200,
            [(b"content-type", b"application/json"), (b"cache-control", b"no-store")],
            json.dumps(body).encode(),
        )

    async def _sign_out(self, exchange: Exchange, remote: str) -> None:
        """End this application's session. Only where a person goes there (WEB-14)."""
        request = exchange.request
        if not _is_own_choice(request):
            await self._cross_site(exchange)
            return
        try:
            session = await self._session(request, remote)
        except NotSignedIn:
            pass  # gone already: as it should be
        else:
            await self._auth.end_app_session(id=session.id)
            self._cache.forget(session.id)
            self._credentials.forget(session.id)
        page = self._pages.plain(
            html=wants_html(request.headers),
            status=200,
            error="signed-out",
            title="You have left this application",
            message=f"Your session at {request.host} is over. You are still signed in to tport.",
            action=("All applications", f"{self._proxy_origin}/"),
        )
        await send_page(exchange, page, (b"set-cookie", clear_cookie(self._names.app)))


_NO_AGENT: Final = (
    "Start the agent on the application's machine, or look at its log if it runs:"
    " it says why it has no tunnel."
)

# kind → status, the word for programs, the station that failed, what to do.
_FAILURES: Final[dict[str, tuple[int, str, Place, str]]] = {
    "unreachable": (
        502,
        "unreachable",
        "app",
        "Check that the application runs, and that its URI in the agent's configuration is right.",
    ),
    "broken": (502, "broken-answer", "app", "Look at the application's log."),
    "timeout": (504, "timeout", "app", "Look at whether the application hangs or is overloaded."),
    "refused": (400, "refused", "proxy", "Change the address; it can't be sent as it is."),
    "stale": (
        503,
        "agent-stale",
        "agent",
        "The agent lost touch with the auth service; its log says why. It mends by itself.",
    ),
    "unknown-app": (502, "unknown-app", "agent", "The agent's configuration has just changed."),
    "unknown-session": (502, "unknown-session", "agent", "Try again."),
}


def _for_agent(request: HttpHead) -> Headers:
    """Return the headers that go on: no hop-by-hop ones, no reserved ones, none of our cookies."""
    passed: Headers = []
    for name, value in forwardable(request.headers, request.connection_tokens):
        if name == b"cookie":
            if kept := strip_cookies(value, is_ours):
                passed.append((name, kept))
        elif not is_reserved(fold(name)):
            passed.append((name, value))
    return passed


def _is_own_origin(request: HttpHead) -> bool:
    """Tell whether a WebSocket comes from the application's own pages, or from no browser (WEB-10)."""
    origins = [value for name, value in request.headers if name == b"origin"]
    if not origins:
        return True
    hosts = [value for name, value in request.headers if name == b"host"]
    return len(origins) == 1 and origins[0].lower() == b"https://" + hosts[0].lower()


def _is_own_choice(request: HttpHead) -> bool:
    """Tell whether a person, not another site's image, asks for this (WEB-14)."""
    found = {name: value for name, value in request.headers if name.startswith(b"sec-fetch-")}
    site, mode = found.get(b"sec-fetch-site"), found.get(b"sec-fetch-mode")
    if site is None:
        return True
    return site in (b"none", b"same-origin") or (site == b"same-site" and mode == b"navigate")


def _where(request: HttpHead, remote: str) -> dict[str, object]:
    return {"addr.remote": remote, "app_public_addr": request.host}


async def send_page(exchange: Exchange, page: Page, *extra: tuple[bytes, bytes]) -> None:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in page.headers]
    await exchange.respond(page.status, [*headers, *extra], page.body)


async def redirect(exchange: Exchange, location: str, *extra: tuple[bytes, bytes]) -> None:
    headers = [
        (b"location", location.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
        *extra,
    ]
    await exchange.respond(302, headers)
