"""The page about who is signed in and what they have opened, and the end of a session."""

from __future__ import annotations

from collections import defaultdict
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.errors import NotFound
from tport.engine.types.session import SessionInfo
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/sessions"
SHOWN: Final = 1000  # sessions, the newest
END: Final = ("session", "delete")
EVERYBODYS: Final = "/web/session"


class Row(NamedTuple):
    """A session as the list shows it; of a sign-in, with the applications opened by it."""

    user: str
    app: str
    host: str
    remote: str
    browser: str
    since: Since
    seen: Since | None
    until: Since
    end_url: str
    is_this: bool
    opened: tuple[Row, ...] = ()


class SessionPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list, ("session", "list")),
            signed_in.form(f"{EVERYBODYS}/{{id}}/end", self.ask, self.end, END),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/sessions?user=<name>"""
        user = visit.request.query_params.get("user", "")[:128]
        found = await visit.auth.list_sessions(user=user, limit=SHOWN)
        return await visit.page(
            "sessions.html",
            sessions=grouped(found, visit, EVERYBODYS),
            of=user,
            is_cut=len(found) == SHOWN,
            list_url=LIST,
        )

    async def ask(self, visit: Visit) -> Response:
        """GET /web/session/{id}/end: asks first."""
        id_ = visit.part("id")
        for session in await visit.auth.list_sessions(user="", limit=SHOWN):
            if session.id == id_:
                row = row_of(session, visit, EVERYBODYS)
                return await visit.page("session_end.html", row=row, list_url=LIST)
        raise NotFound("there is no such session any more")

    async def end(self, visit: Visit) -> Response:
        """POST /web/session/{id}/end"""
        ended = await visit.auth.end_session(id=visit.part("id"))
        what = f"{ended.user}'s session at {ended.app}" if ended.app else f"{ended.user}'s sign-in"
        return visit.done(LIST, f"{what} was ended.")


def grouped(found: tuple[SessionInfo, ...], visit: Visit, below: str) -> list[Row]:
    """Put each application's session under the sign-in that it came from.

    `below`: the path under which a session's end is asked for: `<below>/<id>/end`.
    """
    opened = defaultdict(list)
    sign_ins = {session.id for session in found if session.kind == "web"}
    for session in found:
        if session.kind == "app":
            opened[session.web_session].append(row_of(session, visit, below))
    rows = []
    for session in found:
        if session.kind == "web":
            rows.append(row_of(session, visit, below)._replace(opened=tuple(opened[session.id])))
        elif session.web_session not in sign_ins:  # among the newest without its sign-in
            rows.append(row_of(session, visit, below))
    return rows


def row_of(session: SessionInfo, visit: Visit, below: str) -> Row:
    return Row(
        user=session.user,
        app=session.app,
        host=session.host,
        remote=session.remote,
        browser=browser_of(session.user_agent),
        since=clock_time(session.created, visit.now),
        seen=clock_time(session.seen, visit.now) if session.seen else None,
        until=clock_time(session.expires, visit.now),
        end_url=f"{below}/{quote(session.id)}/end",
        is_this=session.id == visit.session.id,
    )


_BROWSERS: Final = (  # the first that is named; most claim to be others, too
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def browser_of(user_agent: str) -> str:
    """Say in words what a browser calls itself; what isn't known, to the letter."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if browser and system else browser or user_agent[:80]
