"""One request of somebody who is signed in, and the routes that only they get through.

A form that can't be done is shown again with what was typed and why; one that was done leads on
by 303 with a notice, so that reloading repeats nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.callers import Rule
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import (
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotSignedIn,
    ProofNeeded,
    TportError,
)
from tport.engine.types.session import WebSession
from tport.engine.web.forms import read_form
from tport.engine.web.frame import MENU, SECTIONS, Entry
from tport.engine.web.respond import redirect, render
from tport.engine.web.site import FOREIGN_FORM, Clock, Site, clock_time, here

MAX_FORM: Final = 128 * 1024  # bytes; a role as YAML, percent-encoded
MAX_FIELDS: Final = 512  # one for each role that may be ticked
MAX_NOTICE: Final = 300  # characters

PROVE: Final = "/web/prove"  # where who is signed in shows anew that it is they
PROVED: Final = "/web/proved"  # where a second tab of it ends, whose first one holds a form

# What a form says again, beside what was typed. Anything else is a page of its own.
_SAID_AGAIN: Final = (
    InvalidRequest,
    AlreadyExists,
    NotFound,
    CompareFailed,
    LimitExceeded,
    ProofNeeded,
)


class Visit:
    """Who asks for what, and how they are answered.

    Attributes:
        auth: asked in this person's name: their roles decide, there.
        form: what was typed, when a form is shown again; else empty.
        problem: why it is shown again; None: it is shown for the first time.
    """

    def __init__(self, site: Site, clock: Clock, request: Request, session: WebSession) -> None:
        self.site = site
        self.request = request
        self.session = session
        self.auth: AuthAPI = site.acting(request)
        self.form: Mapping[str, str] = {}
        self.problem: Exception | None = None
        self._clock = clock

    @property
    def now(self) -> datetime:
        return self._clock()

    @property
    def path(self) -> str:
        """The path asked for, encoded as in links."""
        return quote(self.request.scope["path"])

    @property
    def known(self) -> str:
        """The cookie that says this browser has signed somebody in before; "": none."""
        return self.site.visitor(self.request)["known"]

    def part(self, name: str) -> str:
        """Return a part of the path, decoded."""
        return str(self.request.path_params[name])

    def token(self, action: str) -> str:
        """Return the hidden token of a form of this browser that is posted to `action`."""
        return self.site.token(action, self.session.id)

    async def page(self, template: str, status: int = 200, /, **values: object) -> Response:
        """Fill a template that extends frame.html; status as the problem has it."""
        rights = frozenset(await self.auth.own_rights())
        if isinstance(self.problem, TportError) and status == 200:
            status = self.problem.status
        return render(
            template,
            status,
            cluster=self.site.cluster,
            apps_url=self.site.apps_url,
            sections=self._entries(SECTIONS, rights),
            menu=self._entries(MENU, rights),
            user=self.session.user,
            expires=clock_time(self.session.expires, self.now),
            logout_token=self.token("logout"),
            rights=rights,
            token=self.token,
            typed=defaultdict(str, self.form),
            problem=_words(self.problem),
            notice=self._notice(),
            **values,
        )

    def _entries(
        self, sections: tuple[Entry, ...], rights: frozenset[tuple[str, str]]
    ) -> list[tuple[str, str, bool]]:
        """Return title, path and "here" of what this person's roles allow."""
        found = []
        for entry in sections:
            path = entry.path or self.site.apps_url
            if entry.rule is None or entry.rule in rights:
                around = [
                    each for each in (path, *entry.also) if f"{self.path}/".startswith(f"{each}/")
                ]
                found.append((entry.title, path, max(map(len, around), default=0)))
        closest = max((near for _, _, near in found), default=0)
        return [(title, path, 0 < near == closest) for title, path, near in found]

    # After a form

    def done(self, path: str, notice: str) -> Response:
        """Lead on to a page of ours that says what was done; notice "": it shows that itself."""
        if not notice:
            return redirect(path, 303)
        notice = notice[:MAX_NOTICE]
        query = urlencode({"notice": notice, "sign": self.token(_notice_purpose(notice))})
        return redirect(f"{path}{'&' if '?' in path else '?'}{query}", 303)

    def _notice(self) -> str:
        """Return the notice in the address if we wrote it for this session: no link says it for us."""
        query = self.request.query_params
        notice, sign = query.get("notice", ""), query.get("sign", "")
        purpose, binding = _notice_purpose(notice), self.session.id
        foreign = self.site.form_problem(sign, purpose=purpose, binding=binding, new=False)
        return "" if foreign else notice


def _notice_purpose(notice: str) -> str:
    return f"notice\0{notice}"


def _words(problem: Exception | None) -> Mapping[str, str]:
    """Write what went wrong as sentences: what, and what to do."""
    if problem is None:
        return {}
    text = str(problem)
    hint = problem.hint if isinstance(problem, TportError) else ""
    # What was typed stays in this tab: the proof is shown in another one.
    link = f"{PROVE}?next={quote(PROVED, safe='')}" if isinstance(problem, ProofNeeded) else ""
    return {"text": sentence(text), "hint": sentence(hint), "prove": link}


def sentence(text: str) -> str:
    """Write an error's words as a sentence of a page."""
    text = text.strip()
    if not text:
        return ""
    head = text[:1] if "://" in text.partition(" ")[0] else text[:1].upper()  # no "Http://…"
    return f"{head}{text[1:]}{'' if text[-1] in '.!?' else '.'}"


Show = Callable[[Visit], Awaitable[Response]]


class SignedInRoutes:
    """Makes the routes of pages for who is signed in; others are sent to sign in, and back."""

    def __init__(self, site: Site, clock: Clock) -> None:
        self._site = site
        self._clock = clock

    def get(self, path: str, show: Show, rule: Rule = None) -> Route:
        """Make the route of a page.

        Args:
            rule: kind and verb that the person's roles must allow; None: everybody's.
        """

        async def handle(request: Request) -> Response:
            return await self._visited(request, show, rule)

        return Route(path, handle, methods=["GET"])

    def form(self, path: str, show: Show, submit: Show, rule: Rule = None) -> Route:
        """Make the route of a page with a form that is posted to the page's own path.

        `submit` runs when the form came from our own page in this browser, with `visit.form`
        filled; what it raises is shown by `show`, with what was typed.
        """

        async def handle(request: Request) -> Response:
            post = request.method == "POST"
            return await self._visited(request, _posting(show, submit) if post else show, rule)

        return Route(path, handle, methods=["GET", "POST"])

    async def _visited(self, request: Request, show: Show, rule: Rule) -> Response:
        session = await self._site.session(request)
        if session is None:
            return self._site.to_sign_in(request)
        visit = Visit(self._site, self._clock, request, session)
        try:
            if rule is not None:
                await visit.auth.check_right(kind=rule[0], verb=rule[1])
            return await show(visit)
        except NotSignedIn:  # over since the line above
            return self._site.to_sign_in(request)
        except ProofNeeded:
            return redirect(f"{PROVE}?next={quote(here(request), safe='')}", 303)


def _posting(show: Show, submit: Show) -> Show:
    """Return how a POST is answered: judged, done, or shown again."""

    async def post(visit: Visit) -> Response:
        site, request = visit.site, visit.request
        if not site.is_own_post(request):
            return await _again(visit, show, FOREIGN_FORM)
        typed = await read_form(
            request.headers.get("content-type", ""),
            request.stream(),
            limit=MAX_FORM,
            max_fields=MAX_FIELDS,
        )
        visit.form = typed
        problem = site.form_problem(
            typed.get("token", ""), purpose=visit.path, binding=visit.session.id, new=False
        )
        if problem:
            return await _again(visit, show, problem)
        try:
            return await submit(visit)
        except _SAID_AGAIN as error:
            visit.problem = error
            return await show(visit)

    return post


async def _again(visit: Visit, show: Show, problem: str) -> Response:
    visit.problem = _NotOurs(problem)
    return await show(visit)


class _NotOurs(TportError):
    """The form is not one that we sent to this browser."""

    status = 403
