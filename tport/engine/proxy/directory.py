"""Which applications a person may open, and what keeps others off: what the Applications page lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tport.engine.access.rbac import is_app_allowed
from tport.engine.access.rules import check_rule
from tport.engine.api.cache import AuthCache
from tport.engine.errors import AccessDenied
from tport.engine.types.app import App
from tport.engine.types.launch import AppTile, RefusedOffer
from tport.engine.types.session import WebSession


class Directory:
    """Lists by the roles, users and offers as they are now."""

    def __init__(self, cache: AuthCache, public_address: Callable[[App], str]) -> None:
        self._cache = cache
        self._public_address = public_address

    async def apps_for(self, session: WebSession) -> Sequence[AppTile]:
        """Return what the roles behind `session` allow now, sorted by name, each once.

        Raises:
            Unavailable: auth has been silent for too long.
        """
        self._cache.check_fresh()
        user = self._cache.users.get(session.user)
        if user is None or user.id != session.user_id:
            return ()
        tiles: dict[str, AppTile] = {}
        for server in self._cache.servers:
            if server.refused or not is_app_allowed(
                self._cache.roles, user.roles, user.traits, server.labels
            ):
                continue
            known = tiles.get(server.app.name)
            tiles[server.app.name] = AppTile(
                name=server.app.name,
                url=f"https://{self._public_address(server.app)}/",
                description=server.app.description,
                labels={**(known.labels if known else {}), **server.labels},
            )
        return [tiles[name] for name in sorted(tiles)]

    async def refused_for(self, session: WebSession) -> Sequence[RefusedOffer]:
        """Return what agents would offer and can't, sorted, for who may list offers; else nothing.

        Raises:
            Unavailable: auth has been silent for too long.
        """
        self._cache.check_fresh()
        user = self._cache.users.get(session.user)
        if user is None or user.id != session.user_id:
            return ()
        try:
            check_rule(self._cache.roles, user.roles, "app_server", "list")
        except AccessDenied:
            return ()
        refused = (
            RefusedOffer(
                name=server.app.name,
                agent=server.hostname or server.host_id,
                reason=server.refused,
            )
            for server in self._cache.servers
            if server.refused
        )
        return sorted(refused, key=lambda offer: (offer.name, offer.agent))
