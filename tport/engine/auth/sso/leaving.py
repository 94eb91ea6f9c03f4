"""Users of providers who don't come back: removed once nothing that is theirs alone would be missed.

A user of a connector counts for as long as the session that a sign-in made; favourites wait for the next one.
After KEPT without any the user goes, as a record of Teleport's does when its time is over: without an event, since nothing
that somebody could do ends by it. Whom a lock is on, or who has second factors here, stays: a lock would be passed by
under another name of theirs, and whoever came next under this one would be asked to set up new factors. A clock that is
ahead for a while takes nobody: they must be gone by every look for HELD.
"""

from __future__ import annotations

import logging
import math
from datetime import timedelta
from typing import Final

import trio

from tport.engine.access.locks import lock_on_person
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.factors.devices import Devices
from tport.engine.auth.people.users import Users
from tport.engine.errors import CompareFailed, NotFound

logger = logging.getLogger(__name__)

KEPT: Final = timedelta(days=30)  # after what a sign-in brought is over
EVERY: Final = 600.0  # s between two looks, each at all users
HELD: Final = 3600.0  # s of running for which the clock must have said so
AT_ONCE: Final = 100  # users removed by one look


class Departures:
    def __init__(self, cluster: Cluster, users: Users, devices: Devices) -> None:
        self._cluster = cluster
        self._users = users
        self._devices = devices
        self._next = -math.inf
        self._gone: dict[str, float] = {}  # name → since when by every look (trio time)

    async def tick(self) -> None:
        """Remove who has been gone for long; quick, unless EVERY has passed.

        Raises:
            Unavailable: storage can't be read.
        """
        if trio.current_time() < self._next:
            return
        self._next = trio.current_time() + EVERY
        now = self._cluster.clock()
        stores = self._cluster.stores
        locks = await stores.locks.all()
        before, self._gone = self._gone, {}
        removed = 0
        for user in await stores.users.all():
            if user.is_local or user.counts(now - KEPT):
                continue
            since = self._gone[user.name] = before.get(user.name, trio.current_time())
            if trio.current_time() - since < HELD or removed == AT_ONCE:
                continue
            if lock_on_person(locks, user.name, user.roles, now):
                continue
            if (await self._devices.of(user)).devices:
                continue
            try:
                read = await stores.users.read(user.name)
                if read.value != user:
                    continue  # they came back this very moment
                await self._users.forget(read)
            except (CompareFailed, NotFound):
                continue  # or this one
            removed += 1
        if removed:
            logger.info("%d users of providers were removed: they did not come back", removed)
