"""The pages that lead from "I have an application" to having it open: a command, a wait, a check."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.config.app_rules import check_uri, typed_uri
from tport.engine.errors import AlreadyExists, InvalidRequest
from tport.engine.types.app import check_app_name
from tport.engine.web.agents import LIST as AGENTS
from tport.engine.web.agents import app_row, find_app
from tport.engine.web.site import clock_time
from tport.engine.web.tokens import join_command
from tport.engine.web.visit import SignedInRoutes, Visit, sentence

ADD: Final = "/web/apps/add"
LIFE: Final = 3600.0  # s that the command works
RULE: Final = ("token", "create")


class Step(NamedTuple):
    """One of the way. `state`: "done", "now", "failed" or "later"."""

    title: str
    text: str
    state: str


class AddAppPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.form(ADD, self.ask, self.submit, RULE),
            signed_in.get(f"{ADD}/{{name}}", self.wait, RULE),
        ]

    async def ask(self, visit: Visit) -> Response:
        """GET /web/apps/add"""
        return await visit.page("app_add.html", add_url=ADD, agents_url=AGENTS)

    async def submit(self, visit: Visit) -> Response:
        """POST /web/apps/add: the command, shown once, above what comes of it."""
        name, uri = visit.form.get("name", "").strip(), visit.form.get("uri", "").strip()
        check_app_name(name)
        try:
            uri = check_uri(typed_uri(uri))
        except InvalidRequest as problem:
            raise InvalidRequest(f"where it is: {problem}") from None
        if (info := await find_app(visit, name)) is not None and info.up:
            raise AlreadyExists(
                f"an application called {name!r} is offered already",
                hint="choose another name; or, to offer it from one more machine, make a join token",
            )
        made = await visit.auth.create_token(
            roles=("app",), ttl=LIFE, app_name=name, app_uri=uri, max_uses=1
        )
        return await visit.page(
            "app_adding.html",
            **await _progress(visit, name),
            command=join_command(made, visit.site.public_addr),
            until=clock_time(made.expires, visit.now),
        )

    async def wait(self, visit: Visit) -> Response:
        """GET /web/apps/add/{name}: what has come of it; shown anew until it is there."""
        name = check_app_name(visit.part("name"))
        return await visit.page(
            "app_adding.html", **await _progress(visit, name), command="", until=None
        )


async def _progress(visit: Visit, name: str) -> dict[str, object]:
    """Return how far the application is, as the template shows it."""
    info = await find_app(visit, name)
    up = info is not None and info.up
    refused = "" if info is None or up or not info.refused else info.refused[0].refused
    row = app_row(info, visit) if info is not None else None
    joined = "An agent has it." if up or refused else "Nothing has come yet."
    answers = info.answers if info is not None else None
    health = next((s.health for s in info.servers if s.health), None) if info is not None else None
    if not up:
        answering, state = "That is seen once it is offered.", "later"
    elif answers is None:
        answering, state = "Its agent connects to it.", "now"
    elif answers or health is None:
        answering, state = "It takes connections.", "done"
    else:
        again = "The agent goes on trying: this page sees when it works."
        answering, state = f"{health.cause}. {health.advice} {again}", "failed"
    if up and row is not None:
        offered = f"It is at https://{row.address}"
    else:
        offered = sentence(refused) or "It gets its address, and people may open it by their roles."
    return {
        "name": name,
        "here": f"{ADD}/{quote(name)}",
        "steps": [
            Step("Its agent joins", joined, "done" if up or refused else "now"),
            Step("It is offered", offered, "done" if up else "failed" if refused else "later"),
            Step("It answers", answering, state),
            Step(
                "Its agent tries it, and says what it needs",
                "" if answers else "That follows by itself.",
                "now" if answers else "later",
            ),
        ],
        "up": up,
        "answers": bool(answers),
        "url": row.url if row is not None else "",
        "check_url": f"/web/app/{quote(name)}/check",
        "agents_url": AGENTS,
    }
