"""The pages on which somebody decides who gets access for a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.request import MAX_REASON, AccessRequest
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/requests"
_ONE: Final = f"{LIST}/{{id}}"
# What can be chosen for how long; seconds, and in words.
SPANS: Final = (
    (3600, "an hour"),
    (8 * 3600, "8 hours"),
    (24 * 3600, "a day"),
    (7 * 24 * 3600, "a week"),
)


class Asked(NamedTuple):
    """A request as a page shows it."""

    user: str
    host: str
    reason: str
    url: str
    state: str
    mood: str
    since: Since
    by: str
    answer: str
    role: str
    until: Since | None


class RequestPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list, ("access_request", "list")),
            signed_in.form(_ONE, self.one, self.decide, ("access_request", "update")),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/requests"""
        asked = [_shown(visit, each) for each in await visit.auth.list_requests()]
        return await visit.page(
            "requests.html",
            waiting=[each for each in asked if each.state == "waits"],
            decided=[each for each in asked if each.state != "waits"],
        )

    async def one(self, visit: Visit) -> Response:
        """GET /web/requests/{id}; the list, and what is wrong, when there is none like it."""
        try:
            request = await _found(visit)
        except NotFound as gone:
            visit.problem = visit.problem or gone
            return await self.list(visit)
        explained = await visit.auth.explain_request(id=request.id)
        fitting = explained.would_open if explained else ()
        roles = [role.name for role in await visit.auth.list_roles()]
        others = sorted(name for name in roles if name not in fitting)
        return await visit.page(
            "request.html",
            asked=_shown(visit, request),
            explained=explained,
            fitting=fitting,
            others=others,
            chosen=visit.form.get("role") or (fitting[0] if fitting else ""),
            spans=SPANS,
            span=visit.form.get("span", str(SPANS[1][0])),
            max_answer=MAX_REASON,
            list_url=LIST,
        )

    async def decide(self, visit: Visit) -> Response:
        """POST /web/requests/{id}"""
        request, answer = await _found(visit), visit.form.get("answer", "")
        if visit.form.get("decision") == "deny":
            await visit.auth.deny_request(id=request.id, answer=answer)
            return visit.done(LIST, f"{request.user} is told that you refused.")
        role, span = visit.form.get("role", ""), visit.form.get("span", "")
        if not role:
            raise InvalidRequest("choose the role that they get")
        words = {str(seconds): text for seconds, text in SPANS}.get(span)
        if words is None:
            raise InvalidRequest("choose for how long")
        await visit.auth.approve_request(id=request.id, role=role, ttl=float(span), answer=answer)
        given = f"{request.user} has the role {role} for {words}."
        explained = await visit.auth.explain_request(id=request.id)
        if explained is not None and not explained.allowed:
            given += f" They still may not open {request.host}: {explained.decided}."
        return visit.done(LIST, given)


async def _found(visit: Visit) -> AccessRequest:
    wanted = visit.part("id")
    requests: Sequence[AccessRequest] = await visit.auth.list_requests()
    for request in requests:
        if request.id == wanted:
            return request
    raise NotFound("there is no such request any more")


def _shown(visit: Visit, request: AccessRequest) -> Asked:
    state, mood = {
        "pending": ("waits", ""),
        "approved": ("approved", "good"),
        "denied": ("refused", "bad"),
    }[request.state]
    return Asked(
        user=request.user,
        host=request.host,
        reason=request.reason,
        url=f"{LIST}/{quote(request.id, safe='')}",
        state=state,
        mood=mood,
        since=clock_time(request.created, visit.now),
        by=request.by,
        answer=request.answer,
        role=request.role,
        until=clock_time(request.until, visit.now) if request.until else None,
    )
