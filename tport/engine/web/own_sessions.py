"""One's own sessions: where one is signed in, what was opened there, and the end of it."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.errors import NotFound
from tport.engine.web.sessions import grouped, row_of
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/account/sessions"
_OWN: Final = "/web/account/session"


class OwnSessionPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list),
            signed_in.form(f"{_OWN}/{{id}}/end", self.ask, self.end),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/account/sessions"""
        found = await visit.auth.list_own_sessions()
        return await visit.page("own_sessions.html", sessions=grouped(found, visit, _OWN))

    async def ask(self, visit: Visit) -> Response:
        """GET /web/account/session/{id}/end: asks first."""
        id_ = visit.part("id")
        for session in await visit.auth.list_own_sessions():
            if session.id == id_:
                row = row_of(session, visit, _OWN)
                return await visit.page("own_session_end.html", row=row, list_url=LIST)
        raise NotFound("there is no such session of yours any more")

    async def end(self, visit: Visit) -> Response:
        """POST /web/account/session/{id}/end"""
        ended = await visit.auth.end_own_session(id=visit.part("id"))
        what = f"Your session at {ended.app}" if ended.app else "That sign-in"
        return visit.done(LIST, f"{what} was ended.")
