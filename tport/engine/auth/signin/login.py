"""Signing in with a password: one answer to every failure, in the time of one hash."""

from __future__ import annotations

from functools import partial
from typing import Final

import trio

from tport.engine.access.limits import AddressLimiter
from tport.engine.access.passwords import DUMMY_PHC, hash_password, needs_rehash, verify_password
from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.sessions.sessions import Sessions
from tport.engine.auth.signin.failures import Failures
from tport.engine.auth.signin.hashing import Hasher
from tport.engine.auth.signin.known import KnownBrowsers
from tport.engine.auth.signin.steps import LOCAL_AUTH_OFF, Steps, Visitor
from tport.engine.auth.stores import Stored
from tport.engine.errors import AccessDenied, CompareFailed, InvalidRequest, Locked, NotFound
from tport.engine.types.user import PasswordRecord, User, canonical_user_name

FAILURE_TIME: Final = 0.5  # s until any failure is answered; several times what one hash takes
AFTER_HASH: Final = (
    0.25  # s after it, at least: on a busy machine hashes wait, and take longer themselves
)
FAILED: Final = "the user name or the password is wrong"

_WRONG: Final = "wrong password"
_LOCKED: Final = "the account is locked"


class _Failure:
    """When a sign-in that fails is told so.

    What is looked up and written down for its cause takes its own time; the answer must not tell
    which it was, however long who tried had to wait for a hash.
    """

    def __init__(self) -> None:
        self.told_at = trio.current_time() + FAILURE_TIME

    def hashed(self) -> None:
        self.told_at = max(self.told_at, trio.current_time() + AFTER_HASH)


class Login:
    def __init__(
        self,
        cluster: Cluster,
        hasher: Hasher,
        sessions: Sessions,
        steps: Steps,
        failures: Failures,
        known: KnownBrowsers,
        limiter: AddressLimiter,
    ) -> None:
        self._cluster = cluster
        self._stores = cluster.stores
        self._hasher = hasher
        self._sessions = sessions
        self._steps = steps
        self._failures = failures
        self._known = known
        self._limiter = limiter

    async def sign_in(self, username: str, password: str, visitor: Visitor) -> SignedIn | NextStep:
        self._limiter.check(visitor.remote)
        self._limiter.take(visitor.remote)
        if not (await self._cluster.sign_in()).local_auth:
            await self._failed(_name(username), LOCAL_AUTH_OFF, visitor, is_known=False)
            raise AccessDenied(FAILED, reason=LOCAL_AUTH_OFF)
        failure = _Failure()
        try:
            return await self._judge(username, password, visitor, failure)
        except AccessDenied:
            await trio.sleep_until(failure.told_at)
            raise

    async def _judge(
        self, username: str, password: str, visitor: Visitor, failure: _Failure
    ) -> SignedIn | NextStep:
        name = _name(username)
        async with self._hasher.turn(name):
            found = await self._stores.users.find(name) if name else None
            is_known = found is not None and await self._known.is_known(visitor.known, found)
            user, why = await self._proven(found, name, password, failure, is_known=is_known)
            if user is None:
                await self._failed(name, why, visitor, is_known=is_known)
                raise AccessDenied(FAILED, reason=why)
        return await self._steps.after(user, visitor, "local")

    async def _proven(
        self, user: User | None, name: str, password: str, failure: _Failure, *, is_known: bool
    ) -> tuple[User | None, str]:
        """Return the user whose password this is, else None and why. Always takes one hash."""
        record = await self._record(name) if name else None
        phc = DUMMY_PHC if user is None or record is None else record.value.phc
        right = await self._hasher.run(partial(verify_password, phc, password))
        failure.hashed()
        if user is None:
            return None, "no such user"
        if not user.is_local:
            return None, f"the user signs in by {user.origin}"
        if record is None:
            return None, "the user has no password yet"
        if not is_known and await self._failures.is_locked(name):
            return None, _LOCKED
        if not right:
            return None, _WRONG
        try:
            await self._sessions.check_may_sign_in(user)
        except Locked as locked:  # in the words for a wrong password: it may be no secret any more
            return None, locked.reason
        if needs_rehash(phc):
            await self._rehash(name, password, record)
        return user, ""

    async def _record(self, name: str) -> Stored[PasswordRecord] | None:
        try:
            return await self._stores.passwords.read(name)
        except NotFound:
            return None

    async def _rehash(self, name: str, password: str, judged: Stored[PasswordRecord]) -> None:
        """Keep the password as today's parameters have it, unless it was changed since it was judged."""
        phc = await self._hasher.run(partial(hash_password, password))
        record = PasswordRecord(phc=phc, changed=judged.value.changed)
        try:
            await self._stores.passwords.swap(name, judged, record)
        except (CompareFailed, NotFound):
            pass

    async def _failed(self, name: str, why: str, visitor: Visitor, *, is_known: bool) -> None:
        """Write the failure down, and count it.

        What can't be a name ("") isn't written: now and then it is a password in the wrong field.
        While the account is locked nothing is written: a lock is told once, not per try.
        """
        if why == _LOCKED:
            return
        await self._cluster.emit(
            "user.login.failed",
            user=name,
            method="local",
            error=why,
            remote=visitor.remote,
            user_agent=visitor.user_agent[:256],
        )
        if why == _WRONG and is_known:
            await self._known.failed(visitor.known)
        elif why == _WRONG:
            await self._failures.count(name, visitor.remote)


def _name(username: str) -> str:
    """Return the one spelling of what was typed as a name; "": it can be none."""
    try:
        return canonical_user_name(username)
    except InvalidRequest:
        return ""
