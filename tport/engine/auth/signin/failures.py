"""Failures of an account, counted over all steps of signing in, and the lock that they end in.

The count is auth's, per account: no new session, address or browser begins it anew. Each lock
in a row lasts twice as long as the one before, so that a code of six digits stays a secret:
some thirty tries a day, not three hundred.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from tport.engine.auth.cluster import Cluster
from tport.engine.auth.stores import SWAP_TRIES
from tport.engine.defaults import MAX_LOGIN_FAILURES
from tport.engine.errors import AlreadyExists, CompareFailed, NotFound, Unavailable
from tport.engine.types.user import FailedLogins

LOCK: Final = timedelta(minutes=30)  # the first one; Teleport's
MAX_LOCK: Final = timedelta(hours=16)
FAILURES_KEPT: Final = timedelta(hours=24)  # after the last failure or lock; then all is forgotten


class Failures:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stores = cluster.stores

    async def is_locked(self, name: str) -> bool:
        failed = await self._stores.failures.find(name)
        return failed is not None and is_locked(failed, self._cluster.clock())

    async def count(self, name: str, remote: str) -> None:
        """Count one more; lock the account for the last of them, and write that down, once.

        Raises:
            Unavailable: it can't be counted, so it must not be answered either.
        """
        for _ in range(SWAP_TRIES):
            now = self._cluster.clock()
            try:
                try:
                    read = await self._stores.failures.read(name)
                except NotFound:
                    first = FailedLogins(count=1)
                    await self._stores.failures.create(name, first, expires=now + FAILURES_KEPT)
                    return
                failed = _one_more(read.value, self._cluster)
                if failed is None:
                    return
                expires = (failed.locked_until or now) + FAILURES_KEPT
                await self._stores.failures.swap(name, read, failed, expires=expires)
            except (AlreadyExists, CompareFailed):
                continue
            if failed.locked_until is not None and failed.locks > read.value.locks:
                minutes = int((failed.locked_until - now).total_seconds() // 60)
                await self._cluster.emit("user.locked", user=name, remote=remote, minutes=minutes)
            return
        raise Unavailable("failures can't be counted, so nobody can sign in to this account now")

    async def locked_ahead(self, now: datetime) -> list[str]:
        """Return the keys of those whose lock is of a clock that was ahead: it is yet to begin at `now`."""
        store = self._stores.failures
        return [item.key for item in await store.range() if _begins_after(store.decode(item), now)]

    async def forget(self, name: str) -> None:
        """Forget them, locks too: the person is proven, or an administrator says so."""
        try:
            await self._stores.failures.delete(name)
        except NotFound:
            pass


def _one_more(before: FailedLogins, cluster: Cluster) -> FailedLogins | None:
    """Return the count with one more failure; None: it is locked, and locked it stays."""
    now = cluster.clock()
    if is_locked(before, now):
        return None
    # A lock that is over starts a new count.
    count = 1 if before.locked_until is not None else before.count + 1
    if count < MAX_LOGIN_FAILURES:
        return FailedLogins(count=count, locks=before.locks)
    until = now + _life(before.locks + 1)
    return FailedLogins(count=count, locked_until=until, locks=before.locks + 1)


def is_locked(failed: FailedLogins, now: datetime) -> bool:
    """Tell whether an account is locked now. A lock that is yet to begin is of a clock that was ahead."""
    until = failed.locked_until
    return until is not None and now < until and not _begins_after(failed, now)


def _begins_after(failed: FailedLogins, now: datetime) -> bool:
    until = failed.locked_until
    return until is not None and until - _life(failed.locks) > now


def _life(locks: int) -> timedelta:
    """Return how long the last of so many locks in a row lasts."""
    doubled = min(max(locks, 1) - 1, 10)  # past MAX_LOCK; 36 times is more than a timedelta holds
    return min(LOCK * (1 << doubled), MAX_LOCK)
