"""Whose request for an application this is; and how a browser gets a session there, and ends it.

`proxy.app_session` tells the way of a launch. Here are its two ends on the application's own
host: where it begins, and where the one-time code becomes a session.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from tport.engine.access.limits import AddressLimiter
from tport.engine.api.answers import OpenedApp
from tport.engine.api.cache import AuthCache
from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import LAUNCH_STATE_TTL, MAX_HEAD_LINE
from tport.engine.errors import AccessDenied, LimitExceeded, Locked, NotSignedIn
from tport.engine.net.http1 import Exchange
from tport.engine.proto.cookies import (
    SameSite,
    clear_cookie,
    find_cookie,
    is_ambiguous,
    named,
    set_cookie,
)
from tport.engine.proto.fetch import Intent, intent, is_browser, is_cross_site, wants_html
from tport.engine.proto.head import RequestHead as HttpHead
from tport.engine.proxy import notice
from tport.engine.proxy.app_session import OPEN_PATH, Clock, CookieNames, Credentials, StateSeal
from tport.engine.proxy.companions import companions
from tport.engine.proxy.offers import Offers
from tport.engine.proxy.pages import Pages, cross_site, redirect, send_page
from tport.engine.types.app import CookieSameSite
from tport.engine.types.launch import LaunchRequest, Onward, RoundCause
from tport.engine.types.session import AppSession, session_id

_SAME_SITE: Final[Mapping[CookieSameSite, SameSite]] = {
    "lax": "Lax",
    "none": "None",
    "strict": "Strict",
}
# Browsers follow 20 redirects, and one companion costs three: a page in between begins anew.
_PAUSE: Final = 4
# Attempts under way that a browser may hold for one host; and the bytes of all its cookies there beyond which
# the oldest attempts are forgotten. What is left of a line of a head is for what the application sets meanwhile.
MAX_STATES: Final = 20
MAX_COOKIES: Final = MAX_HEAD_LINE * 3 // 4
# Events of one address: anybody may send cookies, and nobody may fill the disk with them.
TOLD_PER_MINUTE: Final = 20
TOLD_BURST: Final = 40
_STATE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # ours have 22 characters


class SignIn:
    """Finds the session of a request; begins, finishes and ends sessions."""

    def __init__(
        self,
        *,
        auth: AuthAPI,
        cache: AuthCache,
        credentials: Credentials,
        seal: StateSeal,
        names: CookieNames,
        pages: Pages,
        events: EventQueue,
        proxy_origin: str,
        port_suffix: str,
        offers: Offers,
        clock: Clock,
    ) -> None:
        """Args as in `proxy.apps.Apps`."""
        self._auth = auth
        self._cache = cache
        self._credentials = credentials
        self._seal = seal
        self._names = names
        self._pages = pages
        self._events = events
        self._proxy_origin = proxy_origin
        self._port_suffix = port_suffix
        self._offers = offers
        self._limiter = AddressLimiter(clock, per_minute=TOLD_PER_MINUTE, burst=TOLD_BURST)

    async def session(self, request: HttpHead, remote: str) -> AppSession:
        """Return the live session that the request's cookie names, for this host.

        Raises:
            NotSignedIn: `reason` is one word.
            Unavailable: auth can't be asked.
        """
        cookies = [value for name, value in request.headers if name == b"cookie"]
        secret = find_cookie(cookies, self._names.app)
        if secret is None:
            if is_ambiguous(cookies, self._names.app):
                self._tell(request, remote, error="two session cookies of one name")
            raise NotSignedIn("not signed in", reason="no-session")
        try:
            session = await self._cache.app_session(session_id(secret.decode("ascii")))
        except NotSignedIn:
            raise NotSignedIn("not signed in", reason="session-over") from None
        if session.host != request.host:
            # Not deleted: whoever guesses at hosts must not end another's session (WEB-07).
            self._tell(
                request,
                remote,
                error="the session is for another host",
                user=session.user,
                sid=session.id,
            )
            raise NotSignedIn("not signed in", reason="no-session")
        return session

    def _tell(self, request: HttpHead, remote: str, **fields: str) -> None:
        """Write down what somebody without a session tries, as often as an address may."""
        try:
            self._limiter.check(remote)
        except LimitExceeded:
            return
        self._limiter.take(remote)
        where: dict[str, object] = {"addr.remote": remote, "app_public_addr": request.host}
        self._events.put("auth.failed", **fields, **where)

    async def send_on(self, exchange: Exchange, reason: str) -> None:
        """Send a person on to sign in; tell everything else what is missing."""
        request = exchange.request
        url = f"https://{request.host}{self._port_suffix}/"
        match intent(request.method, request.headers):
            case Intent.NAVIGATE:
                # Of a session that is over the cookie came back: what fails isn't the browser.
                cause: RoundCause = "session-over" if reason == "session-over" else ""
                await self._launch(exchange, request.target, cause)
                return
            case Intent.SUBMIT:
                # Of a session that is over the cookie came along: it wasn't kept back.
                foreign = reason == "no-session" and is_cross_site(request.headers)
                page = self._pages.not_sent(host=request.host, login_url=url, cross_site=foreign)
            case Intent.FRAME:
                page = self._pages.framed(host=request.host, url=url)
            case _:
                page = self._pages.not_signed_in(html=False, login_url=url, reason=reason)
                if not is_browser(request.headers):
                    await send_page(exchange, page, self._basic)
                    return
        await send_page(exchange, page)

    @property
    def _basic(self) -> tuple[bytes, bytes]:
        """What tells git and WebDAV clients to send their device token, as a password.

        Never for browsers: they would ask their person for one, in a window of their own.
        """
        return b"www-authenticate", f'Basic realm="{self._offers.proxy_host}"'.encode("ascii")

    async def _launch(
        self,
        exchange: Exchange,
        target: bytes,
        cause: RoundCause,
        then: tuple[str, ...] = (),
    ) -> None:
        """Begin a launch: to the launcher, with the state in the URL and in a cookie of this host."""
        state_id, sealed = self._seal.make(exchange.request.host, target, cause=cause, then=then)
        cookie = set_cookie(self._names.state(state_id), sealed.encode(), max_age=LAUNCH_STATE_TTL)
        location = f"{self._proxy_origin}/web/launch?state={sealed}"
        cookies = (cookie, *self._left_behind(exchange.request, len(cookie.partition(b";")[0])))
        await redirect(exchange, location, *((b"set-cookie", each) for each in cookies))

    def _left_behind(self, request: HttpHead, size: int) -> list[bytes]:
        """Return what has the browser forget attempts, where one more, of `size` bytes, would be too many.

        Those of tabs that never came back would soon make its requests too long to be read. The newest stay:
        browsers send the oldest first (RFC 6265 §5.4).
        """
        cookies = [value for name, value in request.headers if name == b"cookie"]
        states = named(cookies, self._names.states)
        excess = sum(len(value) + len("; ") for value in cookies) + size - MAX_COOKIES
        forgotten: list[bytes] = []
        for name, length in states:
            if excess <= 0 and len(states) - len(forgotten) < MAX_STATES:
                break
            excess -= length
            forgotten.append(clear_cookie(name))
        return forgotten

    async def answer_reserved(self, exchange: Exchange, path: bytes, remote: str) -> None:
        """Answer what is ours under `/.tport/` on every application's host."""
        if path == b"/.tport/auth" and exchange.request.method == b"GET":
            await self._finish(exchange, remote)
        elif path == OPEN_PATH.encode() and exchange.request.method == b"GET":
            await self._open(exchange, remote)
        elif path == b"/.tport/session" and exchange.request.method == b"GET":
            await self._show_session(exchange, remote)
        elif path == b"/.tport/notice.js" and exchange.request.method == b"GET":
            await self._send_notice(exchange, remote)
        else:
            page = self._pages.not_found(html=wants_html(exchange.request.headers))
            await send_page(exchange, page)

    async def _finish(self, exchange: Exchange, remote: str) -> None:
        """Spend the code that the launcher made, for the browser that began."""
        request = exchange.request
        code, state_id = _code_and_state(request.target)
        if not code or not _STATE_ID.fullmatch(state_id):
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
            if began is not None and began.onward is not None:
                spent = clear_cookie(self._names.state(state_id))
                await self._go_on(exchange, began.onward, (b"set-cookie", spent))
                return
            target = began.raw_path.encode("ascii") if began else b"/"
            await self._launch(exchange, target, "code-refused" if ours else "no-state-cookie")
            return
        assert began is not None  # an empty state is never accepted
        await self._enter(exchange, opened, began)

    async def _enter(self, exchange: Exchange, opened: OpenedApp, began: LaunchRequest) -> None:
        """Set the session's cookie and send the browser on: to companions first, if there are any."""
        self._cache.remember(opened.session)  # it must be known before the browser comes back
        host = opened.session.host
        secret, same_site = opened.secret.encode(), self._same_site(host)
        cookies = (
            (b"set-cookie", set_cookie(self._names.app, secret, same_site=same_site)),
            (b"set-cookie", clear_cookie(self._names.state(began.state_id))),
        )
        others = () if began.onward else self._companions(opened.session, began.raw_path)
        if began.onward:
            await self._go_on(exchange, began.onward, *cookies)
        elif others:
            way = self._seal.chain((*others, host), began.raw_path)
            await self._go_on(exchange, way, *cookies)
        else:
            await self._arrive(exchange, began.raw_path, *cookies)

    def _companions(self, session: AppSession, path: str) -> tuple[str, ...]:
        app, user = self._offers.at(session.host), self._cache.users.get(session.user)
        if app is None or user is None:
            return ()
        return companions(
            app,
            user,
            servers=self._cache.servers,
            roles=self._cache.roles,
            proxy_host=self._offers.proxy_host,
            path=path,
        )

    async def _open(self, exchange: Exchange, remote: str) -> None:
        """Open this application on the way to another; at the way's end, go to the path there."""
        request = exchange.request
        chain = self._seal.open_chain(_field(request.target, "chain"))
        going = intent(request.method, request.headers) is Intent.NAVIGATE
        if chain is None or not going or chain.hosts[:1] != (request.host,):
            page = self._pages.not_found(html=wants_html(request.headers))
            await send_page(exchange, page)
            return
        then = chain.hosts[1:]
        if not then:
            await self._arrive(exchange, chain.path)
            return
        try:
            await self.session(request, remote)
        except NotSignedIn:
            await self._launch(exchange, chain.path.encode("ascii"), "", then)
        else:
            await self._go_on(exchange, self._seal.chain(then, chain.path))

    async def _go_on(
        self, exchange: Exchange, onward: Onward, *cookies: tuple[bytes, bytes]
    ) -> None:
        """Send the browser to the next application of a chain."""
        url = f"https://{onward.host}{self._port_suffix}{onward.path}"
        if onward.left % _PAUSE == 0:
            await self._send_page_on(exchange, url, *cookies)
        else:
            await redirect(exchange, url, *cookies)

    async def _arrive(self, exchange: Exchange, path: str, *cookies: tuple[bytes, bytes]) -> None:
        """Send the browser to where it wanted to go, on this host."""
        host = exchange.request.host
        url = f"https://{host}{self._port_suffix}{path}"
        if self._same_site(host) == "Strict":
            # A redirect would go on in the name of the site that began it, without the cookie.
            await self._send_page_on(exchange, url, *cookies)
        else:
            await redirect(exchange, url, *cookies)

    async def _send_page_on(
        self, exchange: Exchange, url: str, *cookies: tuple[bytes, bytes]
    ) -> None:
        page = self._pages.plain(
            html=True,
            status=200,
            error="signed-in",
            title="You are signed in",
            message=f"{exchange.request.host} opens now.",
            action=("Open it", url),
        )
        await send_page(exchange, page, (b"refresh", b"0; url=" + url.encode()), *cookies)

    def _same_site(self, host: str) -> SameSite:
        app = self._offers.at(host)
        return _SAME_SITE[app.cookie_same_site if app else "lax"]

    async def _show_session(self, exchange: Exchange, remote: str) -> None:
        """Tell a page of the application about its own session."""
        session = await self._session_or_tell(exchange, remote)
        if session is None:
            return
        body = {"user": session.user, "app": session.app, "expires": session.expires.isoformat()}
        await exchange.respond(
            200,
            [(b"content-type", b"application/json"), (b"cache-control", b"no-store")],
            json.dumps(body).encode(),
        )

    async def _send_notice(self, exchange: Exchange, remote: str) -> None:
        """Send the script to where it is wanted. To those without a session all hosts look alike."""
        if await self._session_or_tell(exchange, remote) is None:
            return
        app = self._offers.at(exchange.request.host)
        if app is not None and app.session_notice:
            await exchange.respond(200, notice.HEADERS, notice.SCRIPT)
        else:
            await send_page(exchange, self._pages.not_found(html=False))

    async def _session_or_tell(self, exchange: Exchange, remote: str) -> AppSession | None:
        """Return the request's session; None: there is none, which the answer says."""
        try:
            return await self.session(exchange.request, remote)
        except NotSignedIn as over:
            url = f"https://{exchange.request.host}{self._port_suffix}/"
            page = self._pages.not_signed_in(html=False, login_url=url, reason=over.reason)
            await send_page(exchange, page)
            return None

    async def sign_out(self, exchange: Exchange, remote: str) -> None:
        """End this application's session. Only where a person goes there (WEB-14)."""
        request = exchange.request
        if not _is_own_choice(request):
            await send_page(exchange, cross_site(self._pages, request))
            return
        if (id_ := await self._id_to_end(request, remote)) is not None:
            await self._auth.end_app_session(id=id_)
            self._cache.forget(id_)
            self._credentials.forget(id_)
        page = self._pages.plain(
            html=wants_html(request.headers),
            status=200,
            error="signed-out",
            title="You have left this application",
            message=f"Your session at {request.host} is over. You are still signed in to tport.",
            action=("All applications", f"{self._proxy_origin}/"),
        )
        await send_page(exchange, page, (b"set-cookie", clear_cookie(self._names.app)))

    async def _id_to_end(self, request: HttpHead, remote: str) -> str | None:
        """Return the id of the session that the cookie names; None: gone already, as it should be."""
        try:
            return (await self.session(request, remote)).id
        except NotSignedIn:
            return None
        except Locked:  # who is locked may leave: at a machine of others the session would stay
            cookies = [value for name, value in request.headers if name == b"cookie"]
            secret = find_cookie(cookies, self._names.app)
            return session_id(secret.decode("ascii")) if secret is not None else None


def _is_own_choice(request: HttpHead) -> bool:
    """Tell whether a person, not another site's image or frame, asks for this (WEB-14)."""
    site = next((value for name, value in request.headers if name == b"sec-fetch-site"), b"none")
    if site in (b"none", b"same-origin"):
        return True
    return site == b"same-site" and intent(request.method, request.headers) is Intent.NAVIGATE


def _code_and_state(target: bytes) -> tuple[str, str]:
    """Return what the launcher put into the query; "" for what isn't there, once."""
    return _field(target, "code"), _field(target, "state")


def _field(target: bytes, name: str) -> str:
    """Return a field of the query; "" when it isn't there, once."""
    try:
        query = parse_qs(target.partition(b"?")[2].decode("ascii"), max_num_fields=8)
    except ValueError:  # more fields, or other characters, than we send
        return ""
    values = query.get(name, [])
    return values[0] if len(values) == 1 else ""
