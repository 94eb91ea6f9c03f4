"""What proxies and agents follow: one reader of the Backend, a bounded queue for each of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from typing import Final, Literal, NoReturn

import trio

from tport.engine.api.changes import (
    AcmeChanged,
    AppDefined,
    AppsDown,
    AppServersChanged,
    AppUndefined,
    AuthoritiesChanged,
    Change,
    Current,
    EpochChanged,
    IconAsked,
    LockChanged,
    LockDeleted,
    ProbeAsked,
    ProxiesChanged,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
    UserChanged,
    UserDeleted,
)
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.machines.health import Healths
from tport.engine.auth.machines.presence import Presence
from tport.engine.defaults import CLOCK_SKEW
from tport.engine.errors import Locked, Unavailable
from tport.engine.storage.backend import Change as Written
from tport.engine.storage.backend import Item, Put, WatchLost
from tport.engine.types.app import AppServer
from tport.engine.types.lock import Lock
from tport.engine.types.role import Role
from tport.engine.types.user import User, user_key

QUEUE: Final = 1024  # changes a follower may lag behind; one more ends its watch
CURRENT_INTERVAL: Final = 1.0  # s between two assurances that all has been told
WATCHED_DEADLINE: Final = 5.0  # s that a follower waits for storage to be watched
TURNS: Final = 16  # in that time: who came in the same turn is assured in the same
_LOST = "the watch was lost"

Follower = Literal["agent", "proxy"]


# What is in a follower's queue. None: look at who is present.
_Told = Written | ProbeAsked | IconAsked | None


class _Feed:
    """One follower's queue.

    `name` is what its certificate calls it, `apps` the applications that it may offer; None: any.
    `turn`: when it came, as a turn; `is_owed`: it is to be assured that all has been told.
    """

    def __init__(self, name: str, apps: tuple[str, ...] | None) -> None:
        self.name = name
        self.apps = apps
        self.turn = 0
        self.is_owed = False
        self.queued = 0
        self._send, self.changes = trio.open_memory_channel[_Told](QUEUE)

    def tell(self, change: _Told) -> None:
        """Queue a change; when there is no room, end the watch: nobody waits for a slow follower."""
        try:
            self._send.send_nowait(change)
            self.queued += 1
        except trio.WouldBlock:
            self.end()
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # over already

    def assure(self) -> None:
        """Have it told that all has been told, once that is so."""
        self.is_owed = True
        if not self.queued:
            self.tell(None)

    def end(self) -> None:
        self._send.close()


class _Turns:
    """When followers are assured that all has been told: each of them once in a CURRENT_INTERVAL.

    A timer for each would wake the process for each. Here only the turns of those who are there do,
    and no turn has more than came at the same time.
    """

    def __init__(self) -> None:
        self._turns: list[dict[_Feed, None]] = [{} for _ in range(TURNS)]
        self._at = 0  # the turn that was last, counted from the clock's beginning

    def join(self, feed: _Feed) -> None:
        feed.turn = _turn_now()
        self._turns[feed.turn % TURNS][feed] = None

    def leave(self, feed: _Feed) -> None:
        self._turns[feed.turn % TURNS].pop(feed, None)

    def due(self) -> float:
        """Return trio's time of the next turn that somebody has."""
        after = range(self._at + 1, self._at + TURNS)
        turn = next((turn for turn in after if self._turns[turn % TURNS]), self._at + TURNS)
        return turn * CURRENT_INTERVAL / TURNS

    def assure(self) -> None:
        """Assure those whose turn has come; who missed several, because we did not run, once."""
        now = _turn_now()
        for turn in range(max(self._at, now - TURNS) + 1, now + 1):
            for feed in self._turns[turn % TURNS]:
                if feed.turn < turn:
                    feed.assure()
        self._at = now


def _turn_now() -> int:
    return int(trio.current_time() * TURNS / CURRENT_INTERVAL)


class Watches:
    def __init__(self, cluster: Cluster, presence: Presence, healths: Healths) -> None:
        self._cluster = cluster
        self._presence = presence
        self._healths = healths
        self._feeds: dict[_Feed, None] = {}  # the newest last
        self._turns = _Turns()
        self._watched = trio.Event()  # set while storage is watched; another one after that
        presence.on_change.append(lambda: self._tell(None))
        healths.on_change.append(lambda: self._tell(None))

    async def keep(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Pass on what the Backend says until cancelled."""
        started = False
        while True:
            async with self._cluster.stores.backend.watch("/") as changes:
                self._watched.set()
                if not started:
                    task_status.started()
                    started = True
                try:
                    while True:
                        with trio.move_on_at(self._turns.due()):
                            self._tell(await changes.receive())
                            continue
                        self._turns.assure()
                except WatchLost:
                    self._watched = trio.Event()
                    for feed in self._feeds:
                        feed.end()
            await trio.sleep(CURRENT_INTERVAL)  # no tight loop when storage is closing

    def ask(self, agent: str, question: ProbeAsked | IconAsked) -> bool:
        """Put a question to one agent. False: it doesn't follow just now."""
        feeds = [feed for feed in self._feeds if feed.name == agent]
        for feed in feeds[-1:]:
            feed.tell(question)
        return bool(feeds)

    @asynccontextmanager
    async def watch(
        self, follower: Follower, name: str = "", *, apps: tuple[str, ...] | None = None
    ) -> AsyncIterator[AsyncIterator[Change]]:
        """Open the changes for one follower.

        Args:
            name: by which it is asked things.
            apps: an agent is told of these applications only; None: of all.

        Raises:
            Unavailable: storage isn't watched, nor was it within WATCHED_DEADLINE.
        """
        await self._wait_watched()  # what changes before that would be told to nobody
        feed = _Feed(name, apps)
        self._feeds[feed] = None  # before reading: what changes meanwhile is in the queue
        self._turns.join(feed)
        try:
            async with aclosing(self._changes(follower, feed)) as changes:
                yield changes
        finally:
            self._feeds.pop(feed, None)
            self._turns.leave(feed)
            feed.end()
            feed.changes.close()

    async def _wait_watched(self) -> None:
        with trio.move_on_after(WATCHED_DEADLINE):
            while not (watched := self._watched).is_set():
                await watched.wait()  # it may be lost again before we run
        if not self._watched.is_set():
            raise Unavailable("auth doesn't watch its storage", hint="try again in a few seconds")

    async def _changes(self, follower: Follower, feed: _Feed) -> AsyncGenerator[Change, None]:
        view = _View(follower, feed, self._cluster)
        for item in await self._cluster.stores.app_resources.range():
            for change in view.app(Put(item)):
                yield change
        for item in await self._cluster.stores.locks.range():
            for change in view.lock(Put(item)):
                yield change
        for item in await self._cluster.stores.roles.range():
            for change in view.role(Put(item)):
                yield change
        for item in await self._cluster.stores.users.range():
            for change in view.user(Put(item)):
                yield change
        for item in await self._cluster.stores.acme.range():
            for change in view.acme(Put(item)):
                yield change
        yield AuthoritiesChanged(authorities=self._cluster.authorities)
        for change in view.present(self._presence, self._healths):
            yield change
        yield Current()
        async for told in feed.changes:
            feed.queued -= 1
            if isinstance(told, ProbeAsked | IconAsked):
                yield told
            else:
                for change in (
                    view.present(self._presence, self._healths)
                    if told is None
                    else view.apply(told)
                ):
                    yield change
            if feed.is_owed and not feed.queued:
                feed.is_owed = False
                yield Current()
        raise Unavailable(_LOST, hint="watch again")

    def _tell(self, change: _Told) -> None:
        for feed in self._feeds:
            feed.tell(change)


class _View:
    """What one follower has been told, so that an old change says nothing new."""

    def __init__(self, follower: Follower, feed: _Feed, cluster: Cluster) -> None:
        self._is_proxy = follower == "proxy"
        self._name = feed.name
        self._may_offer = feed.apps
        self._apps: dict[str, int] = {}  # name → revision
        self._clock = cluster.clock
        self._stores = cluster.stores
        self._locks: dict[str, tuple[int, Lock]] = {}  # name → revision, lock
        self._roles: dict[str, int] = {}  # name → revision
        self._users: dict[str, tuple[int, User]] = {}
        self._acme: dict[str, int] = {}  # key → revision
        self._servers: tuple[AppServer, ...] | None = None
        self._proxies: tuple[str, ...] | None = None
        self._down: tuple[tuple[str, str], ...] = ()

    def apply(self, written: Written) -> Iterator[Change]:
        key = written.key
        if key.startswith(self._stores.roles.prefix):
            yield from self.role(written)
        elif key.startswith(self._stores.users.prefix):
            yield from self.user(written)
        elif key.startswith(self._stores.locks.prefix):
            yield from self.lock(written)
        elif key.startswith(self._stores.acme.prefix):
            yield from self.acme(written)
        elif key.startswith(self._stores.app_resources.prefix):
            yield from self.app(written)
        elif not isinstance(written, Put) and key.startswith(
            (
                self._stores.web_sessions.prefix,
                self._stores.app_sessions.prefix,
                self._stores.device_tokens.prefix,
            )
        ):
            yield SessionEnded(id=key.rpartition("/")[2])

    def role(self, written: Written) -> Iterator[Change]:
        name = written.key.removeprefix(self._stores.roles.prefix)
        if isinstance(written, Put):
            if written.item.revision <= self._roles.get(name, 0):
                return
            self._roles[name] = written.item.revision
            role: Role = self._stores.roles.decode(written.item)
            yield RoleChanged(role=role)
        elif written.revision > self._roles.get(name, written.revision):
            del self._roles[name]
            yield RoleDeleted(name=name)

    def acme(self, written: Written) -> Iterator[Change]:
        """Tell proxies of a certificate; that a record is gone changes nothing for them."""
        if not isinstance(written, Put):
            if written.revision > self._acme.get(written.key, written.revision):
                del self._acme[written.key]
            return
        if not self._is_proxy:
            return
        if written.item.revision > self._acme.get(written.key, 0):
            self._acme[written.key] = written.item.revision
            yield AcmeChanged(state=self._stores.acme.decode(written.item))

    def app(self, written: Written) -> Iterator[Change]:
        name = written.key.removeprefix(self._stores.app_resources.prefix)
        if self._is_proxy or (self._may_offer is not None and name not in self._may_offer):
            return
        if isinstance(written, Put):
            if written.item.revision > self._apps.get(name, 0):
                self._apps[name] = written.item.revision
                yield AppDefined(app=self._stores.app_resources.decode(written.item))
        elif written.revision > self._apps.get(name, written.revision):
            del self._apps[name]
            yield AppUndefined(name=name)

    def lock(self, written: Written) -> Iterator[Change]:
        """Tell of a lock.

        Raises:
            Locked: it is on this follower, and in force.
        """
        name = written.key.removeprefix(self._stores.locks.prefix)
        revision, before = self._locks.get(name, (0, None))
        if isinstance(written, Put):
            if written.item.revision <= revision:
                return
            lock = self._stores.locks.decode(written.item)
            self._locks[name] = (written.item.revision, lock)
            is_on_this = not self._is_proxy and lock.target.server_id == self._name
            if is_on_this and self._is_in_force(lock):
                raise Locked("this agent is locked", reason=f"lock {name}")
            yield from self._lock_told(lock, before)
        elif before is not None and written.revision > revision:
            del self._locks[name]
            if self._is_proxy or before.target.role:
                yield LockDeleted(name=name)
            yield from self._user_told(before.target.user)

    def _lock_told(self, lock: Lock, before: Lock | None) -> Iterator[Change]:
        """Agents learn no names: a locked user's grants are void to them, which is the same."""
        if self._is_proxy:
            yield LockChanged(lock=lock)
        elif lock.target.role:
            yield LockChanged(lock=Lock(name=lock.name, target=lock.target, expires=lock.expires))
        elif before is not None and before.target.role:
            yield LockDeleted(name=lock.name)
        for target in {lock.target.user, before.target.user if before is not None else ""}:
            yield from self._user_told(target)

    def _user_told(self, name: str) -> Iterator[Change]:
        """Tell an agent how a user stands, where a lock has changed that."""
        _, user = self._users.get(name, (0, None))
        if user is not None and not self._is_proxy:
            yield self._epoch(user)

    def _epoch(self, user: User) -> Change:
        is_locked = any(
            lock.target.user == user.name and self._is_in_force(lock)
            for _, lock in self._locks.values()
        )
        return (
            _void(user) if is_locked else EpochChanged(user_key=user_key(user.id), epoch=user.epoch)
        )

    def _is_in_force(self, lock: Lock) -> bool:
        """Tell whether a lock keeps out now; one that is over is here until it is put aside.

        When the clock was set back and isn't followed yet, the wall decides: locks come back then.
        """
        is_set_back = self._clock.behind > CLOCK_SKEW
        return lock.is_in_force(self._clock.wall() if is_set_back else self._clock())

    def user(self, written: Written) -> Iterator[Change]:
        name = written.key.removeprefix(self._stores.users.prefix)
        revision, before = self._users.get(name, (0, None))
        if isinstance(written, Put):
            yield from self._user_written(name, written.item, revision, before)
        elif before is not None and written.revision > revision:
            del self._users[name]
            yield UserDeleted(name=name) if self._is_proxy else _void(before)

    def _user_written(
        self, name: str, item: Item, revision: int, before: User | None
    ) -> Iterator[Change]:
        if item.revision <= revision:
            return
        user = self._stores.users.decode(item)
        self._users[name] = (item.revision, user)
        if self._is_proxy:
            yield UserChanged(user=user)
            return
        if before is not None and before.id != user.id:
            yield _void(before)
        yield self._epoch(user)

    def present(self, presence: Presence, healths: Healths) -> Iterator[Change]:
        if self._is_proxy and presence.servers != self._servers:
            self._servers = presence.servers
            yield AppServersChanged(servers=presence.servers)
        if self._is_proxy and healths.down != self._down:
            self._down = healths.down
            yield AppsDown(down=healths.down)
        if presence.proxies != self._proxies:
            self._proxies = presence.proxies
            yield ProxiesChanged(proxy_ids=presence.proxies)


def _void(user: User) -> EpochChanged:
    return EpochChanged(user_key=user_key(user.id), epoch=-1)
