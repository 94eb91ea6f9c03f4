"""What was seen of an application, in words, and the settings that follow from it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from tport.engine.agent.observed import Failed, Observed, Page, Reply, Seen, is_here, uri_host
from tport.engine.agent.rewrite import Rewriter
from tport.engine.config.known_apps import KnownApp
from tport.engine.proto.fields import values
from tport.engine.proto.sieve import write_lines
from tport.engine.types.app import App
from tport.engine.types.probe import Check, Finding, ProbeReport, Proposal, Verdict

SLOW: Final = 2.0  # s to the first page, from which on people wonder
JWT_HEAD: Final = 4096  # bytes that tport's own headers may come to for a person with many roles
COMMON_HEAD: Final = 8192  # bytes; nginx, Apache, Tomcat and Node take heads up to about this
REFUSALS: Final = (400, 401, 403, 404, 421)  # of a Host or an Origin, by one framework or other
# In the words of `upstream_tls` and `net.tls`: a certificate that was shown, and doesn't verify.
UNVERIFIED: Final = ("its certificate", "the certificate does not verify")
MAX_QUOTED: Final = 200  # characters of an application's own words in a finding


def judge(
    app: App, public: str, observed: Observed, known: KnownApp | None, *, hostname: str
) -> ProbeReport:
    """Return what was found.

    Args:
        public: host[:port] at which people reach the application.
        known: what it was recognised as.
        hostname: of the agent's machine.
    """
    return _Judge(app, public, observed, known, hostname).report()


class _Judge:
    def __init__(
        self, app: App, public: str, observed: Observed, known: KnownApp | None, hostname: str
    ) -> None:
        self._app = app
        self._public = public
        self._seen = observed
        self._known = known
        self._hostname = hostname
        self._own = uri_host(observed.uri)
        self._host_now = next(
            (h.value.lower() for h in app.rewrite.headers if h.name.lower() == "host"), self._own
        )
        self._findings: list[Finding] = []
        self._proposal: dict[str, object] = {}

    def report(self) -> ProbeReport:
        self._connection()
        if self._seen.landing is not None:
            checks: tuple[Callable[[], None], ...] = (
                self._page,
                self._path,
                self._host,
                self._origin,
                self._redirects,
                self._cookies,
                self._websocket,
                self._events,
                self._heads,
                self._icon,
            )
            for check in checks:
                check()
        if self._known is not None and self._known.needs:
            self._say("known", "note", f"this is {self._known.title}", self._known.needs)
        return ProbeReport(
            app=self._app.name,
            uri=self._app.uri,
            public=self._public,
            hostname=self._hostname,
            findings=tuple(self._findings),
            proposal=Proposal(**self._proposal),  # type: ignore[arg-type]  # names and types as there
            known=self._known.name if self._known else "",
            title=Page(self._seen.landing).title if self._seen.landing else "",
        )

    def _say(self, check: Check, verdict: Verdict, saw: str, advice: str = "") -> None:
        self._findings.append(Finding(check=check, verdict=verdict, saw=saw, advice=advice))

    # --- Whether it answers ----------------------------------------------------------------------

    def _connection(self) -> None:
        first, uri = self._seen.first, self._seen.uri
        moved = uri != self._app.uri
        if moved:
            self._proposal["uri"] = uri
            scheme = urlsplit(uri).scheme
            self._say("connection", "change", f"it speaks {scheme} there", f"the uri is {uri}")
        if isinstance(first, Seen) and not moved:
            took = f"{first.seconds * 1000:.0f} ms"
            self._say("connection", "ok", f"{self._app.uri} answers, the head after {took}")
        elif isinstance(first, Failed) and (not moved or self._seen.landing is None):
            self._say("connection", "fails", first.problem, first.hint)
            # Who named an authority meant it: then its certificate is what has to be mended.
            is_unverified = any(words in first.problem for words in UNVERIFIED)
            if is_unverified and is_here(uri) and not self._app.tls.ca_file:
                self._proposal["insecure_skip_verify"] = True

    def _page(self) -> None:
        page = self._seen.landing
        assert page is not None
        title = Page(page).title
        what = f" {title!r}" if title else ""
        if page.status in (401, 403):
            self._say("page", "ok", f"{page.target} wants its own sign-in ({page.status})")
        elif page.status >= 400:
            self._say(
                "page",
                "fails" if page.status >= 500 else "note",
                f"{page.target} answers {page.status}",
                "open it on the agent's machine; people will see the same",
            )
        elif page.seconds > SLOW:
            self._say("page", "note", f"the page{what} took {page.seconds:.1f} s")
        else:
            self._say("page", "ok", f"the page{what} is at {page.target} ({page.status})")

    def _path(self) -> None:
        parts = urlsplit(self._seen.uri)
        if isinstance(self._seen.known_path, Seen) and self._seen.known_path.is_welcome:
            uri = parts._replace(path=self._seen.known_path.target).geturl()
            self._proposal["uri"] = uri
            self._say("path", "change", "there is nothing at /", f"it lives at {uri}")
        elif parts.path.strip("/"):
            self._say("path", "ok", f"/ leads people to {parts.path}, all else passes as it is")

    # --- Host and Origin -------------------------------------------------------------------------

    def _host(self) -> None:
        wanted, why = self._wanted_host()
        if wanted == self._host_now:
            kept = "as it wants" if why else "and any would do"
            self._say("host", "ok", f"it gets {self._host_now}, {kept}")
            return
        self._proposal["host"] = wanted
        self._say("host", "change", why, f"rewrite.headers: Host: {wanted}")

    def _wanted_host(self) -> tuple[str, str]:
        """Return the Host that it should get, and why."""
        seen, own, public = self._seen, self._own, self._public
        # 401 is no refusal of a page: a Host that spares people the sign-in is not one to propose.
        pages = {host: page for host, page in seen.pages.items() if _status(page) != 401}
        page = _difference(pages, own, public)
        if page is not None:
            liked, reply = page
            return liked, f"it refuses pages of another Host than {liked} ({_told(reply)})"
        for replies, what in ((seen.sockets, "WebSockets"), (seen.posts, "what is sent to it")):
            found = _difference(replies, own, public)
            if found is not None and found[0] == public:
                why = f"it compares Origin with Host, and refuses {what} where they differ"
                return public, f"{why} ({_told(found[1])})"
        if self._known is not None and self._known.host == "public":
            return public, f"{self._known.title} compares Origin with Host, as far as is known"
        if self._known is not None and self._known.host == "uri":
            return own, f"{self._known.title} wants its own Host, as far as is known"
        return self._host_now, ""

    def _origin(self) -> None:
        host = str(self._proposal.get("host", self._host_now))
        away = f"https://{self._public}"
        for what, at_home, replies in (
            ("WebSockets", self._seen.socket_at_home, self._seen.sockets),
            ("what is sent", self._seen.post_at_home, self._seen.posts),
        ):
            reply = replies.get(host)
            if not isinstance(at_home, Seen) or reply is None:
                continue
            if isinstance(reply, Failed) or reply.status != at_home.status:
                if isinstance(reply, Seen) and reply.status not in REFUSALS:
                    continue
                saw = f"it refuses {what} from {away} whatever the Host ({_told(reply)})"
                advice = f"add {away} to the origins that the application itself allows or trusts"
                self._say("origin", "fails", saw, advice)
                return
        self._say("origin", "ok", f"it takes what pages of {away} send")

    # --- What its answers hold -------------------------------------------------------------------

    def _redirects(self) -> None:
        host = str(self._proposal.get("host", self._host_now))
        page = self._seen.pages.get(host)
        if not isinstance(page, Seen) or not (location := page.header(b"location")):
            return
        told = location[:MAX_QUOTED]
        try:
            parts = urlsplit(location)
        except ValueError:
            self._say("redirects", "note", f"it redirects to {told}, which is no address")
            return
        if not parts.netloc:
            self._say("redirects", "ok", f"it redirects to {told}, a path of its own")
            return
        if self._is_made_public(location, host, page.status):
            self._say("redirects", "ok", f"its redirect to {told} is made public")
        elif is_here(location) or parts.hostname in (self._hostname.lower(), _first(host)):
            name = parts.hostname or ""
            self._proposal["redirect"] = (name,)
            self._say("redirects", "change", f"it redirects to {told}", f"rewrite.redirect: {name}")
        else:
            self._say(
                "redirects",
                "note",
                f"it redirects to {told}, where people's browsers go then",
                f"if that is this application, add {parts.hostname} to rewrite.redirect",
            )

    def _is_made_public(self, location: str, host: str, status: int) -> bool:
        if urlsplit(location).netloc.lower() == self._public:
            return True
        app = Proposal(uri=self._seen.uri, host=host).applied(self._app)
        headers = [(b"location", location.encode("latin-1"))]
        rewriter = Rewriter(app, hostname=self._hostname)
        return rewriter.response(status, headers, public=self._public) != write_lines(headers)

    def _cookies(self) -> None:
        assert self._seen.landing is not None
        answers = [*self._seen.pages.values(), self._seen.landing]
        cookies = {
            value.decode("latin-1")
            for answer in answers
            if isinstance(answer, Seen)
            for value in values(answer.headers, b"set-cookie")
        }
        wide = sorted({domain for cookie in cookies for domain in _attribute(cookie, "domain")})
        if wide:
            names = ", ".join(wide)[:MAX_QUOTED]
            self._say("cookies", "ok", f"cookies for {names} are made the application's own")
        elif cookies:
            self._say("cookies", "ok", "its cookies pass as they are")

    def _websocket(self) -> None:
        host = str(self._proposal.get("host", self._host_now))
        reply = self._seen.sockets.get(host)
        if isinstance(reply, Failed):
            self._say("websocket", "note", f"a WebSocket handshake got nowhere: {reply.problem}")
        elif reply is None:
            return
        elif reply.status == 101:
            self._say("websocket", "ok", f"WebSockets open at {reply.target}")
        elif reply.status in (401, 403):
            self._say("websocket", "ok", f"a WebSocket wants a sign-in first ({reply.status})")
        else:
            self._say("websocket", "ok", f"no WebSocket at {reply.target} ({reply.status})")

    def _events(self) -> None:
        reply = self._seen.events
        if not isinstance(reply, Seen):
            return
        if reply.media_type != "text/event-stream":
            self._say("events", "ok", f"no event stream at {reply.target}")
        elif reply.first_byte is None:
            self._say("events", "note", f"the event stream at {reply.target} was silent")
        else:
            took = f"{reply.first_byte * 1000:.0f} ms"
            self._say("events", "ok", f"first byte of the events at {reply.target} after {took}")

    def _heads(self) -> None:
        page = self._seen.pages.get(self._host_now, self._seen.first)
        usual = page.status if isinstance(page, Seen) else 0
        refused = [
            size
            for size, reply in sorted(self._seen.heads.items())
            if isinstance(reply, Failed) or (reply.status != usual and reply.status >= 400)
        ]
        taken = [size for size in self._seen.heads if size not in refused]
        if not refused:
            if taken:
                self._say("headers", "ok", f"it takes heads of {max(taken) // 1024} KiB and more")
        elif refused[0] > COMMON_HEAD:
            self._say("headers", "ok", f"it takes heads of {max(taken) // 1024} KiB")
        elif refused[0] > JWT_HEAD:
            self._say(
                "headers",
                "note",
                f"it refuses heads of {refused[0] // 1024} KiB",
                "for people with many roles or traits, set rewrite.jwt_claims: none",
            )
        elif self._app.rewrite.jwt_claims != "none":
            self._proposal["jwt_claims"] = "none"
            self._say(
                "headers",
                "change",
                f"it refuses heads of {refused[0] // 1024} KiB already",
                "rewrite.jwt_claims: none keeps the JWT short",
            )
        else:
            self._say("headers", "note", f"it refuses heads of {refused[0] // 1024} KiB")

    def _icon(self) -> None:
        icon = self._seen.icon
        if isinstance(icon, Seen) and icon.status == 200 and icon.media_type.startswith("image/"):
            self._say("icon", "ok", f"its icon is at {icon.target}")
        else:
            self._say("icon", "ok", "it has no icon")


def _difference(replies: Mapping[str, Reply], own: str, public: str) -> tuple[str, Reply] | None:
    """Return the Host that is liked where the other is not, and what the other got."""
    ours, theirs = replies.get(own), replies.get(public)
    if ours is None or theirs is None or own == public:
        return None
    for liked, reply, other in ((own, ours, theirs), (public, theirs, ours)):
        if isinstance(reply, Failed) or reply.status >= 500:
            continue
        refused = isinstance(other, Failed) or other.status in REFUSALS
        is_alike = isinstance(other, Seen) and other.status == reply.status
        if refused and not is_alike and _severity(reply) < _severity(other):
            return liked, other
    return None


def _status(reply: Reply) -> int | None:
    return reply.status if isinstance(reply, Seen) else None


def _severity(reply: Reply) -> int:
    """Order answers by how little one gets any further from there."""
    if isinstance(reply, Failed):
        return 3
    # 404 of a path that nobody serves, and 405: whoever looks for it was let through to look.
    return {404: 1, 405: 1, 400: 2, 401: 2, 403: 2, 421: 2}.get(reply.status, 0)


def _told(reply: Reply) -> str:
    return reply.problem if isinstance(reply, Failed) else f"answers {reply.status}"


def _first(host: str) -> str:
    return host.partition(":")[0]


def _attribute(cookie: str, name: str) -> Iterator[str]:
    for part in cookie.split(";")[1:]:
        key, _, value = part.partition("=")
        if key.strip().lower() == name and value.strip():
            yield value.strip()
