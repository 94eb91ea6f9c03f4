"""An application's icon, from the proxy's own host: to who may open the application, as a picture only.

The bytes are the application's, so that nothing is left to the browser's guess: the type follows
from them, and should they ever be shown as a page, that page may do nothing.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tport.engine.api.catalogue import OwnApp
from tport.engine.errors import NotFound, NotSignedIn
from tport.engine.web.respond import answer
from tport.engine.web.site import Site

PATH: Final = "/web/app/{name}/icon"
MAX_AGE: Final = 24 * 3600  # s; the address in a page names the very picture


class IconFiles:
    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[Route]:
        return [Route(PATH, self.icon, methods=["GET"])]

    async def icon(self, request: Request) -> Response:
        """GET /web/app/{name}/icon: who isn't signed in is told what others are told: there is none."""
        if await self._site.session(request) is None:
            raise NotFound("no such icon")
        name = str(request.path_params["name"])
        try:
            icon = await self._site.acting(request).own_app_icon(app=name)
        except NotSignedIn:
            raise NotFound("no such icon") from None
        tag = f'"{icon.tag}"'
        headers = (
            ("content-security-policy", "default-src 'none'; sandbox"),
            ("cache-control", f"private, max-age={MAX_AGE}"),
            ("etag", tag),
        )
        known = request.headers.get("if-none-match", "")
        if tag in (each.strip().removeprefix("W/") for each in known.split(",")):
            return answer(b"", icon.media_type, 304, headers=headers)
        return answer(icon.body, icon.media_type, headers=headers)


def icon_path(app: str) -> str:
    """Return the path of an application's icon, whether or not it has one."""
    return f"/web/app/{quote(app, safe='')}/icon"


def icon_url(app: OwnApp) -> str:
    """Return the address of the icon that is known now, which changes with it; "": none is."""
    return f"{icon_path(app.name)}?v={app.icon}" if app.icon else ""
