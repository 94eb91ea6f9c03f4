"""Browsers that a person has signed in with before: others' guesses don't lock these out.

The cookie proves nothing but that. It has a count of failures of its own, and with the last of
them it is forgotten.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from msgspec.structs import replace

from tport.engine.auth.cluster import Cluster, new_secret
from tport.engine.auth.stores import KnownBrowser
from tport.engine.defaults import MAX_LOGIN_FAILURES
from tport.engine.errors import CompareFailed, NotFound
from tport.engine.types.session import session_id
from tport.engine.types.user import User

KNOWN_TTL: Final = timedelta(days=90)  # after the last sign-in


class KnownBrowsers:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._store = cluster.stores.known

    async def is_known(self, cookie: str, user: User) -> bool:
        """Tell whether the browser that holds this cookie has signed this person in before."""
        if not cookie:
            return False
        known = await self._store.find(session_id(cookie))
        return known is not None and (known.user_id, known.proofs) == (user.id, user.proofs)

    async def failed(self, cookie: str) -> None:
        """Count a failure of a known browser."""
        id_ = session_id(cookie)
        try:
            read = await self._store.read(id_)
            if read.value.failures + 1 >= MAX_LOGIN_FAILURES:
                await self._store.delete(id_)
                return
            more = replace(read.value, failures=read.value.failures + 1)
            await self._store.swap(id_, read, more, expires=read.expires)
        except (CompareFailed, NotFound):
            pass  # tries at one account come one after the other: a sign-in came between

    async def remember(self, cookie: str, user: User) -> str:
        """Return the cookie of a browser that has signed this person in, new or for longer."""
        if not await self.is_known(cookie, user):
            cookie = new_secret()
        known = KnownBrowser(user_id=user.id, proofs=user.proofs)
        expires = self._cluster.clock() + KNOWN_TTL
        await self._store.put(session_id(cookie), known, expires=expires)
        return cookie
