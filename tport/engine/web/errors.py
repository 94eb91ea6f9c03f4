"""What a person, or a program, is told when something fails. Pure: values in, a Page out.

Every page says what happened, where, and what to do next; it stands alone (style and icon
inside), since it may appear on an application's host, where no other file is ours. Programs
get the same in JSON: `error` is a stable word, `message` is for people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from tport.engine.defaults import CLOCK_SKEW
from tport.engine.types.failure import Failure, Page, Place
from tport.engine.types.launch import Loop
from tport.engine.web.assets import INLINE_ICON, INLINE_STYLE, INLINE_STYLE_HASH, TEMPLATES

_PLACES: Final[tuple[Place, ...]] = ("you", "proxy", "agent", "app")
RETRY_AFTER: Final = 5.0  # s; how soon a proxy finds auth again, and an agent its proxy, usually

_CSP: Final = (
    f"default-src 'none'; style-src {INLINE_STYLE_HASH}; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
_HEADERS: Final = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
)


class Link(NamedTuple):
    """Something to do next; `href` "" is this very page again."""

    text: str
    href: str
    target: str = ""


class Hop(NamedTuple):
    """A station of the request as the page draws it."""

    name: str
    detail: str
    state: str  # "ok", "failed" or "unknown"
    time: str = ""  # in how long it did its part, or after how long it failed


class Fact(NamedTuple):
    """A piece of evidence."""

    name: str
    text: str


class Since(NamedTuple):
    moment: str  # RFC 3339
    text: str


class ErrorPages:
    """The pages of one cluster.

    Args:
        cluster: its name.
        public_addr: host or host:port of the proxy, where the Applications page is.
    """

    def __init__(self, *, cluster: str, public_addr: str) -> None:
        self._cluster = cluster
        self._proxy_host = urlsplit(f"//{public_addr}").hostname or public_addr
        self._origin = f"https://{public_addr.removesuffix(':443')}"
        self._apps = Link("All applications", f"{self._origin}/")

    def failure(self, failure: Failure, *, html: bool, now: datetime) -> Page:
        """A request stopped on its way: which station failed, why, since when, what to do."""
        titles = {"you": "Your request was cut off", "app": f"{failure.app} did not answer"}
        title = titles.get(failure.hop, f"{failure.app} cannot be reached")
        headers = (("retry-after", retry_seconds(RETRY_AFTER)),) if failure.status == 503 else ()
        if not html:
            return self._json(
                failure.status,
                failure.error,
                failure.cause,
                headers=headers,
                hop=failure.hop,
                cause=failure.cause,
                since=None if failure.since is None else failure.since.isoformat(),
                seconds=None if failure.took is None else round(failure.took, 3),
                times={place: round(took, 3) for place, took in failure.times.items()},
                advice=failure.advice,
                app=failure.app,
                host=failure.host,
                request_id=failure.request_id,
            )
        return self._page(
            failure.status,
            title,
            f"{failure.cause}.",
            advice=failure.advice,
            hops=self._hops(failure),
            since=None if failure.since is None else _since(failure.since, now),
            request_id=failure.request_id,
            links=(*((Link("Try again", ""),) if failure.repeatable else ()), self._apps),
            headers=headers,
        )

    def _hops(self, failure: Failure) -> tuple[Hop, ...]:
        failed = _PLACES.index(failure.hop)
        no_agent = "none connected" if failure.hop == "agent" else ""
        named = (
            ("You", "your browser"),
            ("Proxy", self._proxy_host),
            ("Agent", failure.agent or no_agent),
            ("Application", failure.app),
        )
        took = failure.times
        return tuple(
            Hop(name, detail, "ok", f"in {_duration(took[place])}" if place in took else "")
            if at < failed
            else Hop(name, detail, "failed", f"after {_duration(took[place])}" if took else "")
            if at == failed
            else Hop(name, detail, "unknown")
            for at, (place, (name, detail)) in enumerate(zip(_PLACES, named, strict=True))
        )

    def not_signed_in(self, *, html: bool, login_url: str, reason: str) -> Page:
        """401 for what cannot be sent to sign-in: fetches, WebSockets, programs.

        `reason` is one word, such as `no-session` or `session-over`.
        """
        challenge = (("www-authenticate", f'Bearer realm="{self._proxy_host}"'),)
        message = "You are not signed in, or your session is over"
        if not html:
            return self._json(
                401, "not-signed-in", message, reason=reason, login_url=login_url, headers=challenge
            )
        return self._page(
            401,
            "Sign in first",
            f"{message}.",
            links=(Link("Sign in", login_url), self._apps),
            headers=challenge,
        )

    def bad_device_token(self) -> Page:
        """401 for a device token that doesn't count, whatever is wrong with it: programs send them."""
        message = "This device token is wrong, expired, revoked, or for another application"
        challenge = f'Bearer realm="{self._proxy_host}", error="invalid_token"'
        headers = (("www-authenticate", challenge),)
        return self._json(401, "not-signed-in", message, reason="device-token", headers=headers)

    def not_sent(self, *, host: str, login_url: str, cross_site: bool) -> Page:
        """401 for a form (a POST navigation) sent without a session.

        Args:
            cross_site: another site's page sent it, and no cookie of ours came along: browsers keep
                it back, whether or not the person is signed in.
        """
        title = "Not sent: sign in and try again"
        challenge = (("www-authenticate", f'Bearer realm="{self._proxy_host}"'),)
        if cross_site:
            return self._page(
                401,
                title,
                f"What was just sent to {host} came from another site, and your session did not come"
                " along with it: the proxy stopped it. Nothing of it reached the application.",
                steps=(
                    f"Open {host} in another tab, and sign in if you are asked to.",
                    "Come back here, and try once more from where you came.",
                    "If it is stopped again though you are signed in, tell your administrator:"
                    " to take forms of other sites, as some ways of signing in need, the"
                    " application's entry wants cookie_same_site: none.",
                ),
                links=(Link(f"Open {host}", login_url, "_blank"), self._apps),
                headers=challenge,
            )
        return self._page(
            401,
            title,
            f"Your session at {host} is over, so the proxy stopped what you just sent."
            " Nothing of it reached the application.",
            steps=(
                "Sign in in another tab.",
                "Come back here and go back to the form: most browsers keep what you typed.",
                "Send it again.",
            ),
            links=(Link("Sign in in another tab", login_url, "_blank"), self._apps),
            headers=challenge,
        )

    def framed(self, *, host: str, url: str) -> Page:
        """401 inside a frame, where nobody can sign in: a link that leaves the frame."""
        return self._page(
            401,
            "Sign in to see this",
            f"This part of the page comes from {host}, and you are not signed in there."
            " Open it by itself, sign in, then reload this page.",
            links=(Link(f"Open {host}", url, "_top"),),
            headers=(("www-authenticate", f'Bearer realm="{self._proxy_host}"'),),
            framed=True,
        )

    def denied(self, *, html: bool, user: str, host: str) -> Page:
        """403: no role allows it, or there is no such application; the same words for both."""
        message = f"{user} may not open {host}, or there is no such application"
        if not html:
            return self._json(403, "access-denied", message, user=user, host=host)
        return self._page(
            403,
            "You may not open this",
            f"You are signed in as {user}. Either none of your roles opens {host},"
            " or there is no such application.",
            advice="Check the address. If it is right, ask your administrator for a role that"
            f" opens it; tell them your user name, {user}, and the address, {host}.",
            links=(self._apps, Link("Sign out", f"{self._origin}/web/logout")),
        )

    def locked(self, *, html: bool, message: str) -> Page:
        """403 for who is signed in and locked; `message` says so, in a lock's maker's words."""
        return self.plain(
            html=html,
            status=403,
            error="locked",
            title="Your account is locked",
            message=f"{message[:1].upper()}{message[1:]}".rstrip(".") + ".",
            advice="Ask your administrator, who locked it and can lift the lock.",
            action=("Sign out", f"{self._origin}/web/logout"),
        )

    def looping(self, loop: Loop, *, url: str) -> Page:
        """The third attempt to open one application within seconds: stop, and say what fails."""
        host, cause = loop.host, _loop_cause(loop)
        clocks = f"differ by {loop.skew:.0f} s" if loop.skew > _SKEW else "agree"
        return self._page(
            400,
            "The application keeps sending you back",
            "You are signed in, and the application was opened for you three times in a row;"
            f" each time your browser came back without a session for {host}.",
            diagnosis=_LOOP_CAUSES[cause],
            steps=_LOOP_STEPS.get(cause, _COOKIE_STEPS),
            steps_title="What to do",
            facts=(
                Fact("Cookie", _LOOP_COOKIES[cause]),
                Fact("Sessions", f"{loop.opened} made in the last 20 s"),
                Fact("Host", f"{host}, an application's address"),
                Fact("Clocks", f"the proxy's and the auth service's {clocks}"),
                Fact("Agent", "connected"),
            ),
            links=(Link("Try again", url), self._apps),
        )

    def not_found(self, *, html: bool) -> Page:
        return self.plain(
            html=html,
            status=404,
            error="not-found",
            title="There is no such page",
            message="This address leads nowhere. It may be mistyped, or from another version.",
        )

    def misdirected(self, *, html: bool, host: str) -> Page:
        """421: the host of the request is not the one the connection was made for."""
        return self.plain(
            html=html,
            status=421,
            error="misdirected-request",
            title="This connection is for another address",
            message=f"The request names {host or 'no host'}, but the connection it came through"
            " was made for another name, and nothing crosses from one to the other.",
            advice="Open the address in a new tab. If it goes on, a proxy or a hosts file between"
            " you and this server sends the wrong name.",
        )

    def head_too_large(self, *, html: bool, host: str) -> Page:
        """431: almost always cookies that applications piled up."""
        return self.plain(
            html=html,
            status=431,
            error="request-header-fields-too-large",
            title="Your browser sends too many cookies",
            message=f"What your browser sends along with each request to {host} is larger than"
            " the 64 KiB that are taken. Nearly always these are cookies that applications set.",
            advice="Open the site information left of the address, delete the cookies of this"
            " site, and reload. You will have to sign in again.",
        )

    def unavailable(
        self, *, html: bool, retry_after: float = RETRY_AFTER, request_id: str = ""
    ) -> Page:
        """503: auth cannot be asked, therefore nothing is let through."""
        return self.plain(
            html=html,
            status=503,
            error="auth-unreachable",
            title="Signing in is not possible right now",
            message="The proxy works, but the auth service, which decides who may do what, does"
            " not answer. Until it does, nobody is let in.",
            advice="Try again in a few seconds. If it goes on, tell your administrator.",
            request_id=request_id,
            action=("Try again", ""),
            headers=(("retry-after", retry_seconds(retry_after)),),
        )

    def too_many(self, *, html: bool, retry_after: float) -> Page:
        wait = retry_seconds(retry_after)
        return self.plain(
            html=html,
            status=429,
            error="too-many-requests",
            title="Too many tries",
            message=f"There were too many tries from your address. Wait {wait} seconds,"
            " then try again.",
            headers=(("retry-after", wait),),
        )

    def broken(self, *, html: bool) -> Page:
        """500: a bug of ours."""
        return self.plain(
            html=html,
            status=500,
            error="internal-error",
            title="Something broke on our side",
            message="The proxy made a mistake while it answered you. It has been logged.",
            advice="Try again. If it happens again, tell your administrator when it happened.",
        )

    def plain(
        self,
        *,
        html: bool,
        status: int,
        error: str,
        title: str,
        message: str,
        advice: str = "",
        request_id: str = "",
        action: tuple[str, str] | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Page:
        """Any other refusal: a title, what happened, what to do next; `action` is (text, href)."""
        if not html:
            extra = {"request_id": request_id} if request_id else {}
            return self._json(status, error, message, headers=headers, advice=advice, **extra)
        return self._page(
            status,
            title,
            message,
            advice=advice,
            request_id=request_id,
            links=(*((Link(*action),) if action else ()), self._apps),
            headers=headers,
        )

    def _json(
        self,
        status: int,
        error: str,
        message: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        **more: str | float | Mapping[str, float] | None,
    ) -> Page:
        # `hop` and `cause` are in every answer, so that a program needs one way to read them all.
        told = {"error": error, "message": message, "hop": "proxy", "cause": message, **more}
        body = msgspec.json.encode(told)
        return Page(
            status=status,
            headers=(("content-type", "application/json"), *_HEADERS, *headers),
            body=body,
        )

    def _page(
        self,
        status: int,
        title: str,
        message: str,
        *,
        advice: str = "",
        diagnosis: str = "",
        steps: tuple[str, ...] = (),
        steps_title: str = "",
        facts: tuple[Fact, ...] = (),
        hops: tuple[Hop, ...] = (),
        since: Since | None = None,
        request_id: str = "",
        links: tuple[Link, ...] = (),
        headers: tuple[tuple[str, str], ...] = (),
        framed: bool = False,
    ) -> Page:
        body = TEMPLATES.get_template("error.html").render(
            cluster=self._cluster,
            style=INLINE_STYLE,
            icon=INLINE_ICON,
            home=f"{self._origin}/",
            status=status,
            title=title,
            message=message,
            advice=advice,
            diagnosis=diagnosis,
            steps=steps,
            steps_title=steps_title,
            facts=facts,
            hops=hops,
            since=since,
            request_id=request_id,
            links=links,
            framed=framed,
        )
        # Whoever frames an application must be able to show the framed page; it only holds a link.
        frames: tuple[tuple[str, str], ...] = (
            (("content-security-policy", _CSP),)
            if framed
            else (
                ("content-security-policy", f"{_CSP}; frame-ancestors 'none'"),
                ("x-frame-options", "DENY"),
                ("cross-origin-opener-policy", "same-origin"),
            )
        )
        return Page(
            status=status,
            headers=(("content-type", "text/html; charset=utf-8"), *_HEADERS, *frames, *headers),
            body=body.encode(),
        )


_COOKIE_STEPS: Final = (
    "Allow cookies for this address, and switch off extensions that remove them.",
    "Close other tabs of this application, wait half a minute, then try again.",
    "Try a private window: if it works there, delete the cookies of this address.",
)
_LOOP_CAUSES: Final = {
    "": "Most often the browser does not keep or return the cookie of that address.",
    "no-state-cookie": "The cookie that marks this attempt did not come back from your browser.",
    "no-session-cookie": "The session was made, but its cookie did not come back from your browser.",
    "session-over": "The cookie came back, but its session was over at once.",
    "code-refused": "The one-time code was refused: it came late, twice, or through another proxy.",
    "clock": "The clocks of the proxy and the auth service differ, so that sessions end too soon.",
}
_LOOP_COOKIES: Final = {
    "": "of the session, did not come back",
    "no-state-cookie": "of the attempt, did not come back",
    "no-session-cookie": "of the attempt, came back; of the session, did not",
    "session-over": "of the session, came back",
    "code-refused": "of the attempt, came back",
    "clock": "came back",
}
_LOOP_STEPS: Final = {
    "code-refused": (
        "Close other tabs of this application, wait half a minute, then try again.",
        "If it goes on, tell your administrator: all proxies must reach the same auth service.",
    ),
    "session-over": (
        "Wait half a minute, then try again.",
        "If it goes on, tell your administrator: the agent's log, or the audit log, says why the"
        " session is refused.",
    ),
    "clock": ("Tell your administrator: the machines' clocks must be synchronised (NTP).",),
}
_SKEW: Final = CLOCK_SKEW.total_seconds()


def _loop_cause(loop: Loop) -> str:
    """Return the key of what most likely keeps failing."""
    if loop.skew > _SKEW and loop.cause in ("code-refused", "session-over"):
        return "clock"
    if loop.cause == "" and loop.opened:
        return "no-session-cookie"
    return loop.cause


def retry_seconds(wait: float) -> str:
    """Write a wait as Retry-After wants it: whole seconds, at least one."""
    return str(max(1, math.ceil(wait)))


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _since(began: datetime, now: datetime) -> Since:
    """Say when it began and how long ago, both in words; a clock that is behind says 0 s."""
    seconds = max(0, int((now - began).total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            ago = f"{count} {unit}{'' if count == 1 else 's'}"
            break
    else:
        ago = f"{seconds} s"
    clock = f"{began:%H:%M:%S}" if seconds < 86400 else f"{began:%Y-%m-%d %H:%M}"
    return Since(f"{began:%Y-%m-%dT%H:%M:%SZ}", f"{clock} UTC, {ago} ago")
