"""Access requests: asked, decided, and the roles they gave taken back in time."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from msgspec.structs import replace

from tport.engine.access.explain import explain, keep_out
from tport.engine.access.locks import lock_on_person
from tport.engine.access.rules import check_rule
from tport.engine.auth.apps.apps import Apps
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.one_by_one import OneByOne
from tport.engine.auth.people.users import Users
from tport.engine.auth.rights.roles import Roles
from tport.engine.auth.stores import SWAP_TRIES, Stored
from tport.engine.errors import (
    AccessDenied,
    CompareFailed,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from tport.engine.proto.host import normalise_host
from tport.engine.types.app import AppServer
from tport.engine.types.explanation import Explanation
from tport.engine.types.request import AccessRequest, check_words
from tport.engine.types.role import Role
from tport.engine.types.user import Grant, User

KEPT: Final = timedelta(days=7)  # after it was made, or decided; then it is forgotten
MAX_PENDING: Final = 10  # of one person
MAX_GRANT: Final = timedelta(days=7)  # longer is what a role without end is for
MIN_GRANT: Final = timedelta(minutes=1)
LOOK: Final = timedelta(minutes=1)  # between two looks at all users, when nothing ends before


class Decider(NamedTuple):
    """Who decides: their name for the log, their user's id ("": no user, the command line), roles."""

    name: str
    user_id: str = ""
    roles: tuple[str, ...] = ()


class Requests:
    def __init__(self, cluster: Cluster, roles: Roles, users: Users, apps: Apps) -> None:
        self._cluster = cluster
        self._store = cluster.stores.requests
        self._roles = roles
        self._users = users
        self._apps = apps
        self._asking = OneByOne()  # by user: from counting what waits to storing what is asked
        self._next: datetime | None = None  # when to look for roles to take back

    # --- Asking ------------------------------------------------------------------------------------

    async def ask(self, user: User, host: str, reason: str) -> AccessRequest:
        """See `AuthAPI.request_access`."""
        asked = AccessRequest(
            id=secrets.token_hex(8),
            user=user.name,
            user_id=user.id,
            host=normalise_host(host),
            reason=check_words(reason),
            created=self._cluster.clock(),
        )
        async with self._asking.turn(user.id):
            pending = [each for each in await self.of(user) if each.state == "pending"]
            for known in pending:
                if known.host == asked.host:
                    return known
            if len(pending) >= MAX_PENDING:
                raise LimitExceeded(
                    f"{MAX_PENDING} requests of yours wait to be decided on already"
                )
            await self._cluster.record(
                "access_request.create",
                id=asked.id,
                user=user.name,
                host=asked.host,
                reason=asked.reason,
            )
            await self._store.create(asked.id, asked, expires=asked.created + KEPT)
        return asked

    async def of(self, user: User) -> tuple[AccessRequest, ...]:
        return tuple(each for each in await self.all() if each.user_id == user.id)

    async def all(self) -> tuple[AccessRequest, ...]:
        return tuple(sorted(await self._store.all(), key=lambda each: each.created, reverse=True))

    # --- Deciding ----------------------------------------------------------------------------------

    async def approve(
        self, id_: str, role: str, ttl: timedelta, answer: str, by: Decider
    ) -> AccessRequest:
        """See `AuthAPI.approve_request`."""
        if not MIN_GRANT <= ttl <= MAX_GRANT:
            raise InvalidRequest("access is given for a minute at least, and 7 days at most")
        roles = await self._roles.now()
        if role not in roles:
            raise NotFound(f"no role is called {role[:64]!r}", hint="tport get roles lists them")
        if by.user_id and roles[role].allow.rules:
            _check_may_give(roles, by, role)
        read = await self._pending(id_, by)
        until = self._cluster.clock() + ttl
        words = check_words(answer)
        decided = replace(
            read.value, state="approved", role=role, until=until, by=by.name, answer=words
        )
        # Before it is written down: what can't be given was not approved.
        _granted((await self._asker(decided)).value, role, until)
        await self._record(decided)
        for _ in range(SWAP_TRIES):
            user = await self._asker(decided)
            granted = _granted(user.value, role, until)
            try:
                await self._cluster.stores.batch(
                    [
                        self._cluster.stores.users.swapping(granted.name, user, granted),
                        self._store.swapping(decided.id, read, decided, expires=self._end()),
                    ]
                )
            except CompareFailed:
                await self._pending(id_, by)  # raises when it is this that changed
                continue
            return decided
        raise Unavailable(f"user {decided.user!r} is being changed by many at once")

    async def _asker(self, asked: AccessRequest) -> Stored[User]:
        try:
            user = await self._cluster.stores.users.read(asked.user)
        except NotFound:
            user = None
        if user is None or user.value.id != asked.user_id:
            raise NotFound(f"{asked.user} is no user any more")
        return user

    async def deny(self, id_: str, answer: str, by: Decider) -> AccessRequest:
        """See `AuthAPI.deny_request`."""
        read = await self._pending(id_, by)
        decided = replace(read.value, state="denied", by=by.name, answer=check_words(answer))
        await self._record(decided)
        try:
            await self._store.swap(decided.id, read, decided, expires=self._end())
        except (CompareFailed, NotFound):
            raise CompareFailed("somebody else decided on it at this moment") from None
        return decided

    async def _pending(self, id_: str, by: Decider) -> Stored[AccessRequest]:
        try:
            read = await self._store.read(id_[:64])
        except NotFound:
            raise NotFound(
                f"there is no access request {id_[:32]!r}", hint="list them: tport requests ls"
            ) from None
        if by.user_id and read.value.user_id == by.user_id:
            raise AccessDenied("nobody decides on a request of their own")
        if read.value.state != "pending":
            raise CompareFailed(f"it was {read.value.state} by {read.value.by} already")
        return read

    def _end(self) -> datetime:
        return self._cluster.clock() + KEPT

    async def tick(self) -> None:
        """Take back the roles whose time is up; to be called each second."""
        now = self._cluster.clock()
        # Before `_next - LOOK` it was by a clock that was ahead then, and has been put right.
        if self._next is not None and self._next - LOOK <= now < self._next:
            return
        users = await self._cluster.stores.users.all()
        for user in users:
            if user.soonest is not None and user.soonest <= now:
                await self._take_back(user.name, now)
        ends = [user.soonest for user in users if user.soonest is not None and user.soonest > now]
        self._next = min([*ends, now + LOOK])

    async def _take_back(self, name: str, now: datetime) -> None:
        for _ in range(SWAP_TRIES):
            try:
                read = await self._cluster.stores.users.read(name)
            except NotFound:
                return  # deleted since it was listed
            user = read.value
            over = {grant.role for grant in user.grants if grant.until <= now}
            if not over:
                return
            fresh = replace(user.at(now), epoch=user.epoch + 1)
            try:
                await self._cluster.stores.users.swap(name, read, fresh)
            except CompareFailed:
                continue
            await self._cluster.emit("access_request.expire", user=name, roles=sorted(over))
            return

    async def _record(self, decided: AccessRequest) -> None:
        await self._cluster.record(
            "access_request.review",
            id=decided.id,
            user=decided.by,
            requester=decided.user,
            host=decided.host,
            state=decided.state,
            role=decided.role,
            until=decided.until or "",
            answer=decided.answer,
        )

    # --- Why -----------------------------------------------------------------------------------------

    async def explain(self, user: str, app: str) -> Explanation:
        """See `AuthAPI.explain_access`."""
        known = await self._users.named(user)
        servers = await self._apps.servers_of(app)
        if not servers:
            raise NotFound(
                f"no agent offers {app[:63]!r}", hint="tport apps ls shows what is offered"
            )
        return await self._explained(known, app, servers)

    async def explain_own(self, user: User, host: str) -> Explanation | None:
        """See `AuthAPI.explain_own`."""
        try:
            check_rule(await self._roles.now(), user.roles, "app_server", "read")
        except AccessDenied:
            return None
        return await self._explained_at(user, host)

    async def explain_request(self, id_: str) -> Explanation | None:
        """See `AuthAPI.explain_request`."""
        try:
            asked = await self._store.get(id_[:64])
        except NotFound:
            raise NotFound("there is no such request any more") from None
        return await self._explained_at((await self._asker(asked)).value, asked.host)

    async def _explained_at(self, user: User, host: str) -> Explanation | None:
        try:
            offered = await self._apps.at_host(normalise_host(host))
        except (AccessDenied, NotFound, InvalidRequest):
            return None
        servers = await self._apps.servers_of(offered.name)
        return await self._explained(user, offered.name, servers) if servers else None

    async def _explained(self, user: User, app: str, servers: tuple[AppServer, ...]) -> Explanation:
        """Explain the decision on the first agent's labels that allow it, else on the first's."""
        now = self._cluster.clock()
        user = user.at(now)
        roles = await self._roles.now()
        found = [
            explain(
                user=user.name,
                app=app,
                roles=roles,
                names=user.roles,
                traits=user.traits,
                labels=server.labels,
            )
            for server in sorted(servers, key=lambda server: server.host_id)
        ]
        by_roles = next((each for each in found if each.allowed), found[0])
        locks = await self._cluster.stores.locks.all()
        lock = lock_on_person(locks, user.name, user.roles, now)
        return by_roles if lock is None else keep_out(by_roles, lock)


def _check_may_give(roles: Mapping[str, Role], by: Decider, role: str) -> None:
    """Let roles that administer be given by those alone who may change users anyway.

    Whoever only decides on access to applications could else make an administrator.

    Raises:
        AccessDenied: with what to do.
    """
    try:
        check_rule(roles, by.roles, "user", "update")
    except AccessDenied as denied:
        raise AccessDenied(
            f"the role {role!r} administers the cluster; only who may change users gives it",
            reason=denied.reason,
        ) from None


def _granted(user: User, role: str, until: datetime) -> User:
    """Return the user with a role for a time; a longer time replaces a shorter one.

    Raises:
        InvalidRequest: they have it without end.
    """
    given = {grant.role: grant for grant in user.grants}
    if role in user.roles and role not in given:
        raise InvalidRequest(
            f"{user.name} has the role {role!r} already",
            hint="look what is missing: tport why USER APP",
        )
    given[role] = Grant(role=role, until=max(until, given[role].until) if role in given else until)
    return replace(
        user,
        roles=tuple(dict.fromkeys((*user.roles, role))),
        grants=tuple(given.values()),
        epoch=user.epoch + 1,
    )
