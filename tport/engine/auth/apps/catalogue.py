"""Every application with how it stands: for pages. What counts is decided in `apps`."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime

from tport.engine.access.rbac import is_app_allowed
from tport.engine.api.catalogue import AppInfo, OwnApp
from tport.engine.auth.apps.apps import Apps
from tport.engine.auth.apps.icons import Icons, no_icon
from tport.engine.auth.apps.shelf import Shelves
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.machines.certificates import Certificates
from tport.engine.auth.machines.health import Healths, answers
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.stores import Definition
from tport.engine.types.app import App, AppServer
from tport.engine.types.user import User


class Catalogue:
    def __init__(
        self,
        cluster: Cluster,
        presence: Presence,
        healths: Healths,
        apps: Apps,
        roles: Roles,
        shelves: Shelves,
        icons: Icons,
        certificates: Certificates,
    ) -> None:
        self._certificates = certificates
        self._cluster = cluster
        self._presence = presence
        self._healths = healths
        self._apps = apps
        self._roles = roles
        self._shelves = shelves
        self._icons = icons

    async def all(self) -> tuple[AppInfo, ...]:
        since = {agent.host_id: agent.since for agent in self._presence.agents}
        counting: dict[str, list[AppServer]] = defaultdict(list)
        refused: dict[str, list[AppServer]] = defaultdict(list)
        for server in self._healths.joined(self._presence.servers):
            (refused if server.refused else counting)[server.app.name].append(server)
        gone = {each.app.name: each for each in await self._cluster.stores.apps.all()}
        lacking, found = self._certificates.lacking(), []
        for name in sorted({*counting, *refused, *gone}):
            servers = tuple(counting.get(name, ()))
            last = servers or self._apps.last_offers(name)
            app = last[0].app if last else gone[name].app if name in gone else None
            address = self._address(app or App(name=name, uri=""))
            found.append(
                AppInfo(
                    name=name,
                    address=address,
                    lacks_certificate=address.partition(":")[0] in lacking,
                    up=bool(servers),
                    answers=answers(servers),
                    since=_since(servers, since) if servers else _gone(gone.get(name)),
                    servers=last,
                    refused=tuple(refused.get(name, ())),
                )
            )
        return tuple(found)

    async def of(self, user: User) -> tuple[OwnApp, ...]:
        """Return what this user may open, and could: of those away, as they were offered last."""
        roles, shelf = await self._roles.now(), await self._shelves.of(user)
        found = []
        for info in await self.all():
            allowed = [
                server
                for server in info.servers
                if is_app_allowed(roles, user.roles, user.traits, server.labels)
            ]
            if not allowed:
                continue
            found.append(
                OwnApp(
                    name=info.name,
                    address=info.address,
                    up=info.up,
                    answers=info.answers,
                    since=info.since,
                    lacks_certificate=info.lacks_certificate,
                    description=next((s.app.description for s in allowed if s.app.description), ""),
                    labels={k: v for server in allowed for k, v in server.labels.items()},
                    favourite=info.name in shelf.favourites,
                    opened=shelf.opened.get(info.name),
                    icon=self._icons.tag(info.name, answers=info.answers),
                )
            )
        return tuple(found)

    async def check_of(self, user: User, app: str) -> str:
        """Return the application's name if this user may open it, or could if it were there.

        Raises:
            NotFound: they may not, or it isn't.
        """
        roles = await self._roles.now()
        servers = [s for s in self._presence.servers if s.app.name == app and not s.refused]
        for server in servers or self._apps.last_offers(app):
            if is_app_allowed(roles, user.roles, user.traits, server.labels):
                return app
        raise no_icon()

    def _address(self, app: App) -> str:
        default = self._apps.default_host(app.name)
        if not app.public_addr:
            return default
        _, colon, port = default.partition(":")
        return f"{app.public_addr}{colon}{port}"


def _since(servers: tuple[AppServer, ...], connected: dict[str, datetime]) -> datetime | None:
    """Return since when an offered application answers, or doesn't, or is offered."""
    known = [(s.health, connected.get(s.host_id)) for s in servers if s.health is not None]
    match answers(servers):
        case True:  # through an agent, which was there only from then on
            return min(max(h.since, at or h.since) for h, at in known if h.up)
        case False:  # the last of its agents lost it then
            return max(h.since for h, _ in known)
    return min((connected[s.host_id] for s in servers if s.host_id in connected), default=None)


def _gone(definition: Definition | None) -> datetime | None:
    return definition.gone if definition is not None else None
