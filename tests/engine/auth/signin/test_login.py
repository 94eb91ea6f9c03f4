"""Signing in with a password."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.auth.world import PASSWORD, World
from tport.engine.auth.signin.hashing import Hasher
from tport.engine.defaults import ACCOUNT_QUEUE, HASH_QUEUE
from tport.engine.errors import AccessDenied, LimitExceeded, NotSignedIn


async def fail(world: World, times: int, *, remote: str = "192.0.2.1") -> None:
    for _ in range(times):
        with pytest.raises(AccessDenied):
            await world.proxy.sign_in(
                username="alice", password="wrong", remote=remote, user_agent=""
            )


async def test_five_failures_lock_the_account_for_half_an_hour(
    world: World, autojump_clock: MockClock
) -> None:
    await world.alice()
    await fail(world, 5)
    with pytest.raises(AccessDenied, match="the user name or the password is wrong"):
        await world.sign_in()
    world.pass_time(minutes=30)
    await world.sign_in()


async def test_a_success_forgets_the_failures_before_it(
    world: World, autojump_clock: MockClock
) -> None:
    await world.alice()
    await fail(world, 4)
    await world.sign_in()
    await fail(world, 4)
    await world.sign_in()


async def test_guesses_sent_all_at_once_are_counted_one_by_one(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AUTH-02 (auth part): the right password among 20 parallel guesses comes too late."""
    monkeypatch.setattr("tport.engine.auth.signin.hashing.ACCOUNT_QUEUE", 20)
    await world.alice()
    got: list[str] = []

    async def guess(password: str) -> None:
        try:
            await world.sign_in(password=password)
            got.append("in")
        except AccessDenied:
            got.append("denied")

    async with trio.open_nursery() as nursery:
        for number in range(19):
            nursery.start_soon(guess, f"guess number {number}")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(guess, PASSWORD)
    assert got == ["denied"] * 20
    assert world.audit.codes().count("TPU02W") == 1, "a lock is told once"
    assert world.audit.codes().count("T1000W") == 5, "and tries against it not at all"


async def test_one_address_may_try_forty_times_and_then_twenty_a_minute(
    world: World, autojump_clock: MockClock
) -> None:
    """AUTH-13 (auth part). Another address, even of the same network, is not affected."""
    for number in range(40):
        with pytest.raises(AccessDenied):
            await world.proxy.sign_in(
                username=f"user{number}", password="x", remote="2001:db8::1", user_agent=""
            )
    with pytest.raises(LimitExceeded) as limited:
        await world.proxy.sign_in(username="a", password="x", remote="2001:db8::1", user_agent="")
    assert 0 < limited.value.retry_after <= 4
    with pytest.raises(LimitExceeded):
        await world.proxy.sign_in(
            username="a", password="x", remote="2001:db8::ffff", user_agent=""
        )
    with pytest.raises(AccessDenied):
        await world.proxy.sign_in(
            username="a", password="x", remote="2001:db8:0:1::1", user_agent=""
        )
    world.pass_time(seconds=3)
    with pytest.raises(AccessDenied):
        await world.proxy.sign_in(username="a", password="x", remote="2001:db8::1", user_agent="")


async def test_too_many_who_wait_are_sent_away(world: World, autojump_clock: MockClock) -> None:
    """AUTH-05 (auth part): the queue for hashing has an end."""
    world.service.hasher._limiter.total_tokens = 2  # whatever CPUs this machine has
    got: list[str] = []

    async def guess(number: int) -> None:
        try:
            await world.proxy.sign_in(
                username=f"user{number}", password="x", remote=f"192.0.2.{number}", user_agent=""
            )
        except LimitExceeded:
            got.append("limited")
        except AccessDenied:
            got.append("denied")

    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(guess, number)
    inside = 2 * (1 + HASH_QUEUE)
    assert got.count("limited") >= 200 - inside - 16
    assert got.count("denied") >= inside


async def test_auth_05_tries_at_one_account_hold_up_no_other(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AUTH-05. Be the name somebody's or nobody's: of those who wait for its turn none keeps another from a hash."""
    await world.alice()
    goes_on, got = trio.Event(), Counter[str]()
    run = world.service.hasher.run

    async def stand_still(hash_: Callable[[], object]) -> object:
        if not goes_on.is_set():
            await goes_on.wait()
        return await run(hash_)

    async def guess(number: int) -> None:
        try:
            await world.proxy.sign_in(
                username="nobody", password="x", remote=f"192.0.2.{number}", user_agent=""
            )
        except LimitExceeded:
            got["limited"] += 1
        except AccessDenied:
            got["denied"] += 1

    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(world.service.hasher, "run", stand_still)
            for number in range(200):
                nursery.start_soon(guess, number)
            await wait_all_tasks_blocked()
        assert got == {"limited": 200 - 1 - ACCOUNT_QUEUE}

        await world.sign_in()  # meanwhile
        goes_on.set()
    assert got["denied"] == 1 + ACCOUNT_QUEUE


async def test_a_code_takes_no_place_of_who_wants_a_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """And needs none: where all are taken, a code is judged nevertheless."""
    hasher = Hasher(threads=1)
    monkeypatch.setattr("tport.engine.auth.signin.hashing.HASH_QUEUE", 1)
    async with hasher.turn("a"), hasher.turn("b"):
        with pytest.raises(LimitExceeded):
            async with hasher.turn("c"):
                raise AssertionError("a third")
        async with hasher.turn("d", hashes=False), hasher.turn("e", hashes=False):
            pass
    async with hasher.turn("d", hashes=False), hasher.turn("a"), hasher.turn("b"):
        pass

    assert hasher.refused == 1


async def test_a_session_ends_at_sign_out_and_at_its_time(world: World) -> None:
    first = await world.alice()
    second = await world.sign_in()
    await world.proxy.sign_out(id=first.session.id)
    await world.proxy.sign_out(id=first.session.id)  # gone already is fine
    with pytest.raises(NotSignedIn):
        await world.proxy.web_session(id=first.session.id)
    world.pass_time(hours=12, seconds=-1)
    await world.proxy.web_session(id=second.session.id)
    world.pass_time(seconds=1)
    with pytest.raises(NotSignedIn):
        await world.proxy.web_session(id=second.session.id)


async def test_a_password_typed_where_the_name_goes_is_not_written_down(
    world: World, autojump_clock: MockClock
) -> None:
    """As far as it can be told: no name has a space in it."""
    with pytest.raises(AccessDenied):
        await world.sign_in(name=PASSWORD, password="x")
    with pytest.raises(AccessDenied):
        await world.sign_in(name="nobody", password="x")

    failed = [event.fields["user"] for event in world.audit.events if event.type == "user.login"]
    assert failed == ["", "nobody"]
    assert PASSWORD not in repr(world.audit.events)
