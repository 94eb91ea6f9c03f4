"""The pages of a person's own device tokens: made (shown once, ready to use), listed, revoked."""

from __future__ import annotations

import shlex
from typing import Final, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from tport.engine.errors import InvalidRequest, NotFound
from tport.engine.types.device_token import DEFAULT_TTL, MAX_NAME, DeviceToken
from tport.engine.web.apps import app_url
from tport.engine.web.errors import Since
from tport.engine.web.site import clock_time
from tport.engine.web.visit import SignedInRoutes, Visit

LIST: Final = "/web/account/tokens"
ADD: Final = f"{LIST}/add"
LIVES: Final = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"))
DEFAULT_LIFE: Final = str(DEFAULT_TTL.days)
_ONE: Final = "/web/account/token"
_DAY: Final = 86400.0  # s


class Row(NamedTuple):
    """A token as lists show it."""

    name: str
    user: str
    app: str
    made: Since
    expires: Since
    seen: Since | None
    url: str


class DeviceTokenPages:
    def routes(self, signed_in: SignedInRoutes) -> list[Route]:
        return [
            signed_in.get(LIST, self.list),
            signed_in.form(ADD, self.add, self.submit_add),
            signed_in.form(f"{_ONE}/{{id}}/revoke", self.revoke, self.submit_revoke),
        ]

    async def list(self, visit: Visit) -> Response:
        """GET /web/account/tokens"""
        rows = [row_of(token, visit, _ONE) for token in await visit.auth.own_device_tokens()]
        return await visit.page("device_tokens.html", tokens=rows, add_url=ADD)

    async def add(self, visit: Visit) -> Response:
        """GET /web/account/tokens/add"""
        apps = [app.name for app in await visit.auth.own_apps() if app.up]
        return await visit.page(
            "device_token_add.html",
            apps=apps,
            app=visit.form.get("app", apps[0] if apps else ""),
            lives=LIVES,
            life=visit.form.get("life", DEFAULT_LIFE),
            name_max=MAX_NAME,
            list_url=LIST,
            add_url=ADD,
        )

    async def submit_add(self, visit: Visit) -> Response:
        """POST /web/account/tokens/add"""
        form = visit.form
        urls = {app.name: app_url(app.address) for app in await visit.auth.own_apps()}
        app, life = form.get("app", ""), form.get("life", "")
        if app not in urls or life not in dict(LIVES):
            raise InvalidRequest("choose an application that is open to you, and for how long")
        made = await visit.auth.create_device_token(
            app=app, name=form.get("name", ""), ttl=_DAY * int(life)
        )
        return await visit.page(
            "device_token_made.html",
            name=made.token.name,
            app=app,
            secret=made.secret,
            command=curl_command(made.secret, urls[app]),
            until=clock_time(made.token.expires, visit.now),
            list_url=LIST,
        )

    async def revoke(self, visit: Visit) -> Response:
        """GET /web/account/token/{id}/revoke: asks first."""
        for token in await visit.auth.own_device_tokens():
            if token.id == visit.part("id"):
                row = row_of(token, visit, _ONE)
                return await visit.page("device_token_revoke.html", row=row, list_url=LIST)
        raise NotFound("you have no such device token")

    async def submit_revoke(self, visit: Visit) -> Response:
        """POST /web/account/token/{id}/revoke"""
        gone = await visit.auth.revoke_device_token(id=visit.part("id"))
        return visit.done(LIST, f"“{gone.name}” is revoked: it opens {gone.app} no more.")


def curl_command(secret: str, url: str) -> str:
    """Return what asks for an application's first page, for a POSIX shell.

    The token is read from stdin, so that it stands in no process's arguments.
    """
    return f"curl -H @- {shlex.quote(url)} <<'END'\nAuthorization: Bearer {secret}\nEND"


def row_of(token: DeviceToken, visit: Visit, below: str) -> Row:
    """`below`: the path under which it is revoked: `<below>/<id>/revoke`."""
    return Row(
        name=token.name,
        user=token.user,
        app=token.app,
        made=clock_time(token.created, visit.now),
        expires=clock_time(token.expires, visit.now),
        seen=clock_time(token.last_seen, visit.now) if token.last_seen else None,
        url=f"{below}/{token.id}/revoke",
    )
