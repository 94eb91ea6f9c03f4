"""Roles as they are stored now, and the decisions that rest on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from tport.engine.access.rbac import (
    DENIED,
    check_app_access,
    is_app_allowed,
    session_ttl,
)
from tport.engine.access.rules import check_role
from tport.engine.auth.cluster import Cluster
from tport.engine.errors import AccessDenied, InvalidRequest, NotFound
from tport.engine.types.app import AppServer
from tport.engine.types.role import PRESETS, Role
from tport.engine.types.user import User


class Roles:
    """Read from storage at each question; decoded, and so compiled by `rbac`, once a revision."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._decoded: dict[str, tuple[int, Role]] = {}

    async def now(self) -> Mapping[str, Role]:
        decoded: dict[str, tuple[int, Role]] = {}
        for item in await self._cluster.stores.roles.range():
            known = self._decoded.get(item.key)
            if known is None or known[0] != item.revision:
                known = (item.revision, self._cluster.stores.roles.decode(item))
            decoded[item.key] = known
        self._decoded = decoded
        return {role.name: role for _, role in decoded.values()}

    async def put(self, role: Role, by: str) -> None:
        """Store a role, new or changed.

        Raises:
            InvalidRequest: its name or its labels can't be meant.
        """
        check_role(role)
        await self._cluster.record("role.created", user=by, name=role.name)
        await self._cluster.stores.roles.put(role.name, role)

    async def delete(self, name: str, by: str) -> None:
        """Delete a role.

        Raises:
            NotFound: there is none of this name.
            InvalidRequest: it is tport's own, or somebody has it.
        """
        roles = await self.now()
        if name not in roles:
            raise NotFound(
                f"no role is called {name[:64]!r}", hint=f"there are: {', '.join(sorted(roles))}"
            )
        if name in PRESETS:
            raise InvalidRequest(f"role {name!r} is tport's own, and made anew at each start")
        now = self._cluster.clock()  # whoever's provider must vouch for them anew gets roles anew
        users = await self._cluster.stores.users.all()
        holders = [user.name for user in users if name in user.roles and user.counts(now)]
        if holders:
            some = ", ".join(holders[:3]) + (", …" if len(holders) > 3 else "")
            raise InvalidRequest(
                f"role {name!r} is still given to {some}",
                hint="take it from them first: tport users update NAME --roles=…",
            )
        await self._cluster.record("role.deleted", user=by, name=name)
        await self._cluster.stores.roles.delete(name)

    async def allowed(self, user: User, servers: Iterable[AppServer]) -> AppServer:
        """Return the first of an application's servers that this user may use now.

        Raises:
            AccessDenied: none; the same message as for an application that doesn't exist.
        """
        roles = await self.now()
        offered = sorted(servers, key=lambda server: server.host_id)
        if not offered:
            raise AccessDenied(DENIED, reason="no agent offers it")
        for server in offered:
            if is_app_allowed(roles, user.roles, user.traits, server.labels):
                return server
        check_app_access(roles, user.roles, user.traits, offered[0].labels)  # tells which role
        raise AccessDenied(DENIED)

    async def ttl(self, user: User) -> timedelta:
        return session_ttl(await self.now(), user.roles)
