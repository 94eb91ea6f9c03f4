"""The pages on which an administrator sees everybody's device tokens, and revokes one."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.errors import NotFound
from tport.engine.web.device_tokens import row_of
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/users/tokens"
_ONE: Final = "/web/users/token"


class EverybodysTokenPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        update = ("user", "update")
        return [
            signed_in.get(LIST, self.list, ("user", "list")),
            signed_in.form(f"{_ONE}/{{id}}/revoke", self.revoke, self.submit_revoke, update),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/users/tokens"""
        rows = [row_of(token, visit, _ONE) for token in await visit.auth.list_device_tokens()]
        return await visit.page("everybodys_tokens.html", tokens=rows)

    async def revoke(self, visit: Visit) -> Response:
        """GET /web/users/token/{id}/revoke: asks first."""
        for token in await visit.auth.list_device_tokens():
            if token.id == visit.part("id"):
                row = row_of(token, visit, _ONE)
                return await visit.page("everybodys_token_revoke.html", row=row, list_url=LIST)
        raise NotFound("there is no such device token")

    async def submit_revoke(self, visit: Visit) -> Response:
        """POST /web/users/token/{id}/revoke"""
        gone = await visit.auth.delete_device_token(id=visit.part("id"))
        return visit.done(
            LIST, f"“{gone.name}” of {gone.user} is revoked: it opens {gone.app} no more."
        )
