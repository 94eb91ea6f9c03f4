"""Names of applications that no agent has offered for long: whose they are, and when they are forgotten.

A name waits a day for its agents; then it is anybody's. Of the many that a lost agent may have given, or an honest
one that has an application for each branch, the last are kept: lists go on to say since when those are away.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

import trio

from tport.engine.auth.cluster import Cluster
from tport.engine.auth.stores import Definition
from tport.engine.storage.backend import Delete, Operation

ABANDONED: Final = timedelta(hours=24)  # after which anybody may define a name anew
MAX_KEPT: Final = 200  # of those; whoever was offered last
EVERY: Final = 600.0  # s between two looks for those that are more, each at all names
HELD: Final = (
    3600.0  # s of running for which the clock must have said so: one that is ahead takes none
)
AT_ONCE: Final = 32  # deleted at each tick


def is_abandoned(definition: Definition, now: datetime) -> bool:
    return definition.gone is not None and now - definition.gone >= ABANDONED


class Abandoned:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.stores.apps
        self._next = -math.inf
        self._more: dict[tuple[str, int], float] = {}  # key, revision → since when by every look
        self._due: list[tuple[str, Operation]] = []  # to be deleted: name, how

    async def tick(self, live: set[str]) -> None:
        """Delete some of those that are due; quick, unless EVERY has passed.

        Args:
            live: what is offered now stays, whatever is stored of it.

        Raises:
            Unavailable: storage can't answer.
        """
        if not self._due and trio.current_time() >= self._next:
            self._next = trio.current_time() + EVERY
            self._due = await self._too_many()
        part, self._due = self._due[:AT_ONCE], self._due[AT_ONCE:]
        await self._cluster.stores.each([how for name, how in part if name not in live])

    async def _too_many(self) -> list[tuple[str, Operation]]:
        """Return those that are beyond MAX_KEPT, and were by all looks for HELD.

        An application for which somebody has a device token stays: what the token says of its host is read here.
        """
        now = self._cluster.clock()
        abandoned = [
            (definition.gone, definition.app.name, item)
            for item in await self._store.range()
            if (definition := self._store.decode(item)).gone and is_abandoned(definition, now)
        ]
        abandoned.sort(key=lambda each: each[0], reverse=True)
        wanted = {token.app for token in await self._cluster.stores.device_tokens.all()}
        before, self._more = self._more, {}
        due: list[tuple[str, Operation]] = []
        for _, name, item in abandoned[MAX_KEPT:]:
            which = item.key, item.revision
            since = self._more[which] = before.get(which, trio.current_time())
            if trio.current_time() - since >= HELD and name not in wanted:
                due.append((name, Delete(item.key, item.revision)))
        return due
