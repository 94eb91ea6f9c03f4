"""Roles edited by people: nothing is overwritten unseen, and what a change opens is told before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Final, TypeAlias

import trio

from tport.engine.access.rbac import is_app_allowed
from tport.engine.access.rules import check_role
from tport.engine.api.roles import Opens, RoleInfo, RolePreview
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.conflicts import Changes, check_revision
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.stores import SWAP_TRIES, Stored
from tport.engine.errors import AlreadyExists, CompareFailed, LimitExceeded, Unavailable
from tport.engine.types.app import AppServer
from tport.engine.types.role import PRESETS, Role

MAX_USERS: Final = 500  # that a preview tells of
TURN_WAIT: Final = 5.0  # s that a preview waits for others; callers give up after 10
_CHANGES: Final[Changes] = {"role.created": ("name", "user"), "role.deleted": ("name", "user")}

# Labels, each once, and the applications offered with them: equal labels are judged alike.
_Offered: TypeAlias = Sequence[tuple[Mapping[str, str], set[str]]]


class RoleEditing:
    def __init__(self, cluster: Cluster, roles: Roles, presence: Presence) -> None:
        self._cluster = cluster
        self._store = cluster.stores.roles
        self._roles = roles
        self._presence = presence
        self._previewing = trio.Lock()  # one at a time: each takes a core for up to seconds

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
        """See `AuthAPI.preview_role`.

        Raises:
            LimitExceeded: others are at it for TURN_WAIT already.
        """
        check_role(role)
        with trio.move_on_after(TURN_WAIT) as waiting:
            async with self._previewing:
                waiting.deadline = inf
                return await self._previewed(role)
        raise LimitExceeded(
            "others are being told what a role opens; try again in a few seconds",
            retry_after=TURN_WAIT,
        )

    async def _previewed(self, role: Role) -> RolePreview:
        """Others have their turn after each user: hundreds of users and offers take seconds."""
        now = await self._roles.now()
        then = {**now, role.name: role}
        offered = _by_labels(server for server in self._presence.servers if not server.refused)
        users = sorted(await self._cluster.stores.users.all(), key=lambda user: user.name)
        told = []
        for user in users[:MAX_USERS]:
            opened = will_open = _opened(now, user.roles, user.traits, offered)
            if role.name in user.roles:
                will_open = _opened(then, user.roles, user.traits, offered)
            told.append(Opens(user=user.name, now=opened, then=will_open))
            await trio.lowlevel.checkpoint()
        return RolePreview(alone=_opened(then, (role.name,), {}, offered), users=tuple(told))


def _by_labels(servers: Iterable[AppServer]) -> _Offered:
    found: dict[frozenset[tuple[str, str]], tuple[Mapping[str, str], set[str]]] = {}
    for server in servers:
        labels = server.labels
        found.setdefault(frozenset(labels.items()), (labels, set()))[1].add(server.app.name)
    return tuple(found.values())


def _opened(
    roles: Mapping[str, Role],
    names: Sequence[str],
    traits: Mapping[str, Sequence[str]],
    offered: _Offered,
) -> tuple[str, ...]:
    found: set[str] = set()
    for labels, apps in offered:
        if is_app_allowed(roles, names, traits, labels):
            found |= apps
    return tuple(sorted(found))
