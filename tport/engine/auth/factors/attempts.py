"""What a person has begun and not finished: between password and second factor, or setting one up.

It is auth's, one for each browser (before there is a session) or for each session, for minutes,
and ends with the first success: there is nothing to carry along, forge, or use twice.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from tport.engine.access.webauthn import CHALLENGE_BYTES
from tport.engine.auth.cluster import Cluster
from tport.engine.auth.stores import Attempt, Stage, Stored
from tport.engine.errors import AttemptOver, CompareFailed, InvalidRequest, NotFound
from tport.engine.types.sso import ProviderSession
from tport.engine.types.user import User

PROVE_TTL: Final = timedelta(minutes=5)
ENROL_TTL: Final = timedelta(minutes=30)  # who has no authenticator app yet must find one first
CHALLENGE_TTL: Final = timedelta(minutes=5)  # Source: security.md AUTH-08
CHALLENGE_AGAIN: Final = timedelta(minutes=1)  # how long the same is given again

_OVER = "this took too long, was done already, or was begun anew in another tab"
_HEX = frozenset("0123456789abcdef")


class Attempts:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.stores.attempts

    async def begin(
        self,
        holder: str,
        stage: Stage,
        user: User | None,
        method: str = "",
        provider: ProviderSession | None = None,
    ) -> None:
        """Begin an attempt; what this holder had begun before is over.

        Args:
            holder: SHA-256 hex of the cookie of the browser, or of the session.

        Raises:
            InvalidRequest: this browser keeps no cookie, so nothing can be begun.
        """
        check_holder(holder)
        life = ENROL_TTL if stage == "enrol" else PROVE_TTL
        attempt = Attempt(
            id=secrets.token_urlsafe(16),
            stage=stage,
            expires=self._cluster.clock() + life,
            user=user.name if user else "",
            user_id=user.id if user else "",
            proofs=user.proofs if user else 0,
            method=method,
            provider=provider,
        )
        await self._store.put(holder, attempt, expires=attempt.expires)

    async def read(self, holder: str, id_: str | None = None) -> Stored[Attempt]:
        """Return what this holder has begun; with `id_` only that very attempt.

        Raises:
            AttemptOver: nothing, or another one.
        """
        check_holder(holder)
        try:
            read = await self._store.read(holder)
        except NotFound:
            raise AttemptOver(_OVER) from None
        is_live = self._cluster.clock() < read.value.expires
        if not is_live or (
            id_ is not None and not secrets.compare_digest(read.value.id.encode(), id_.encode())
        ):
            raise AttemptOver(_OVER)
        return read

    async def keep_secret(self, holder: str, read: Stored[Attempt], sealed: str) -> Stored[Attempt]:
        """Keep the TOTP secret that is being set up, so that a page shown again shows the same."""
        return await self._change(holder, replace(read.value, secret=sealed), read)

    async def give_challenge(self, holder: str, read: Stored[Attempt]) -> str:
        """Return the challenge that the next answer must sign: made now, or within the last minute.

        A page that is loaded again and again writes nothing anew, and voids no other tab's.
        """
        attempt, young = read.value, self._cluster.clock() + CHALLENGE_TTL - CHALLENGE_AGAIN
        if attempt.challenge and attempt.challenge_until and attempt.challenge_until > young:
            return attempt.challenge
        challenge = secrets.token_urlsafe(CHALLENGE_BYTES)
        until = self._cluster.clock() + CHALLENGE_TTL
        given = replace(read.value, challenge=challenge, challenge_until=until)
        await self._change(holder, given, read)
        return challenge

    async def take_challenge(self, holder: str, read: Stored[Attempt]) -> str:
        """Return the challenge that was given, once: whatever answers it, it is spent.

        Raises:
            AttemptOver: none, or it is too old, or another request took it.
        """
        attempt = read.value
        if not attempt.challenge or attempt.challenge_until is None:
            raise AttemptOver(_OVER)
        await self._change(holder, replace(attempt, challenge=""), read)
        if self._cluster.clock() >= attempt.challenge_until:
            raise AttemptOver(_OVER)
        return attempt.challenge

    async def end(self, holder: str, read: Stored[Attempt]) -> None:
        """End exactly this attempt: of several that would finish it one goes on.

        Raises:
            AttemptOver: it is over already.
        """
        try:
            await self._cluster.stores.batch([self._store.deleting(holder, read)])
        except (CompareFailed, NotFound):
            raise AttemptOver(_OVER) from None

    async def _change(
        self, holder: str, changed: Attempt, read: Stored[Attempt]
    ) -> Stored[Attempt]:
        try:
            await self._store.swap(holder, read, changed, expires=changed.expires)
            return await self._store.read(holder)
        except (CompareFailed, NotFound):
            raise AttemptOver(_OVER) from None


def check_holder(holder: str) -> None:
    if len(holder) != 64 or not _HEX.issuperset(holder):
        raise InvalidRequest("this browser keeps no cookie of ours, so it can't sign in")
