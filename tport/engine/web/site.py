"""What all pages of one proxy share: its names, its cookies, who is asking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import Locked, NotSignedIn
from tport.engine.net.asgi import RECOGNISE
from tport.engine.proto.cookies import clear_cookie, find_cookie, set_cookie
from tport.engine.proto.fetch import wants_html
from tport.engine.types.session import WebSession, session_id
from tport.engine.web.errors import ErrorPages, Since
from tport.engine.web.forms import comes_from, form_token, new_pre_session, token_fits
from tport.engine.web.respond import redirect, render

Clock = Callable[[], datetime]

MAX_NEXT: Final = 8192  # characters; a sealed launch state with a path of MAX_PATH fits twice
RECOVERED: Final = "recovered"  # in the query of Applications: a recovery code was just used
SECOND_STEP = "/web/login/second"
KNOWN_LIFE = timedelta(days=90)  # of the cookie; auth decides how long it counts
_HOLDER: Final = b"tport pre\0"
NEAR: Final = timedelta(days=6)  # from now, in which the day of the week says which day is meant

FOREIGN_FORM = "Nothing was done: this form was sent from another site. Use the form below."
NO_COOKIE = (
    "Nothing was done: your browser did not send back the cookie that belongs to this form."
    " Allow cookies for this address, then try again."
)
STALE_FORM = "Nothing was done: this form had become too old. Please try again."


class Site:
    """The proxy's own host as pages see it.

    Attributes:
        origin: `https://host[:port]`, the port only when it isn't 443.
        port: `:port`, or "" for 443; what follows an application's host too.
        apps_url: path of the Applications page.
    """

    def __init__(
        self, *, auth: AuthAPI, cluster: str, cluster_id8: str, public_addr: str, secret: bytes
    ) -> None:
        port = urlsplit(f"//{public_addr}").port
        self.auth = auth
        self.cluster = cluster
        self.public_addr = public_addr
        self.port = "" if port in (None, 443) else f":{port}"
        self.origin = f"https://{public_addr.removesuffix(':443')}"
        self.apps_url = f"/web/cluster/{quote(cluster, safe='')}/apps"
        self.errors = ErrorPages(cluster=cluster, public_addr=public_addr)
        self._secret = secret
        self._web_cookie = f"__Host-tport_web_{cluster_id8}".encode()
        self._known_cookie = f"__Host-tport_known_{cluster_id8}".encode()
        self._pre_cookie = f"__Host-tport_pre_{cluster_id8}".encode()
        self._step_cookie = f"__Host-tport_step_{cluster_id8}".encode()

    # Who is asking

    async def session(self, request: Request) -> WebSession | None:
        """Return the live web session of the browser; auth is asked each time."""
        value = _cookie(request, self._web_cookie)
        if value is None:
            return None
        try:
            session = await self.auth.web_session(id=session_id(value))
        except NotSignedIn:
            return None
        if (recognise := request.scope.get(RECOGNISE)) is not None:
            recognise()
        return session

    async def session_to_end(self, request: Request) -> tuple[str, str] | None:
        """Return whose session the browser has, and its id: who is locked may leave, unnamed."""
        try:
            session = await self.session(request)
        except Locked:
            return "", session_id(_cookie(request, self._web_cookie) or "")
        return None if session is None else (session.user, session.id)

    @property
    def web_cookie(self) -> str:
        """The name of the cookie that holds a session."""
        return self._web_cookie.decode("ascii")

    def session_secret(self, request: Request) -> str:
        """Return the value of the browser's session cookie; "": it has none."""
        return _cookie(request, self._web_cookie) or ""

    def acting(self, request: Request) -> AuthAPI:
        """Return auth as the person may use it whose browser asks."""
        return self.auth.acting_for(self.session_secret(request))

    def to_sign_in(self, request: Request) -> Response:
        """Send the browser to sign in, and then back to exactly where it is."""
        return redirect(f"/web/login?next={quote(here(request), safe='')}")

    async def proven(
        self,
        request: Request,
        answer: SignedIn | NextStep,
        location: str,
        now: datetime,
        *,
        step: str = "",
    ) -> Response:
        """Go on with who has shown something: to the next step, or with a session to `location`.

        Args:
            step: what the browser holds this step by, where it is the first one.
        """
        if isinstance(answer, NextStep):
            response = redirect(f"{SECOND_STEP}?next={quote(location, safe='')}", 303)
            if step:
                _add_cookie(response, set_cookie(self._step_cookie, step.encode()))
            return response
        if (before := _cookie(request, self._web_cookie)) is not None:
            await self.auth.sign_out(id=session_id(before))  # nobody holds its cookie from here on
        return self._signed_in(answer, location, now)

    def _signed_in(self, signed: SignedIn, location: str, now: datetime) -> Response:
        """Give the browser its new session and send it on; recovery codes are shown first, once."""
        if signed.recovery_codes:
            response = render(
                "codes.html",
                cluster=self.cluster,
                codes=signed.recovery_codes,
                location=location,
            )
        else:
            response = redirect(location, 303)
        life = max(timedelta(0), signed.session.expires - now)
        _add_cookie(response, set_cookie(self._web_cookie, signed.secret.encode(), max_age=life))
        if signed.known:
            known = signed.known.encode()
            _add_cookie(response, set_cookie(self._known_cookie, known, max_age=KNOWN_LIFE))
        return response

    def visitor(self, request: Request, step: str | None = None) -> dict[str, str]:
        """Return what auth is told of a browser that signs in.

        Args:
            step: what it holds its steps by; None: what it sent.
        """
        if step is None:
            step, _ = self.step(request)
        return {
            "browser": holder_of(step),
            "known": _cookie(request, self._known_cookie) or "",
            "remote": remote(request),
            "user_agent": request.headers.get("user-agent", ""),
        }

    def forget(self, response: Response) -> Response:
        """Make the browser drop its session cookie."""
        _add_cookie(response, clear_cookie(self._web_cookie))
        return response

    # Forms

    def pre_session(self, request: Request) -> tuple[str, bool]:
        """Return what binds forms to this browser before sign-in, and whether it is new.

        One per browser, not per form, so that parallel tabs don't spoil each other.
        """
        value = _cookie(request, self._pre_cookie)
        return (value, False) if value is not None else (new_pre_session(), True)

    def step(self, request: Request) -> tuple[str, bool]:
        """Return what a browser holds the steps of its sign-in by, "" for nothing, and whether that is so.

        It is made anew whenever somebody begins to sign in: who knew what the browser sent before, as one
        who used it earlier, can't take the next step in their place. What binds forms may stay.
        """
        value = _cookie(request, self._step_cookie)
        return ("", True) if value is None else (value, False)

    def keep_pre_session(self, response: Response, value: str) -> Response:
        _add_cookie(response, set_cookie(self._pre_cookie, value.encode()))
        return response

    def token(self, purpose: str, binding: str) -> str:
        return form_token(self._secret, purpose, binding)

    def is_own_post(self, request: Request) -> bool:
        """Tell whether a POST may come from one of our pages, by what the browser says of it."""
        host = request.headers.get("host", "")
        return comes_from(request.headers, frozenset({self.origin, f"https://{host}"}))

    def form_problem(self, token: str, *, purpose: str, binding: str, new: bool) -> str:
        """Return why a form's token does not count, for its sender; "" when it does."""
        if new:
            return NO_COOKIE
        if not token_fits(token, secret=self._secret, purpose=purpose, binding=binding):
            return STALE_FORM
        return ""


def holder_of(value: str) -> str:
    """Return what auth knows a browser by that isn't signed in yet; "": it holds nothing.

    By another rule than a session's id: auth keeps what either has begun in one place.
    """
    return hashlib.sha256(_HOLDER + value.encode()).hexdigest() if value else ""


def here(request: Request) -> str:
    """Return the path and query asked for, to the letter."""
    path = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    target: str = path.decode("latin-1").partition("?")[0]
    if query := request.scope["query_string"].decode("latin-1"):
        target += f"?{query}"
    return target


def remote(request: Request) -> str:
    """Return the address of the browser, "" when unknown."""
    return request.client.host if request.client else ""


def for_people(request: Request) -> bool:
    return wants_html(request.scope["headers"])


def clock_time(moment: datetime, now: datetime) -> Since:
    """Write a time for a page: exact for machines, short in UTC for those without script."""
    if moment.date() == now.date():
        text = f"{moment:%H:%M}"
    elif abs(moment - now) < NEAR:
        text = f"{moment:%a %H:%M}"
    else:
        text = f"{moment:%Y-%m-%d %H:%M}"
    return Since(f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"{text} UTC")


def _cookie(request: Request, name: bytes) -> str | None:
    values = (value for key, value in request.scope["headers"] if key == b"cookie")
    found = find_cookie(values, name)
    return None if found is None else found.decode("ascii")


def _add_cookie(response: Response, value: bytes) -> None:
    response.headers.append("set-cookie", value.decode("ascii"))
