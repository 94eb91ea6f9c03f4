"""Locks: made, lifted, and asked at every sign-in and by every call of a machine.

Storage forgets none by itself: a clock that is ahead for seconds would lift it for ever. One that is over is put
aside, so that followers hear it is gone, and comes back when a clock that is put right says that it is in force.
"""

from __future__ import annotations

import dataclasses
import math
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import trio
from msgspec.structs import replace

from tport.engine.access.locks import check_host, check_person, locked
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.stores import Stored
from tport.engine.defaults import LATEST
from tport.engine.errors import AlreadyExists, CompareFailed, InvalidRequest, Locked, NotFound
from tport.engine.storage.backend import BATCH_LIMIT, CompareAndSwap, Delete, Item, Operation
from tport.engine.types.lock import (
    COPIED,
    Lock,
    LockTarget,
    check_message,
    check_target,
)
from tport.engine.types.user import User, canonical_user_name

MAX_TTL: Final = timedelta(days=3650)
MAX_LOCKS: Final = 1000  # each is looked at on each request, in proxies and agents too; and so many that are over are kept
EVERY: Final = 5.0  # s between two looks for what is over, as between sweeps
AT_ONCE: Final = (
    BATCH_LIMIT // 2
)  # put aside by one look, as one write: others wait for it; more at the next tick
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Locks:
    def __init__(self, cluster: Cluster, presence: Presence) -> None:
        self._cluster = cluster
        self._store = cluster.stores.locks
        self._over = cluster.stores.locks_over
        self._presence = presence
        self._next = -math.inf

    async def begin(self) -> None:
        """Let storage forget none of those that 0.1 made, and bring back what is in force.

        Raises:
            Unavailable: storage can't answer.
        """
        for item in await self._store.range():
            if item.expires is not None:
                with suppress(CompareFailed):  # it ended this very moment
                    await self._cluster.stores.backend.compare_and_swap(
                        dataclasses.replace(item, expires=None)
                    )
        await self.bring_back(self._cluster.clock())

    async def tick(self) -> None:
        """Put aside what is over; quick, unless EVERY has passed.

        Raises:
            Unavailable: storage can't answer.
        """
        if trio.current_time() >= self._next:
            over = await self._ended()
            self._next = trio.current_time() + (0.0 if len(over) > AT_ONCE else EVERY)
            await self._put_aside(over[:AT_ONCE])

    async def bring_back(self, now: datetime) -> None:
        """Let the locks be again that were put aside, but are in force at `now`, and tell of the others.

        Raises:
            Unavailable: storage can't answer.
        """
        for at, kept in await self._kept():
            if kept.value.is_in_force(now):
                with suppress(
                    AlreadyExists, CompareFailed, NotFound
                ):  # changed meanwhile: the next time
                    await self._bring_back(kept.value, self._over.deleting(at, kept))
        await self._tell_again(now)

    async def _bring_back(self, lock: Lock, gone: Operation) -> None:
        """Let a lock be again; under a fresh name when its own is now that of one which does less."""
        try:
            other = await self._store.read(lock.name)
        except NotFound:
            again = self._store.creating(lock.name, lock)
        else:
            fresh = replace(lock, name=str(uuid.uuid4()))
            again = (
                self._store.checking(lock.name, other)
                if _covers(other.value, lock)
                else self._store.creating(fresh.name, fresh)
            )
        await self._cluster.stores.batch([again, gone])

    async def _tell_again(self, now: datetime) -> None:
        """Write locks anew that followers may hold to be over, by a clock that was ahead."""
        again = [
            CompareAndSwap(item)
            for item in await self._store.range()
            if (ends := self._store.decode(item).expires) is not None
            and now < ends <= self._cluster.clock.highest
        ]
        await self._cluster.stores.each(again)

    async def create(self, target: LockTarget, message: str, ttl: float, by: str) -> Lock:
        """See `LockAPI.create_lock`."""
        if not 0 <= ttl <= MAX_TTL.total_seconds():
            raise InvalidRequest(
                f"a lock lasts at most {MAX_TTL.days} days; 0: until it is removed"
            )
        expires = self._cluster.clock() + timedelta(seconds=ttl) if ttl else None
        lock = await self.prepared(
            Lock(name="", target=target, message=message, expires=expires), by
        )
        await self.record(lock, by)
        await self._store.create(lock.name, lock)
        return lock

    async def prepared(self, lock: Lock, by: str) -> Lock:
        """Return a lock as it may be stored: checked, named, and said whose it is.

        Raises:
            NotFound: there is no such target.
            InvalidRequest: it can't be meant, or there are too many.
        """
        now = self._cluster.clock()
        if not lock.is_in_force(now):
            raise InvalidRequest("the lock would be over already")
        if lock.expires is not None and lock.expires > LATEST:
            raise InvalidRequest("the end of the lock is too far away")
        if not _NAME.fullmatch(name := lock.name or str(uuid.uuid4())):
            raise InvalidRequest(f"{name[:80]!r} is no name for a lock (letters, digits, _ . -)")
        over = await self._ended()
        await self._put_aside([each for each in over if each[1].name == name])  # its name is free
        if len(await self.all()) >= MAX_LOCKS:
            raise InvalidRequest(f"there are {MAX_LOCKS} locks already; remove some first")
        return replace(
            lock,
            name=name,
            target=await self._existing(check_target(lock.target)),
            message=check_message(lock.message),
            created=now,
            created_by=by,
        )

    async def record(self, lock: Lock, by: str) -> None:
        """Write down that a lock is about to be stored."""
        await self._cluster.record(
            "lock.created",
            user=by,
            name=lock.name,
            target=str(lock.target),
            message=lock.message,
            expires=lock.expires or "",
        )

    async def lock_copied(self, host_id: str, hostname: str, life: timedelta) -> Locked:
        """Lock an agent that two machines have been, and return the refusal for both."""
        now = self._cluster.clock()
        lock = Lock(
            name=f"{COPIED}{host_id}",
            target=LockTarget(server_id=host_id),
            message=f"two machines have been agent {hostname or host_id}: its data directory was"
            " copied, or an old one restored. Delete agent/ in it, and start it with a new token",
            expires=now + life,
            created=now,
            created_by="tport",
        )
        await self.record(lock, lock.created_by)
        await self._store.put(lock.name, lock)
        return locked("this agent is locked", lock)

    async def all(self) -> tuple[Lock, ...]:
        """Return the locks in force, the newest first."""
        now = self._cluster.clock()
        live = [lock for lock in await self._store.all() if lock.is_in_force(now)]
        return tuple(sorted(live, key=lambda lock: lock.created or now, reverse=True))

    async def delete(self, name: str, by: str) -> None:
        lock = await self._store.find(name) if _NAME.fullmatch(name) else None
        if lock is None or not lock.is_in_force(self._cluster.clock()):
            raise NotFound(
                f"no lock is called {name[:128]!r}", hint="list them with: tport get locks"
            )
        await self._cluster.record("lock.deleted", user=by, name=lock.name, target=str(lock.target))
        await self._store.delete(name)
        for at, kept in await self._kept():
            if _which(kept.value) == _which(lock):  # it is not to come back
                with suppress(NotFound):
                    await self._over.delete(at)

    async def check_person(self, user: User) -> None:
        """Return when no lock keeps this user out now, else raise Locked."""
        check_person(await self._store.all(), user.name, user.roles, self._cluster.clock())

    async def check_host(self, host_id: str) -> None:
        """Return when no lock keeps this machine out now, else raise Locked."""
        check_host(await self._store.all(), host_id, self._cluster.clock())

    async def _ended(self) -> list[tuple[Item, Lock]]:
        """Return what is over, also by a wall that was set back and isn't followed yet."""
        now = min(self._cluster.clock(), self._cluster.clock.wall())
        stored = [(item, self._store.decode(item)) for item in await self._store.range()]
        return [(item, lock) for item, lock in stored if not lock.is_in_force(now)]

    async def _put_aside(self, over: Sequence[tuple[Item, Lock]]) -> None:
        """Put these aside, AT_ONCE at most."""
        if not over:
            return
        stores = self._cluster.stores
        kept = {_which(each.value): (at, each) for at, each in await self._kept()}
        moves = [
            (Delete(item.key, item.revision), self._keeping(lock, kept.get(_which(lock))))
            for item, lock in over
        ]
        try:
            await stores.batch([operation for move in moves for operation in move])
        except (CompareFailed, NotFound):  # one was lifted, or made anew
            for move in moves:
                with suppress(CompareFailed, NotFound):
                    await stores.batch(move)
        found = await self._kept()
        found.sort(key=lambda each: each[1].value.expires or LATEST)
        await stores.each([self._over.deleting(at, read) for at, read in found[:-MAX_LOCKS]])

    async def _kept(self) -> list[tuple[str, Stored[Lock]]]:
        """Return what has been put aside, and where each is."""
        return [
            (
                item.key.removeprefix(self._over.prefix),
                Stored(self._over.decode(item), item.revision, None),
            )
            for item in await self._over.range()
        ]

    def _keeping(self, lock: Lock, before: tuple[str, Stored[Lock]] | None) -> Operation:
        """Return how to put a lock aside; `before`: where one of this name on the same target is.

        One of this name on another target stays beside it.
        """
        if before is None:
            return self._over.creating(f"{lock.name}/{uuid.uuid4()}", lock)
        at, read = before
        return self._over.swapping(at, read, read.value if _covers(read.value, lock) else lock)

    async def _existing(self, target: LockTarget) -> LockTarget:
        """Return the target as it is stored: a lock on a slip of the pen would keep nobody out.

        Raises:
            NotFound: there is nothing of this name.
        """
        stores = self._cluster.stores
        if target.user:
            name = canonical_user_name(target.user)
            if await stores.users.find(name) is None:
                raise NotFound(f"no user is called {name!r}", hint="list them with: tport users ls")
            return LockTarget(user=name)
        if target.role:
            if target.role not in {role.name for role in await stores.roles.all()}:
                raise NotFound(
                    f"no role is called {target.role[:64]!r}",
                    hint="list them with: tport get roles",
                )
            return target
        return LockTarget(server_id=self._agent(target.server_id))

    def _agent(self, name: str) -> str:
        """Return the id of the agent that has this id, or alone this host name."""
        if name in self._presence.proxies:
            raise InvalidRequest("this is a proxy: only agents can be locked")
        agents = self._presence.agents
        if any(agent.host_id == name for agent in agents):
            return name
        found = [agent.host_id for agent in agents if agent.hostname == name]
        if len(found) > 1:
            raise InvalidRequest(
                f"{len(found)} agents are called {name[:64]!r}", hint=f"name one by its id: {found}"
            )
        if found:
            return found[0]
        try:
            return str(uuid.UUID(name))  # it may be away now
        except ValueError:
            raise NotFound(
                f"no agent is called {name[:64]!r}", hint="list them with: tport status"
            ) from None


def _which(lock: Lock) -> tuple[str, LockTarget]:
    """Return what makes two locks the same one, made anew."""
    return lock.name, lock.target


def _covers(one: Lock, other: Lock) -> bool:
    """Tell whether `one` keeps out whom `other` does, for as long or longer."""
    return one.target == other.target and (
        one.expires is None or (other.expires is not None and other.expires <= one.expires)
    )
