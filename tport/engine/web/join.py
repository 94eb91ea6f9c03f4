"""The page on which somebody lets a machine join: its code typed, what it is seen, yes or no, the word back."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.types.approval import JoinRequest
from tport.engine.web.agents import SHOW, find_app
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

PATH: Final = "/web/join"


class JoinPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [signed_in.form(PATH, self.show, self.submit, ("token", "create"))]

    async def show(self, visit: Visit) -> Response:
        """GET /web/join: where the code is typed."""
        return await _page(visit)

    async def submit(self, visit: Visit) -> Response:
        """POST /web/join: first the code alone, then with the decision."""
        code, decision = visit.form.get("code", ""), visit.form.get("decision", "")
        if decision in ("approve", "deny"):
            decided = await visit.auth.decide_join(
                code=code,
                host_id=visit.form.get("machine", ""),
                approve=decision == "approve",
            )
            return await _page(visit, decided=decided)
        asked = await visit.auth.find_join(code=code)
        return await _page(visit, asked=asked, taken=await _taken(visit, asked))


async def _taken(visit: Visit, asked: JoinRequest) -> str:
    """Return at which other address this name is offered already; "": at none that may be seen."""
    if SHOW not in await visit.auth.own_rights():
        return ""
    info = await find_app(visit, asked.app)
    if info is None or not info.up:
        return ""
    return next((s.app.uri for s in info.servers if s.app.uri != asked.uri), "")


async def _page(
    visit: Visit,
    *,
    asked: JoinRequest | None = None,
    decided: JoinRequest | None = None,
    taken: str = "",
) -> Response:
    return await visit.page(
        "join.html",
        action=PATH,
        proxy=visit.site.public_addr,
        code=asked.code if asked else visit.form.get("code", "")[:64],
        asked=asked,
        decided=decided,
        taken=taken,
        since=clock_time(asked.created, visit.now) if asked else None,
    )
