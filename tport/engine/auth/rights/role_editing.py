"""Roles edited by people: nothing is overwritten unseen, and what a change opens is told before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

from tport.engine.access.rbac import is_app_allowed
from tport.engine.access.rules import check_role
from tport.engine.api.roles import Opens, RoleInfo, RolePreview
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.conflicts import Changes, check_revision
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.stores import SWAP_TRIES, Stored
from tport.engine.errors import AlreadyExists, CompareFailed, Unavailable
from tport.engine.types.app import AppServer
from tport.engine.types.role import PRESETS, Role

MAX_USERS: Final = 500  # that a preview tells of
_CHANGES: Final[Changes] = {"role.created": ("name", "user"), "role.deleted": ("name", "user")}


class RoleEditing:
    def __init__(self, cluster: Cluster, roles: Roles, presence: Presence) -> None:
        self._cluster = cluster
        self._store = cluster.stores.roles
        self._roles = roles
        self._presence = presence

    async def all(self) -> tuple[RoleInfo, ...]:
        holders: dict[str, list[str]] = defaultdict(list)
        for user in await self._cluster.stores.users.all():
            for name in user.roles:
                holders[name].append(user.name)
        found = []
        for item in await self._store.range():
            role = self._store.decode(item)
            found.append(
                RoleInfo(
                    role=role,
                    revision=item.revision,
                    users=tuple(sorted(holders[role.name])),
                    is_preset=role.name in PRESETS,
                )
            )
        return tuple(sorted(found, key=lambda info: info.role.name))

    async def create(self, role: Role, by: str) -> None:
        check_role(role)
        taken = AlreadyExists(f"role {role.name!r} exists already")
        if await self._store.find(role.name) is not None:
            raise taken
        await self._cluster.record("role.created", user=by, name=role.name)
        try:
            await self._store.create(role.name, role)
        except AlreadyExists:
            raise taken from None

    async def update(self, role: Role, revision: int, by: str) -> None:
        check_role(role)
        await self._check_seen(role.name, revision)
        await self._cluster.record("role.created", user=by, name=role.name)
        for _ in range(SWAP_TRIES):
            read = await self._check_seen(role.name, revision)
            try:
                await self._store.swap(role.name, read, role)
            except CompareFailed:
                continue
            return
        raise Unavailable(f"role {role.name!r} is being changed by many at once")

    async def _check_seen(self, name: str, revision: int) -> Stored[Role]:
        read = await self._store.read(name)
        await check_revision(
            self._cluster,
            wanted=revision,
            found=read.revision,
            what="role",
            name=name,
            changes=_CHANGES,
        )
        return read

    async def preview(self, role: Role) -> RolePreview:
        check_role(role)
        now = await self._roles.now()
        then = {**now, role.name: role}
        servers = [server for server in self._presence.servers if not server.refused]
        users = sorted(await self._cluster.stores.users.all(), key=lambda user: user.name)
        return RolePreview(
            alone=_opened(then, (role.name,), {}, servers),
            users=tuple(
                Opens(
                    user=user.name,
                    now=_opened(now, user.roles, user.traits, servers),
                    then=_opened(then, user.roles, user.traits, servers),
                )
                for user in users[:MAX_USERS]
            ),
        )


def _opened(
    roles: Mapping[str, Role],
    names: Sequence[str],
    traits: Mapping[str, Sequence[str]],
    servers: Sequence[AppServer],
) -> tuple[str, ...]:
    found = {s.app.name for s in servers if is_app_allowed(roles, names, traits, s.labels)}
    return tuple(sorted(found))
