"""Where each session's requests go, found out once for as long as nothing moves.

Whose session it is, whether it lives, what its user may now, which tunnel is its own and whether the agent
there knows it: from one request to the next the answers are the same, until auth tells of a change, a tunnel
comes or goes, a credential is forgotten, or time passes. The first three void all that was found out, whoever
it is about; the fourth is told with each way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from tport.engine.access.locks import lock_on_person
from tport.engine.api.cache import AuthCache
from tport.engine.defaults import AUTH_GRACE, READY_SESSIONS
from tport.engine.errors import AccessDenied
from tport.engine.proto.memory import keep_latest
from tport.engine.proxy.app_session import Credentials
from tport.engine.proxy.tunnels import Tunnel, Tunnels
from tport.engine.types.session import AppSession
from tport.engine.types.user import User

Clock = Callable[[], datetime]


class Way(NamedTuple):
    """The tunnel for a session's requests, whose agent has the session's credential.

    Attributes:
        until: when the session ends, or its credential is to be renewed.
    """

    session: AppSession
    user: User
    tunnel: Tunnel
    until: datetime


class Ways:
    """The ways of sessions that cookies name."""

    def __init__(
        self,
        cache: AuthCache,
        credentials: Credentials,
        tunnels: Tunnels,
        clock: Clock,
        *,
        allowed: Callable[[AppSession, User], Sequence[Tunnel]],
    ) -> None:
        """`allowed`: the tunnels that a session's user may use now; raises AccessDenied: none."""
        self._cache = cache
        self._credentials = credentials
        self._tunnels = tunnels
        self._clock = clock
        self._allowed = allowed
        self._known: OrderedDict[str, Way] = OrderedDict()
        # As they were when the first of those was found.
        self._changes = cache.changes
        self._forgotten = credentials.forgotten
        self._standing = tunnels.changed

    def __len__(self) -> int:
        """How many are known now."""
        return len(self._known)

    def of(self, session: str) -> Way | None:
        """Return a session's way; None: there is none, or it takes asking or telling somebody."""
        cache = self._cache
        if (
            self._changes != cache.changes
            or self._standing is not self._tunnels.changed
            or self._forgotten != self._credentials.forgotten
        ):
            self._known.clear()
            self._changes = cache.changes
            self._standing = self._tunnels.changed
            self._forgotten = self._credentials.forgotten
        if cache.age > AUTH_GRACE:
            return None
        way, now = self._known.get(session), self._clock()
        if way is None or now >= way.until:
            way = self._found(session)
        locks = cache.locks
        if way and locks and lock_on_person(locks, way.user.name, way.user.roles, now):
            return None  # by a clock that was ahead for a moment, its end had come
        return way

    def _found(self, id_: str) -> Way | None:
        session = self._cache.live_session(id_)
        signed = self._credentials.known(id_)
        if session is None or signed is None or session.web_session == "":
            return None
        user = self._cache.users[session.user]  # there: else the session would be none
        try:
            tunnels = self._allowed(session, user)
        except AccessDenied:
            return None
        if not tunnels or not tunnels[0].has_credential(id_, signed.credential):
            return None
        until = min(session.expires, signed.renew_at)
        way = Way(session=session, user=user, tunnel=tunnels[0], until=until)
        keep_latest(self._known, id_, way, READY_SESSIONS)
        return way
