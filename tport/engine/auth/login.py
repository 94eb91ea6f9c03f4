"""Signing in with a password: one answer to every failure, in the time of one hash."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Final

import trio

from tport.engine.access.limits import AddressLimiter
from tport.engine.access.passwords import DUMMY_PHC, hash_password, needs_rehash, verify_password
from tport.engine.api.answers import SignedIn
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.hashing import Hasher
from tport.engine.auth.sessions import Sessions
from tport.engine.auth.stores import SWAP_TRIES
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    Locked,
    NotFound,
    Unavailable,
)
from tport.engine.types.user import FailedLogins, PasswordRecord, User, canonical_user_name

MAX_FAILURES: Final = 5  # in a row, then the account is locked. Source: Teleport
LOCK: Final = timedelta(minutes=30)  # Teleport's
FAILURES_KEPT: Final = timedelta(hours=24)  # after the last; then they are forgotten
PER_MINUTE: Final = 20  # tries of one address, over a burst of BURST. Source: Teleport
BURST: Final = 40
FAILURE_TIME: Final = 0.5  # s until any failure is answered; several times what one hash takes
FAILED: Final = "the user name or the password is wrong"


class Login:
    def __init__(self, cluster: Cluster, hasher: Hasher, sessions: Sessions) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._hasher = hasher
        self._sessions = sessions
        self._limiter = AddressLimiter(cluster.clock, per_minute=PER_MINUTE, burst=BURST)

    async def sign_in(self, username: str, password: str, remote: str, user_agent: str) -> SignedIn:
        self._limiter.check(remote)
        self._limiter.take(remote)
        answer_failure_at = trio.current_time() + FAILURE_TIME
        try:
            return await self._judge(username, password, remote, user_agent)
        except AccessDenied:
            # What was looked up and written down for this cause takes its own time; the answer
            # must not tell which it was.
            await trio.sleep_until(answer_failure_at)
            raise

    async def _judge(self, username: str, password: str, remote: str, user_agent: str) -> SignedIn:
        try:
            name = canonical_user_name(username)
        except InvalidRequest:
            name = ""
        async with self._hasher.turn(name):
            user, why = await self._proven(name, password)
            if user is None:
                await self._failed(name or username[:128], why, remote, user_agent)
                raise AccessDenied(FAILED, reason=why)
            await self._forget_failures(name)
        return await self._sessions.make(user, remote, user_agent, method="local")

    async def _proven(self, name: str, password: str) -> tuple[User | None, str]:
        """Return the user whose password this is, else None and why. Always takes one hash."""
        user = await self._stores.users.find(name) if name else None
        record = await self._stores.passwords.find(name) if name else None
        phc = DUMMY_PHC if user is None or record is None else record.phc
        right = await self._hasher.run(partial(verify_password, phc, password))
        if user is None:
            return None, "no such user"
        if record is None:
            return None, "the user has no password yet"
        if await self._is_locked(name):
            return None, "the account is locked"
        if not right:
            return None, "wrong password"
        try:
            await self._sessions.check_may_sign_in(user)
        except Locked as locked:  # in the words for a wrong password: it may be no secret any more
            return None, locked.reason
        if needs_rehash(phc):
            await self._rehash(name, password)
        return user, ""

    async def _rehash(self, name: str, password: str) -> None:
        """Keep the password as today's parameters have it, unless it was changed meanwhile."""
        read = await self._stores.passwords.read(name)
        phc = await self._hasher.run(partial(hash_password, password))
        record = PasswordRecord(phc=phc, changed=read.value.changed)
        try:
            await self._stores.passwords.swap(name, read, record)
        except CompareFailed:
            pass

    async def _is_locked(self, name: str) -> bool:
        failed = await self._stores.failures.find(name)
        return (
            failed is not None
            and failed.locked_until is not None
            and self._cluster.clock() < failed.locked_until
        )

    async def _failed(self, name: str, why: str, remote: str, user_agent: str) -> None:
        """Write the failure down, and lock the account for the last of them.

        While it is locked nothing is written: a lock is told once, not per try.
        """
        if why == "the account is locked":
            return
        await self._cluster.emit(
            "user.login.failed",
            user=name,
            method="local",
            error=why,
            remote=remote,
            user_agent=user_agent[:256],
        )
        if why == "wrong password" and await self._count_failure(name):
            await self._cluster.emit(
                "user.locked", user=name, remote=remote, minutes=int(LOCK.total_seconds() // 60)
            )

    async def _count_failure(self, name: str) -> bool:
        """Count one more; return whether that locked the account."""
        for _ in range(SWAP_TRIES):
            now = self._cluster.clock()
            try:
                try:
                    read = await self._stores.failures.read(name)
                except NotFound:
                    first = FailedLogins(count=1)
                    await self._stores.failures.create(name, first, expires=now + FAILURES_KEPT)
                    return False
                until = read.value.locked_until
                if until is not None and now < until:
                    return False
                # A lock that is over starts a new count.
                count = 1 if until is not None else read.value.count + 1
                locks = count >= MAX_FAILURES
                failed = FailedLogins(count=count, locked_until=now + LOCK if locks else None)
                await self._stores.failures.swap(name, read, failed, expires=now + FAILURES_KEPT)
            except (AlreadyExists, CompareFailed):
                continue
            else:
                return locks
        raise Unavailable("failures can't be counted, so nobody can sign in to this account now")

    async def _forget_failures(self, name: str) -> None:
        try:
            await self._stores.failures.delete(name)
        except NotFound:
            pass
