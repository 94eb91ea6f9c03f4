"""The short memory of auth that proxies and agents decide by, fed by watch.

"Now" means at most FRESH seconds old while auth can be reached. When it can't, what was live
goes on for AUTH_GRACE seconds; after that every question is answered with Unavailable (deny).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Final, NoReturn

import trio

from tport.engine.api.answers import Authorities
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
    LockChanged,
    LockDeleted,
    ProxiesChanged,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
    UserChanged,
    UserDeleted,
)
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import AUTH_GRACE, FRESH, MAX_UNISSUED
from tport.engine.errors import (
    ConnectionProblem,
    LimitExceeded,
    Locked,
    NotSignedIn,
    OutOfTime,
    RemoteProtocolError,
    Unavailable,
    leaves,
)
from tport.engine.types.acme import AcmeState
from tport.engine.types.app import App, AppServer
from tport.engine.types.lock import Lock
from tport.engine.types.role import Role
from tport.engine.types.session import AppSession
from tport.engine.types.user import User

logger = logging.getLogger(__name__)

MAX_SESSIONS: Final = 100_000  # remembered at a time; the oldest goes first, to be asked for again
MAX_ENDED: Final = 10_000  # ids of ended sessions remembered against an answer still on its way
RETRY: Final = 1.0  # s, the most before the first further try to watch; doubled up to FRESH
STABLE: Final = 60.0  # s that a watch must have stood for the tries to begin anew after it

# What goes by: the watch is tried again. AccessDenied does not: auth refuses this machine; but a
# lock may be lifted, and a clock put right.
_PASSING: Final = (
    ConnectionProblem,
    Unavailable,
    LimitExceeded,
    RemoteProtocolError,
    Locked,
    OutOfTime,
)

Clock = Callable[[], datetime]


class _Known:
    """What the watch has told, whole after its first `Current`."""

    def __init__(self) -> None:
        self.roles: dict[str, Role] = {}
        self.users: dict[str, User] = {}
        self.epochs: dict[str, int] = {}
        self.locks: dict[str, Lock] = {}
        self.apps: dict[str, App] = {}
        self.acme: dict[tuple[str, str], AcmeState] = {}  # by directory and name
        self.unissued: dict[tuple[str, str], None] = {}  # of them, without a certificate
        self.servers: tuple[AppServer, ...] = ()
        self.down: frozenset[tuple[str, str]] = frozenset()
        self.proxies: tuple[str, ...] = ()
        self.authorities: Authorities | None = None

    def learn(self, state: AcmeState) -> None:
        """Keep how a certificate stands; as auth, of names that have none yet only the latest."""
        key = state.directory, state.name
        self.acme[key] = state
        self.unissued.pop(key, None)
        if not state.serial:
            self.unissued[key] = None
        while len(self.unissued) > MAX_UNISSUED:
            oldest = next(iter(self.unissued))
            del self.unissued[oldest], self.acme[oldest]


class AuthCache:
    """Roles, users, epochs, offers and sessions as they are now. One per process and caller.

    Attributes:
        on_change: called after each change with what changed; None: the watch was begun anew, so
            that anything may have. It must not block or raise.
        changes: moves whenever what was found out here may be so no longer, but for time that passes.
    """

    def __init__(
        self, auth: AuthAPI, clock: Clock, *, stops: Callable[[], bool] = lambda: False
    ) -> None:
        """`stops`: whether the service is about to end, so that losing auth is no news."""
        self._auth = auth
        self._clock = clock
        self._stops = stops
        self.on_change: Callable[[Change | None], None] = _nothing
        self.changes = 0
        self._known = _Known()
        self._sessions: dict[str, AppSession] = {}
        self._ended: dict[str, None] = {}
        self._now: Callable[[], float] = trio.current_time  # until `keep` finds a shorter way
        self._last_current = -float("inf")
        self._watches = 0  # begun, and told whole
        self._moved = trio.Event()

    # --- What is known -----------------------------------------------------------------------

    @property
    def roles(self) -> Mapping[str, Role]:
        return self._known.roles

    @property
    def users(self) -> Mapping[str, User]:
        return self._known.users

    @property
    def locks(self) -> Collection[Lock]:
        """All that were told; one may be over by now."""
        return self._known.locks.values()

    @property
    def apps(self) -> Collection[App]:
        """What auth hands out to agents."""
        return self._known.apps.values()

    @property
    def acme(self) -> Mapping[tuple[str, str], AcmeState]:
        """Certificates by ACME, by the CA's directory and their first name; for proxies."""
        return self._known.acme

    @property
    def servers(self) -> tuple[AppServer, ...]:
        return self._known.servers

    @property
    def down(self) -> Collection[tuple[str, str]]:
        """What doesn't answer its agent: the application's name, the agent's id."""
        return self._known.down

    @property
    def proxies(self) -> tuple[str, ...]:
        return self._known.proxies

    @property
    def authorities(self) -> Authorities:
        """The authorities; there once `keep` has started."""
        if self._known.authorities is None:
            raise Unavailable("the authorities are not known yet")
        return self._known.authorities

    @property
    def age(self) -> float:
        """Seconds since auth last said that all is told."""
        return self._now() - self._last_current

    def epoch(self, user_key: str) -> int:
        """Return the epoch before which grants to a user are void; -1: the user is gone, or locked."""
        return self._known.epochs.get(user_key, -1)

    async def wait_for_epoch(self, user_key: str, epoch: int) -> None:
        """Wait, FRESH seconds at most, until the watch has told of an epoch that others know of.

        Of a user who was deleted there is nothing more to be told.
        """
        with trio.move_on_after(FRESH):
            while self.epoch(user_key) < epoch and self._known.epochs.get(user_key) != -1:
                await self._moved.wait()

    def is_ended(self, session: str) -> bool:
        return session in self._ended

    def check_fresh(self) -> None:
        """Raise Unavailable when auth has been silent for longer than AUTH_GRACE."""
        if self.age > AUTH_GRACE:
            raise Unavailable(
                "the auth service can't be reached, so nobody's access can be checked"
            )

    # --- Sessions ----------------------------------------------------------------------------

    def remember(self, session: AppSession) -> None:
        """Keep a session that auth just made or returned, unless its end was told meanwhile."""
        if session.id in self._ended:
            return
        self._sessions.pop(session.id, None)
        if len(self._sessions) >= MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[session.id] = session

    def live_session(self, session_id: str) -> AppSession | None:
        """Return a remembered session that is live by all that is known here, without asking."""
        session = self._sessions.get(session_id)
        return session if session is not None and self._is_live(session) else None

    def is_over(self, session_id: str) -> bool:
        """Tell whether a session is known to be over. One that isn't remembered may be live."""
        session = self._sessions.get(session_id)
        if session is None:
            return session_id in self._ended
        return not self._is_live(session)

    def _is_live(self, session: AppSession) -> bool:
        if session.expires <= self._clock() or session.web_session in self._ended:
            return False
        user = self._known.users.get(session.user)
        return user is not None and user.id == session.user_id and user.epoch == session.epoch

    async def app_session(self, session_id: str) -> AppSession:
        """Return a live app session, asking auth for one not seen before.

        Raises:
            NotSignedIn: none, or over.
            Unavailable: auth can't be asked.
        """
        self.check_fresh()
        if (session := self.live_session(session_id)) is not None:
            return session
        if session_id in self._ended:
            raise NotSignedIn("signed out", reason="the session has ended")
        while True:
            session = await self._asked(session_id)
            if session_id in self._ended:
                raise NotSignedIn("signed out", reason="the session ended while it was looked up")
            self.remember(session)
            await self._catch_up(session)
            if (live := self.live_session(session_id)) is not None:
                return live
            self._sessions.pop(session_id, None)
            if not self._is_outrun(session):
                break
        raise NotSignedIn("signed out", reason="the session is over or its user has changed")

    async def _asked(self, session_id: str) -> AppSession:
        """Return a session as auth has it, from within one watch: else its end may be missed."""
        while True:
            watches = self._watches
            try:
                session = await self._auth.app_session(id=session_id)
            except (ConnectionProblem, RemoteProtocolError) as problem:
                raise Unavailable(f"the auth service can't be reached ({problem})") from problem
            if watches == self._watches:
                return session

    def _is_outrun(self, session: AppSession) -> bool:
        """Tell whether a device token's user changed while auth was asked: the token lives on."""
        user = self._known.users.get(session.user)
        if user is None or user.id != session.user_id or session.web_session:
            return False
        return user.epoch > session.epoch

    async def _catch_up(self, session: AppSession) -> None:
        """Wait, FRESH seconds at most, until the watch has told of the session's user."""
        with trio.move_on_after(FRESH):
            while True:
                user = self._known.users.get(session.user)
                if user is not None and user.epoch >= session.epoch:
                    return
                await self._moved.wait()

    def forget(self, session_id: str) -> None:
        """Drop a session that is over, for good."""
        self.changes += 1
        self._sessions.pop(session_id, None)
        if len(self._ended) >= MAX_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[session_id] = None

    # --- Following -----------------------------------------------------------------------------

    async def keep(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Follow auth until cancelled. Started means: all there is has been told once."""
        self._now = trio.lowlevel.current_clock().current_time
        started = False
        most = RETRY  # s to wait at most before the next try
        while True:
            watches, since = self._watches, trio.current_time()
            try:
                async with self._auth.watch() as changes:
                    fresh: _Known | None = _Known()
                    async for change in changes:
                        if fresh is None:
                            self._apply(self._known, change)
                        elif isinstance(change, Current):
                            self._replace(fresh)
                            fresh = None
                            if not started:
                                started = True
                                task_status.started()
                        else:
                            self._apply(fresh, change)
                problem = "auth ended the watch"
            except* _PASSING as problems:
                problem = str(next(leaves(problems)))
            if self._watches > watches and trio.current_time() - since >= STABLE:
                most = RETRY
            # Who waits for a restart of auth needs to read it once; then each try is a detail.
            is_news = most == RETRY and not self._stops()
            level = logging.WARNING if is_news else logging.DEBUG
            what = "lost touch with" if started else "can't reach"
            logger.log(level, "%s the auth service, trying on: %s", what, problem)
            await trio.sleep(most * random.random())  # noqa: S311 - spreads retries, no secret
            most = min(2 * most, FRESH)

    def _replace(self, fresh: _Known) -> None:
        """Take over what a new watch told; what ended unseen meanwhile must be asked for again."""
        if self._watches:
            logger.info("in touch with the auth service again")
        self._watches += 1
        self._known = fresh
        self._sessions.clear()
        self._tell(None)

    def _apply(self, known: _Known, change: Change) -> None:
        match change:
            case Current():
                self._last_current = trio.current_time()
                return
            case RoleChanged(role=role):
                known.roles[role.name] = role
            case RoleDeleted(name=name):
                known.roles.pop(name, None)
            case UserChanged(user=user):
                known.users[user.name] = user
            case UserDeleted(name=name):
                known.users.pop(name, None)
            case EpochChanged(user_key=key, epoch=epoch):
                known.epochs[key] = epoch
            case SessionEnded(id=session):
                self.forget(session)
            case LockChanged(lock=lock):
                known.locks[lock.name] = lock
            case LockDeleted(name=name):
                known.locks.pop(name, None)
            case AppDefined(app=app):
                known.apps[app.name] = app
            case AppUndefined(name=name):
                known.apps.pop(name, None)
            case AcmeChanged(state=state):
                known.learn(state)
            case AppServersChanged(servers=servers):
                known.servers = servers
            case AppsDown(down=down):
                known.down = frozenset(down)
            case AuthoritiesChanged(authorities=authorities):
                known.authorities = authorities
            case ProxiesChanged(proxy_ids=proxies):
                known.proxies = proxies
        if known is self._known:
            self._tell(change)

    def _tell(self, change: Change | None) -> None:
        self.changes += 1
        self._last_current = trio.current_time()
        self._moved.set()
        self._moved = trio.Event()
        self.on_change(change)


def _nothing(_: Change | None) -> None:
    """The hook of a cache that nobody listens to."""
