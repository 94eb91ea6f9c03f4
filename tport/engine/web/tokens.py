"""The pages about join tokens: made (shown once, with what to do with it), listed, deleted."""

from __future__ import annotations

import shlex
from typing import Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.answers import NewToken
from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.token import JoinToken
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/tokens"
ADD: Final = f"{LIST}/add"
LIVES: Final = (("60", "1 hour"), ("480", "8 hours"), ("1440", "1 day"), ("10080", "7 days"))
USES: Final = (("1", "one agent"), ("5", "5 agents"), ("0", "any number of agents"))
_ONE: Final = "/web/token/{id}"


class Row(NamedTuple):
    """A token as the list shows it; `url` "" when it can't be deleted here."""

    hint: str
    app: str
    uses: str
    expires: Since | None
    made: Since | None
    by: str
    url: str


class TokenPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        delete = ("token", "delete")
        return [
            signed_in.get(LIST, self.list, ("token", "list")),
            signed_in.form(ADD, self.add, self.submit_add, ("token", "create")),
            signed_in.form(f"{_ONE}/delete", self.delete, self.submit_delete, delete),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/tokens"""
        rows = [_row(token, visit) for token in await visit.auth.list_tokens()]
        return await visit.page("tokens.html", tokens=rows, add_url=ADD)

    async def add(self, visit: Visit) -> Response:
        """GET /web/tokens/add"""
        return await visit.page(
            "token_add.html",
            lives=LIVES,
            life=visit.form.get("life", LIVES[0][0]),
            uses=USES,
            use=visit.form.get("uses", USES[0][0]),
            list_url=LIST,
            add_url=ADD,
        )

    async def submit_add(self, visit: Visit) -> Response:
        """POST /web/tokens/add"""
        form = visit.form
        if form.get("life") not in dict(LIVES) or form.get("uses") not in dict(USES):
            raise InvalidRequest("choose how long the token lives, and how often it works")
        made = await visit.auth.create_token(
            roles=("app",),
            ttl=60.0 * int(form["life"]),
            app_name=form.get("app", "").strip(),
            app_uri=form.get("uri", "").strip(),
            max_uses=int(form["uses"]),
        )
        return await visit.page(
            "token_made.html",
            secret=made.token,
            command=join_command(made, visit.site.public_addr),
            app=made.app_name,
            until=clock_time(made.expires, visit.now),
            uses=dict(USES)[form["uses"]],
            list_url=LIST,
        )

    async def delete(self, visit: Visit) -> Response:
        """GET /web/token/{id}/delete: asks first."""
        return await visit.page("token_delete.html", row=await _found(visit), list_url=LIST)

    async def submit_delete(self, visit: Visit) -> Response:
        """POST /web/token/{id}/delete"""
        gone = await visit.auth.delete_token(token=visit.part("id"))
        return visit.done(LIST, f"Token {gone.hint}… was deleted: nobody joins with it any more.")


def join_command(made: NewToken, proxy: str) -> str:
    """Return the one command that starts an agent with this token, for a POSIX shell.

    The token is read from stdin, so that it stands in no process's arguments.
    """
    name, uri = made.app_name or "grafana", made.app_uri or "http://localhost:3000"
    return (
        "tport start --roles=app --token=- \\\n"
        f"  --auth-server={made.proxy_addr or proxy} \\\n"
        f"  --app-name={shlex.quote(name)} \\\n"
        f"  --app-uri={shlex.quote(uri)} <<'END'\n"
        f"{made.token}\n"
        "END"
    )


async def _found(visit: Visit) -> Row:
    id_ = visit.part("id")
    for token in await visit.auth.list_tokens():
        if token.id == id_ and not token.static:
            return _row(token, visit)
    raise NotFound("there is no such join token")


def _uses(token: JoinToken) -> str:
    if token.max_uses:
        return f"used {token.uses} of {token.max_uses} times"
    if token.uses > 1:
        return f"used {token.uses} times"
    return "used once" if token.uses else "not used yet"


def _row(token: JoinToken, visit: Visit) -> Row:
    return Row(
        hint=token.hint,
        app=token.app_name,
        uses=_uses(token),
        expires=clock_time(token.expires, visit.now) if token.expires else None,
        made=clock_time(token.created, visit.now) if token.created else None,
        by=token.created_by,
        url="" if token.static else f"/web/token/{token.id}/delete",
    )
