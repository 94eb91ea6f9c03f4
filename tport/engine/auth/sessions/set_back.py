"""What auth does about a clock that was set back: nothing that had ended lives again.

The latest time that was seen is stored, so that a restart is no way around it. When the wall is behind it
by more than machines' clocks may differ, auth's time stands still (`steady_clock`), all sessions and what
is under way are ended, expired tokens removed, locks that the wall says are not over brought back, and only then time goes on from what the wall shows. Who
signed in meanwhile did so by the time that stood still: that is ended once more, after it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Final

import trio
from msgspec.structs import replace

from tport.engine.auth.cluster import Cluster
from tport.engine.auth.rights.locks import Locks
from tport.engine.auth.stores import SWAP_TRIES, ClockRecord
from tport.engine.defaults import CLOCK_SKEW
from tport.engine.errors import CompareFailed, NotFound, Unavailable
from tport.engine.storage.backend import BATCH_LIMIT, Delete

logger = logging.getLogger(__name__)

STORED_EVERY: Final = timedelta(minutes=1)  # a write each; so much may be missing after a crash
_NAME: Final = "clock"
# What lasts from a moment on, and would last longer by a clock that shows an earlier one.
_UNDER_WAY: Final = ("/sessions/", "/seen/", "/proofs/", "/attempts/", "/launch/", "/sso")


class SetBack:
    """`locked_ahead`: gives the keys of accounts' locks that, at a time, are yet to begin."""

    def __init__(
        self,
        cluster: Cluster,
        locks: Locks,
        locked_ahead: Callable[[datetime], Awaitable[Iterable[str]]],
    ) -> None:
        self._clock = cluster.clock
        self._cluster = cluster
        self._stores = cluster.stores
        self._locks = locks
        self._locked_ahead = locked_ahead
        self._stored = self._clock.wall() - STORED_EVERY
        self._ends_again = False

    async def begin(self) -> None:
        """Take over what was the latest time before this start.

        Raises:
            Unavailable: storage can't answer, or the audit log can't be written.
        """
        record = await self._stores.clock.find(_NAME)
        if record is not None and record.latest > self._clock.wall():
            known = record.latest
            if known - self._clock.wall() > CLOCK_SKEW:
                # What passed between the last write and the end is not known: as much as it can be.
                known += STORED_EVERY
            self._clock.know(known)
        await self.tick()

    async def tick(self) -> None:
        """End what must end, and store the time.

        Raises:
            Unavailable: as `begin`; time stands still until it is done.
        """
        if self._clock.behind > CLOCK_SKEW:
            await self._end()
        if self._ends_again:
            await self._end_under_way()
            await self._store()
            self._ends_again = False
        if self._clock() >= self._stored + STORED_EVERY:
            await self._store()

    async def _end(self) -> None:
        before, now = self._clock(), self._clock.wall()
        ended = await self._end_under_way()
        tokens = [
            self._stores.tokens.key(token.id)
            for token in await self._stores.tokens.all()
            if token.expires is not None and token.expires <= before
        ]
        ended += await self._delete(tokens)
        seconds = round((before - now).total_seconds())
        await self._cluster.record("clock.set_back", seconds=seconds, ended=ended)
        logger.warning(
            "the clock was set back by %d s: all sessions are ended (%d records), people sign in again",
            seconds,
            ended,
        )
        self._ends_again = True  # what is stored of the time stays as it was until then
        self._clock.follow()

    async def _end_under_way(self) -> int:
        await self._locks.bring_back(self._clock.wall())
        ended = 0
        for prefix in _UNDER_WAY:
            items = await self._stores.backend.range(prefix)
            ended += await self._delete(item.key for item in items)
        # Else they would keep people out at their own time, at whom nobody guesses then.
        ended += await self._delete(await self._locked_ahead(self._clock.wall()))
        while swept := await self._stores.backend.sweep():
            ended += swept
        return ended + await self._expire_users(self._clock.wall())

    async def _expire_users(self, now: datetime) -> int:
        """End what providers vouched for, as the sessions that rest on it; return of how many people."""
        expired = 0
        for user in await self._stores.users.all():
            if user.expires is not None and user.counts(now):
                expired += await self._expire_user(user.name, now)
        return expired

    async def _expire_user(self, name: str, now: datetime) -> bool:
        for _ in range(SWAP_TRIES):
            try:
                read = await self._stores.users.read(name)
                if read.value.expires is None or not read.value.counts(now):
                    return False
                await self._stores.users.swap(name, read, replace(read.value, expires=now))
            except CompareFailed:
                continue
            except NotFound:  # deleted meanwhile
                return False
            return True
        raise Unavailable(f"user {name!r} is being changed by many at once")

    async def _store(self) -> None:
        self._stored = self._clock()
        await self._stores.clock.put(_NAME, ClockRecord(latest=self._stored))

    async def _delete(self, keys: Iterable[str]) -> int:
        """Delete what is there of these; return how many there were."""
        keys = list(keys)
        for start in range(0, len(keys), BATCH_LIMIT):
            part = keys[start : start + BATCH_LIMIT]
            try:
                await self._stores.batch([Delete(key) for key in part])
            except NotFound:  # somebody ended one meanwhile
                for key in part:
                    try:
                        await self._stores.backend.delete(key)
                    except NotFound:
                        pass
            await trio.lowlevel.checkpoint()
        return len(keys)
