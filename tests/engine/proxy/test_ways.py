"""What was found out for one request of a session counts for the next, and for none after anything moved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, memory_stream_pair

from tests.engine.api.scripted import ScriptedAuth, session, user
from tests.fakes import START, WallClock
from tport.engine.api.answers import SignedSession
from tport.engine.api.cache import AuthCache
from tport.engine.api.changes import (
    LockChanged,
    RoleChanged,
    SessionEnded,
    UserChanged,
    UserDeleted,
)
from tport.engine.defaults import AUTH_GRACE
from tport.engine.errors import AccessDenied
from tport.engine.net.mux import Mux
from tport.engine.proxy import ways as ways_module
from tport.engine.proxy.app_session import Credentials
from tport.engine.proxy.tunnels import Tunnel, Tunnels
from tport.engine.proxy.ways import Ways
from tport.engine.types.app import App, AppServer
from tport.engine.types.identity import Identity
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.role import Role
from tport.engine.types.session import AppSession
from tport.engine.types.user import User


class World:
    """A proxy that knows of `s1`, and one agent that has its credential."""

    def __init__(self, auth: ScriptedAuth, cache: AuthCache, clock: WallClock) -> None:
        self.auth = auth
        self.cache = cache
        self.clock = clock
        self.tunnels = Tunnels(clock)
        self.credentials = Credentials(auth.api, clock)
        self.judged = 0
        self.may = True
        self.ways = Ways(cache, self.credentials, self.tunnels, clock, allowed=self._allowed)

    def _allowed(self, session: AppSession, user: User) -> Sequence[Tunnel]:
        self.judged += 1
        if not self.may:
            raise AccessDenied("access denied", reason="no role")
        return self.tunnels.candidates(session.app, session.id)

    def tunnel(self, agent: str) -> Tunnel:
        ours, _ = memory_stream_pair()
        mux = Mux(ours, client=True, peer_may_open=False)
        identity = Identity(kind="agent", name=agent, cluster="main")
        made = Tunnel(mux, identity, remote="", since=START)
        grafana = App(name="grafana", uri="http://localhost:3000")
        made.servers = {"grafana": AppServer(app=grafana, labels={}, host_id=agent)}
        self.tunnels.add(made)
        return made

    async def use(self, session: str = "s1") -> None:
        """Do what a first request does: have session and credential known, and the agent told."""
        await self.cache.app_session(session)
        credential = await self.credentials.of(session)
        for tunnel in self.tunnels.newest():
            tunnel.told(session, credential)


@asynccontextmanager
async def opened() -> AsyncIterator[World]:
    auth, clock = ScriptedAuth(), WallClock()
    auth.sessions |= {name: session(name) for name in ("s1", "s2", "s3")}
    auth.sign = lambda _: SignedSession(
        credential="jws",
        renew_at=clock() + timedelta(minutes=4),
        expires=clock() + timedelta(minutes=5),
    )
    cache = AuthCache(auth.api, clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.keep)
        world = World(auth, cache, clock)
        world.tunnel("agent")
        await world.use()
        yield world
        nursery.cancel_scope.cancel()


async def test_a_way_is_found_once_and_counts_for_the_next_request() -> None:
    async with opened() as world:
        [tunnel] = world.tunnels.newest()
        found = [world.ways.of("s1") for _ in range(5)]

        assert [way and (way.session.id, way.tunnel) for way in found] == [("s1", tunnel)] * 5
        assert world.judged == 1
        assert world.ways.of("of nobody") is None


Move = Callable[[World], Awaitable[object]]


async def _ended(world: World) -> None:
    await world.auth.tell(SessionEnded(id="s1"))


async def _signed_out_everywhere(world: World) -> None:
    await world.auth.tell(SessionEnded(id=session().web_session))


async def _left_by_this_proxy(world: World) -> None:
    world.cache.forget("s1")


async def _user_deleted(world: World) -> None:
    await world.auth.tell(UserDeleted(name="alice"))


async def _user_changed(world: World) -> None:
    await world.auth.tell(UserChanged(user=user(epoch=2)))


async def _role_changed(world: World) -> None:
    world.may = False
    await world.auth.tell(RoleChanged(role=Role(name="access")))


async def _expired(world: World) -> None:
    world.clock.now = session().expires


async def _to_be_renewed(world: World) -> None:
    world.clock.now += timedelta(minutes=4)


async def _refused_by_its_agent(world: World) -> None:
    world.credentials.forget("s1")


async def _agent_gone(world: World) -> None:
    for tunnel in list(world.tunnels.newest()):
        world.tunnels.remove(tunnel)


async def _agent_anew(world: World) -> None:
    world.tunnel("agent")  # which was told no credential yet


@pytest.mark.parametrize(
    "move",
    [
        _ended,
        _signed_out_everywhere,
        _left_by_this_proxy,
        _user_deleted,
        _user_changed,
        _role_changed,
        _expired,
        _to_be_renewed,
        _refused_by_its_agent,
        _agent_gone,
        _agent_anew,
    ],
)
async def test_a_way_counts_no_more_once_something_moved(move: Move) -> None:
    async with opened() as world:
        assert world.ways.of("s1") is not None
        await move(world)

        assert world.ways.of("s1") is None


async def test_a_lock_counts_while_it_is_in_force_whatever_the_clock_said_between() -> None:
    """A clock that is ahead for a moment has a lock's end come, and go again."""
    async with opened() as world:
        end = START + timedelta(minutes=2)
        await world.auth.tell(
            LockChanged(lock=Lock(name="l", target=LockTarget(user="alice"), expires=end))
        )
        assert world.ways.of("s1") is None
        world.clock.now = end
        assert world.ways.of("s1") is not None
        world.clock.now = START
        assert world.ways.of("s1") is None


async def test_nobody_has_a_way_once_auth_was_silent_for_too_long(
    autojump_clock: MockClock,
) -> None:
    async with opened() as world:
        assert world.ways.of("s1") is not None
        await trio.sleep(AUTH_GRACE + 1)

        assert world.ways.of("s1") is None


async def test_a_device_token_has_no_way_by_a_cookie() -> None:
    async with opened() as world:
        world.auth.sessions["d1"] = replace(session("d1"), web_session="")
        await world.use("d1")

        assert world.ways.of("d1") is None


async def test_ways_are_bounded_and_those_that_count_no_more_are_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ways_module, "READY_SESSIONS", 2)
    async with opened() as world:
        for name in ("s2", "s3"):
            await world.use(name)
        for name in ("s1", "s2"):
            assert world.ways.of(name) is not None
        assert len(world.ways) == 2
        assert world.ways.of("s3") is not None
        assert list(world.ways._known) == ["s2", "s3"]

        await world.auth.tell(SessionEnded(id="s2"))
        assert world.ways.of("none") is None
        assert len(world.ways) == 0
