"""An auth service that says what a test tells it to, for those who live on its watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import cast

import trio
import trio.testing

from tests.fakes import START
from tport.engine.api.answers import Authorities, SignedSession
from tport.engine.api.changes import (
    AuthoritiesChanged,
    Change,
    Current,
    EpochChanged,
    RoleChanged,
    UserChanged,
)
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import ConnectionProblem, NotSignedIn
from tport.engine.types.event import Event
from tport.engine.types.role import Role
from tport.engine.types.session import AppSession
from tport.engine.types.user import User, user_key

AUTHORITIES = Authorities(cluster="main", host=("h",), web=("w",), user=("u",), jwks={"keys": []})


def user(name: str = "alice", *, epoch: int = 1, roles: tuple[str, ...] = ("access",)) -> User:
    return User(name=name, id=f"id-{name}", roles=roles, epoch=epoch, created=START)


def session(
    id: str = "s1", *, name: str = "alice", epoch: int = 1, expires: datetime | None = None
) -> AppSession:
    return AppSession(
        id=id,
        web_session="w1",
        user=name,
        user_id=f"id-{name}",
        epoch=epoch,
        cluster="main",
        app="grafana",
        host="grafana.proxy.test",
        created=START,
        expires=expires or START + timedelta(hours=1),
    )


class ScriptedAuth:
    """Sessions in a dict, a watch that a test feeds by `tell`, calls that a test may hold up.

    Attributes:
        failure: what calls raise, when set.
        first: what a new watch tells before `Current`.
        asked: the sessions asked for, in order.
        before_answer: awaited after an answer was made and before it is returned.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, AppSession] = {}
        self.failure: Exception | None = None
        self.refuse_watch: Exception | None = None
        self.first: list[Change] = [
            RoleChanged(role=Role(name="access")),
            UserChanged(user=user()),
            EpochChanged(user_key=user_key("id-alice"), epoch=1),
            AuthoritiesChanged(authorities=AUTHORITIES),
        ]
        self.asked: list[str] = []
        self.signed: list[str] = []
        self.watched: list[float] = []
        self.emitted: list[tuple[Event, ...]] = []
        self.tries = 0  # to hand over events
        self.refused_events: dict[str, Exception] = {}
        self.before_answer: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self.sign: Callable[[str], SignedSession] | None = None
        self._tell: trio.MemorySendChannel[Change] | None = None

    @property
    def api(self) -> AuthAPI:
        return cast("AuthAPI", self)

    async def tell(self, *changes: Change) -> None:
        """Tell the watch, and let it be heard."""
        assert self._tell is not None
        for change in changes:
            self._tell.send_nowait(change)
        await trio.testing.wait_all_tasks_blocked()

    async def lose_watch(self) -> None:
        assert self._tell is not None
        self._tell.close()
        await trio.testing.wait_all_tasks_blocked()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Change]]:
        self.watched.append(trio.current_time())
        if self.refuse_watch is not None:
            raise self.refuse_watch
        self._tell, changes = trio.open_memory_channel[Change](1000)
        for change in (*self.first, Current()):
            self._tell.send_nowait(change)

        async def follow() -> AsyncIterator[Change]:
            async for change in changes:
                yield change
            raise ConnectionProblem("the watch was lost")

        yield follow()

    async def app_session(self, *, id: str) -> AppSession:
        self.asked.append(id)
        answer = self.sessions.get(id)
        await self.before_answer()
        if self.failure is not None:
            raise self.failure
        if answer is None:
            raise NotSignedIn("none, or over")
        return answer

    async def sign_session(self, *, id: str) -> SignedSession:
        self.signed.append(id)
        await self.before_answer()
        if self.failure is not None:
            raise self.failure
        assert self.sign is not None
        return self.sign(id)

    async def emit(self, *, events: tuple[Event, ...]) -> None:
        self.tries += 1
        await trio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        for event in events:
            if event.type in self.refused_events:
                raise self.refused_events[event.type]
        self.emitted.append(events)
