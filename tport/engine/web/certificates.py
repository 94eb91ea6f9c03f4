"""The page about certificates: what browsers are shown for each host, until when, and what fails."""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.certificates import CertInfo
from tport.engine.types.certificate import standing
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit, sentence

LIST: Final = "/web/certificates"
MAX_NAMES: Final = 6  # shown of one certificate
SOURCES: Final = {"file": "from a file", "acme": "by ACME", "own CA": "tport's own authority"}


class Row(NamedTuple):
    """A certificate, or the lack of one, as the list shows it."""

    host: str
    source: str
    state: str
    mood: str
    names: str
    issuer: str
    key: str
    path: str
    until: Since | None
    attempt: Since | None
    next: Since | None
    renews: bool
    problem: str
    advice: str


class CertificatePages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [signed_in.get(LIST, self.list, ("app_server", "list"))]

    async def list(self, visit: Visit) -> Response:
        """GET /web/certificates: what needs somebody first."""
        rows = [_row(info, visit) for info in await visit.auth.list_certificates()]
        rows.sort(key=lambda row: row.mood != "bad")
        return await visit.page("certificates.html", rows=rows)


def _row(info: CertInfo, visit: Visit) -> Row:
    state = info.state
    word, mood = standing(state, visit.now)
    more = len(state.names) - MAX_NAMES
    names = ", ".join(state.names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")

    return Row(
        host=state.host,
        source=SOURCES.get(state.source, ""),
        state=word,
        mood=mood,
        names=names if state.names != (state.host,) else "",
        issuer=state.issuer,
        key=state.key,
        path=state.path,
        until=clock_time(state.not_after, visit.now) if state.not_after else None,
        attempt=clock_time(state.last_attempt, visit.now) if state.last_attempt else None,
        next=clock_time(state.next_try, visit.now) if state.next_try else None,
        renews=state.not_after is not None and not state.problem,
        problem=sentence(state.problem),
        advice=sentence(state.advice),
    )
