"""The pages on which an administrator sees everybody's device tokens, and revokes one."""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.errors import NotFound
from tport.engine.types.device_token import DeviceToken
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/users/tokens"
_ONE: Final = "/web/users/token"


class Row(NamedTuple):
    """A token as the list shows it."""

    name: str
    user: str
    app: str
    made: Since
    expires: Since
    seen: Since | None
    url: str


class EverybodysTokenPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        update = ("user", "update")
        return [
            signed_in.get(LIST, self.list, ("user", "list")),
            signed_in.form(f"{_ONE}/{{id}}/revoke", self.revoke, self.submit_revoke, update),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/users/tokens"""
        rows = [_row(token, visit) for token in await visit.auth.list_device_tokens()]
        return await visit.page("everybodys_tokens.html", tokens=rows)

    async def revoke(self, visit: Visit) -> Response:
        """GET /web/users/token/{id}/revoke: asks first."""
        for token in await visit.auth.list_device_tokens():
            if token.id == visit.part("id"):
                row = _row(token, visit)
                return await visit.page("everybodys_token_revoke.html", row=row, list_url=LIST)
        raise NotFound("there is no such device token")

    async def submit_revoke(self, visit: Visit) -> Response:
        """POST /web/users/token/{id}/revoke"""
        gone = await visit.auth.delete_device_token(id=visit.part("id"))
        return visit.done(
            LIST, f"“{gone.name}” of {gone.user} is revoked: it opens {gone.app} no more."
        )


def _row(token: DeviceToken, visit: Visit) -> Row:
    return Row(
        name=token.name,
        user=token.user,
        app=token.app,
        made=clock_time(token.created, visit.now),
        expires=clock_time(token.expires, visit.now),
        seen=clock_time(token.last_seen, visit.now) if token.last_seen else None,
        url=f"{_ONE}/{token.id}/revoke",
    )
