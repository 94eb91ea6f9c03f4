"""What proxies and agents decide by: never older than they say, never a session that has ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.api.scripted import ScriptedAuth, session, user
from tests.fakes import START, WallClock
from tport.engine.api import cache as cache_module
from tport.engine.api.cache import AuthCache
from tport.engine.api.changes import (
    AcmeChanged,
    AppDefined,
    AppUndefined,
    Change,
    Current,
    EpochChanged,
    LockChanged,
    LockDeleted,
    RoleChanged,
    RoleDeleted,
    SessionEnded,
    UserChanged,
    UserDeleted,
)
from tport.engine.defaults import AUTH_GRACE, FRESH
from tport.engine.errors import (
    AccessDenied,
    ConnectionProblem,
    LimitExceeded,
    Locked,
    NotSignedIn,
    Unavailable,
)
from tport.engine.types.acme import AcmeState
from tport.engine.types.app import App
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.role import Role
from tport.engine.types.user import user_key


@asynccontextmanager
async def following(
    auth: ScriptedAuth,
    clock: WallClock | None = None,
    stops: Callable[[], bool] = lambda: False,
) -> AsyncIterator[AuthCache]:
    cache = AuthCache(auth.api, clock or WallClock(), stops=stops)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.keep)
        yield cache
        nursery.cancel_scope.cancel()


async def test_a_session_is_asked_for_once_and_then_remembered() -> None:
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()
    async with following(auth) as cache:
        assert await cache.app_session("s1") == session()
        assert await cache.app_session("s1") == session()

    assert auth.asked == ["s1"]


async def test_an_expired_session_is_none_by_the_wall_clock_at_once() -> None:
    auth, clock = ScriptedAuth(), WallClock()
    auth.sessions["s1"] = session(expires=START + timedelta(minutes=1))
    async with following(auth, clock) as cache:
        await cache.app_session("s1")
        clock.now += timedelta(minutes=1)

        assert cache.live_session("s1") is None
        assert cache.is_over("s1")
        with pytest.raises(NotSignedIn):
            await cache.app_session("s1")


async def test_a_session_that_ended_is_not_even_asked_for() -> None:
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()
    async with following(auth) as cache:
        await cache.app_session("s1")
        await auth.tell(SessionEnded(id="s1"))

        assert cache.is_over("s1")
        with pytest.raises(NotSignedIn):
            await cache.app_session("s1")

    assert auth.asked == ["s1"]


async def test_with_a_sign_in_ends_what_came_from_it_whether_or_not_that_is_told() -> None:
    """Auth tells of each; but whoever signs out may cut auth short after the first."""
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()
    async with following(auth) as cache:
        await cache.app_session("s1")
        await auth.tell(SessionEnded(id=session().web_session))

        assert cache.is_over("s1")


async def test_a_session_that_ends_while_it_is_looked_up_is_none() -> None:
    """The answer left auth before the end did, and comes in after it."""
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()

    async def end() -> None:
        await auth.tell(SessionEnded(id="s1"))

    auth.before_answer = end
    async with following(auth) as cache:
        with pytest.raises(NotSignedIn):
            await cache.app_session("s1")
        assert cache.live_session("s1") is None


async def test_an_answer_from_before_a_lost_watch_is_asked_for_again(
    autojump_clock: MockClock,
) -> None:
    """Its end may have been told to nobody, between the two watches."""
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()

    async def lose_the_watch_and_the_session() -> None:
        auth.before_answer = trio.lowlevel.checkpoint
        del auth.sessions["s1"]
        await auth.lose_watch()
        await trio.sleep(2 * cache_module.RETRY)

    auth.before_answer = lose_the_watch_and_the_session
    async with following(auth) as cache:
        with pytest.raises(NotSignedIn):
            await cache.app_session("s1")

    assert auth.asked == ["s1", "s1"]


async def test_what_auth_just_made_is_not_remembered_over_its_end() -> None:
    auth = ScriptedAuth()
    async with following(auth) as cache:
        await auth.tell(SessionEnded(id="s1"))
        cache.remember(session())

        assert cache.live_session("s1") is None
        assert cache.is_over("s1")


@pytest.mark.parametrize(
    "change",
    [
        UserChanged(user=user(epoch=2)),
        UserDeleted(name="alice"),
        UserChanged(user=user("alice").__class__(name="alice", roles=(), id="another")),
    ],
    ids=["more or less granted", "deleted", "made anew"],
)
async def test_a_change_of_the_user_ends_the_session(change: Change) -> None:
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()
    async with following(auth) as cache:
        await cache.app_session("s1")
        await auth.tell(change)

        assert cache.live_session("s1") is None
        assert cache.is_over("s1")


async def test_a_device_token_whose_user_changes_while_it_is_looked_up_is_asked_for_again() -> None:
    """It outlives that, as no browser's session does: its program must not be told that it is wrong."""
    auth = ScriptedAuth()
    auth.sessions = {"s1": session(), "t1": replace(session("t1"), web_session="")}

    async def change_meanwhile() -> None:
        auth.before_answer = trio.lowlevel.checkpoint
        auth.sessions["t1"] = replace(auth.sessions["t1"], epoch=2)
        await auth.tell(UserChanged(user=user(epoch=2)))

    async with following(auth) as cache:
        auth.before_answer = change_meanwhile
        assert (await cache.app_session("t1")).epoch == 2
        with pytest.raises(NotSignedIn):
            await cache.app_session("s1")

    assert auth.asked == ["t1", "t1", "s1"]


async def test_a_session_newer_than_the_watch_waits_for_it(autojump_clock: MockClock) -> None:
    """Auth made a session for a user that the watch has not yet told of; it does, 1 s later."""
    auth = ScriptedAuth()
    auth.sessions["s1"] = session(epoch=2)
    async with following(auth) as cache, trio.open_nursery() as nursery:

        async def tell_later() -> None:
            await trio.sleep(1)
            await auth.tell(UserChanged(user=user(epoch=2)))

        nursery.start_soon(tell_later)

        assert (await cache.app_session("s1")).epoch == 2
        assert trio.current_time() == 1


async def test_a_session_that_the_watch_never_explains_is_refused_in_time(
    autojump_clock: MockClock,
) -> None:
    auth = ScriptedAuth()
    auth.sessions["s1"] = session(epoch=2)
    async with following(auth) as cache:
        with pytest.raises(NotSignedIn):
            await cache.app_session("s1")

        assert trio.current_time() == FRESH
        assert cache.live_session("s1") is None


async def test_without_auth_live_sessions_go_on_for_the_grace_and_no_longer(
    autojump_clock: MockClock,
) -> None:
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()
    async with following(auth) as cache:
        await cache.app_session("s1")
        auth.refuse_watch = ConnectionProblem("down")
        auth.failure = ConnectionProblem("down")
        await auth.lose_watch()

        await trio.sleep(AUTH_GRACE)
        assert await cache.app_session("s1") == session()
        with pytest.raises(Unavailable):
            await cache.app_session("not seen before")

        await trio.sleep(1)
        with pytest.raises(Unavailable):
            await cache.app_session("s1")
        with pytest.raises(Unavailable):
            cache.check_fresh()


async def test_a_word_each_second_keeps_it_fresh(autojump_clock: MockClock) -> None:
    auth = ScriptedAuth()
    async with following(auth) as cache:
        for _ in range(100):
            await trio.sleep(1)
            await auth.tell(Current())

        assert cache.age < 1


async def test_a_new_watch_forgets_every_session_and_calls_none_over(
    autojump_clock: MockClock,
) -> None:
    """What ended meanwhile was told to nobody; but most of it did not end."""
    auth = ScriptedAuth()
    auth.sessions["s1"] = session()
    async with following(auth) as cache:
        told: list[Change | None] = []
        await cache.app_session("s1")
        cache.on_change = told.append
        await auth.lose_watch()
        await trio.sleep(cache_module.RETRY)

        assert told == [None]
        assert cache.live_session("s1") is None
        assert not cache.is_over("s1")
        assert await cache.app_session("s1") == session()


async def test_a_new_watch_replaces_what_is_known_as_a_whole(autojump_clock: MockClock) -> None:
    auth = ScriptedAuth()
    async with following(auth) as cache:
        auth.first = [RoleChanged(role=Role(name="new")), *auth.first[1:]]
        await auth.lose_watch()
        assert set(cache.roles) == {"access"}  # the old until the new is whole
        await trio.sleep(cache_module.RETRY)

        assert set(cache.roles) == {"new"}


async def test_a_watch_that_is_lost_again_and_again_is_begun_ever_more_rarely(
    autojump_clock: MockClock,
) -> None:
    """R-08: as each time were the first only after a minute without a loss."""
    auth = ScriptedAuth()
    waited: list[float] = []

    async def lose_and_wait() -> None:
        lost = trio.current_time()
        await auth.lose_watch()
        await trio.sleep(FRESH)
        waited.append(auth.watched[-1] - lost)

    async with following(auth):
        for _ in range(20):
            await lose_and_wait()
        await trio.sleep(cache_module.STABLE)
        await lose_and_wait()

    assert waited[0] <= cache_module.RETRY
    assert cache_module.RETRY < max(waited) <= FRESH
    assert waited[-1] <= cache_module.RETRY


async def test_changes_are_passed_on_after_they_count() -> None:
    auth = ScriptedAuth()
    async with following(auth) as cache:
        seen: list[object] = []
        cache.on_change = lambda change: seen.append((change, dict(cache.roles)))
        await auth.tell(RoleDeleted(name="access"), Current())

        assert seen == [(RoleDeleted(name="access"), {})]  # Current changes nothing


async def test_an_agent_waits_for_an_epoch_that_it_was_not_told_yet(
    autojump_clock: MockClock,
) -> None:
    auth, key = ScriptedAuth(), user_key("id-alice")
    async with following(auth) as cache, trio.open_nursery() as nursery:
        nursery.start_soon(cache.wait_for_epoch, key, 2)
        await trio.sleep(1)
        await auth.tell(EpochChanged(user_key=key, epoch=2))

    assert cache.epoch(key) == 2
    assert cache.epoch("nobody's") == -1
    assert trio.current_time() == 1


async def test_the_watch_is_tried_again_soon_then_less_often_and_said_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    auth = ScriptedAuth()
    async with following(auth):
        caplog.set_level(logging.INFO)
        auth.refuse_watch = LimitExceeded("too many at once")
        await auth.lose_watch()
        await trio.sleep(600)
        tries = auth.watched
        gaps = [b - a for a, b in pairwise(tries)]
        assert max(gaps) <= FRESH + 0.001
        assert 600 / FRESH < len(tries) < 600  # about one in 2.5 s
        lost = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len(lost) == 1

        auth.refuse_watch = None
        await trio.sleep(FRESH)
        assert "again" in caplog.records[-1].message


async def test_whoever_is_ending_does_not_say_that_it_lost_auth(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    auth, stop = ScriptedAuth(), trio.Event()
    async with following(auth, stops=stop.is_set):
        stop.set()
        await auth.lose_watch()
        await trio.sleep(1)
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_a_machine_that_auth_refuses_is_told_so() -> None:
    auth = ScriptedAuth()
    auth.refuse_watch = AccessDenied("this agent was removed")
    with pytest.RaisesGroup(AccessDenied, flatten_subgroups=True, allow_unwrapped=True):
        await AuthCache(auth.api, WallClock()).keep()


async def test_a_machine_that_is_locked_tries_on_until_the_lock_is_lifted(
    autojump_clock: MockClock,
) -> None:
    auth = ScriptedAuth()
    async with following(auth) as cache:
        auth.refuse_watch = Locked("this agent is locked")
        await auth.lose_watch()
        await trio.sleep(600)
        with pytest.raises(Unavailable):
            cache.check_fresh()
        auth.refuse_watch = None
        await trio.sleep(FRESH)
        cache.check_fresh()


async def test_locks_and_applications_are_known_as_they_were_told_last() -> None:
    auth = ScriptedAuth()
    lock = Lock(name="l", target=LockTarget(role="x"))
    app = App(name="a", uri="http://x")
    async with following(auth) as cache:
        for change in (LockChanged(lock=lock), AppDefined(app=app)):
            await auth.tell(change)
        later = replace(lock, message="m")
        await auth.tell(LockChanged(lock=later))
        assert (list(cache.locks), list(cache.apps)) == ([later], [app])
        await auth.tell(LockDeleted(name="l"))
        await auth.tell(AppUndefined(name="a"))
        await auth.tell(LockDeleted(name="never there"))
        assert (list(cache.locks), list(cache.apps)) == ([], [])


async def test_memory_is_bounded_and_the_oldest_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cache_module, "MAX_SESSIONS", 2)
    monkeypatch.setattr(cache_module, "MAX_ENDED", 2)
    auth = ScriptedAuth()
    async with following(auth) as cache:
        for name in ("a", "b", "c"):
            cache.remember(session(name))
        cache.remember(session("c"))  # again: nobody has to make room
        assert [name for name in "abc" if cache.live_session(name)] == ["b", "c"]

        for name in ("x", "y", "z"):
            cache.forget(name)
        assert [name for name in "xyz" if cache.is_ended(name)] == ["y", "z"]
        assert not cache.is_over("a")  # forgotten is not over
    await wait_all_tasks_blocked()


async def test_of_names_without_a_certificate_the_latest_are_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many as auth remembers, which doesn't tell what it forgets."""
    monkeypatch.setattr(cache_module, "MAX_UNISSUED", 2)
    auth = ScriptedAuth()

    def state(name: str, **how: Any) -> AcmeChanged:
        return AcmeChanged(state=AcmeState(directory="ca", name=name, names=(name,), **how))

    async with following(auth) as cache:
        for change in (
            state("a.test"),
            state("b.test"),
            state("b.test", serial="1"),
            state("c.test"),
            state("a.test", failures=1),
            state("d.test"),
        ):
            await auth.tell(change)

        assert {name for _, name in cache.acme} == {"a.test", "b.test", "d.test"}
