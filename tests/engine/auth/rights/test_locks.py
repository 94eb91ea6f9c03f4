"""Locks: who is kept out, when, and what is told of it to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.machines.test_watch import after, read_on, until_current
from tests.engine.auth.world import GRAFANA, PROXY, World, open_world
from tests.fakes import START
from tport.engine.api.answers import ProxyReport, TunnelReport
from tport.engine.api.changes import Change, EpochChanged, LockChanged, LockDeleted
from tport.engine.auth.rights.locks import AT_ONCE, EVERY
from tport.engine.auth.service import TICK
from tport.engine.errors import AccessDenied, AlreadyExists, InvalidRequest, Locked, NotFound
from tport.engine.storage.backend import Delete, Item, Operation
from tport.engine.types.lock import Lock, LockTarget
from tport.engine.types.resource import LockResource
from tport.engine.types.user import User, user_key

ALICE = LockTarget(user="alice")


async def test_a_lock_keeps_a_person_out_until_it_is_lifted_or_over(world: World) -> None:
    alice = await world.alice()
    lock = await world.admin.create_lock(target=ALICE, message="ask Kim", ttl=60)

    with pytest.raises(Locked, match=r"your account is locked until .* UTC: ask Kim"):
        await world.proxy.web_session(id=alice.session.id)
    with pytest.raises(AccessDenied) as refused:
        await world.sign_in()
    assert not isinstance(refused.value, Locked), "who guesses passwords learns nothing"
    world.pass_time(seconds=60)
    assert (await world.proxy.web_session(id=alice.session.id)).user == "alice"
    assert await world.admin.list_locks() == ()

    lock = await world.admin.create_lock(target=ALICE, message="", ttl=0)
    assert [each.name for each in await world.admin.list_locks()] == [lock.name]
    await world.admin.delete_lock(name=lock.name)
    assert (await world.sign_in()).session.user == "alice"
    assert [c for c in world.audit.codes() if c.startswith("TLK")] == ["TLK00I", "TLK00I", "TLK01I"]


async def test_a_locked_person_spends_no_invite(world: World) -> None:
    invite = await world.admin.create_user(name="alice", roles=("access",), traits={})
    lock = await world.admin.create_lock(target=ALICE, message="", ttl=0)
    with pytest.raises(Locked):
        await world.accept(invite.url)

    await world.admin.delete_lock(name=lock.name)

    assert (await world.accept(invite.url)).session.user == "alice"


async def test_a_lock_on_a_role_keeps_out_who_has_it_and_who_gets_it(world: World) -> None:
    alice, bob = await world.alice(), await world.alice("bob", roles=("auditor",))
    await world.admin.create_lock(target=LockTarget(role="access"), message="", ttl=0)

    with pytest.raises(Locked):
        await world.proxy.web_session(id=alice.session.id)
    assert (await world.proxy.web_session(id=bob.session.id)).user == "bob"
    await world.admin.update_user(name="bob", roles=("access",), traits=None)
    with pytest.raises(Locked):
        await world.proxy.web_session(id=bob.session.id)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (LockTarget(), InvalidRequest),
        (LockTarget(user="alice", role="access"), InvalidRequest),
        (LockTarget(user="alcie"), NotFound),
        (LockTarget(role="acess"), NotFound),
        (LockTarget(server_id="nowhere"), NotFound),
        (LockTarget(server_id="proxy-1"), InvalidRequest),
    ],
)
async def test_a_lock_that_would_keep_nobody_out_is_refused(
    world: World, target: LockTarget, problem: type[Exception]
) -> None:
    await world.alice()
    await world.proxy.report(report=ProxyReport(proxy_id="proxy-1", public_addrs=(), tunnels=()))
    with pytest.raises(problem):
        await world.admin.create_lock(target=target, message="", ttl=0)
    assert await world.admin.list_locks() == ()


@pytest.mark.parametrize("message", ["x" * 513, "two\nlines", "\x1b[31m"])
async def test_a_message_is_one_line_that_can_be_shown(world: World, message: str) -> None:
    await world.alice()
    with pytest.raises(InvalidRequest, match="one line"):
        await world.admin.create_lock(target=ALICE, message=message, ttl=0)


async def test_an_agent_s_host_name_names_it_while_it_is_alone_with_it(world: World) -> None:
    await world.serve(GRAFANA, host="agent-7")

    lock = await world.admin.create_lock(target=LockTarget(server_id="agent-7"), message="", ttl=0)

    assert lock.target.server_id == "agent-7"
    with pytest.raises(Locked):
        await world.caller("agent", name="agent-7").emit(events=())
    await world.caller("agent", name="agent-8").emit(events=())


async def test_what_cannot_be_written_down_is_not_locked(world: World) -> None:
    """OPS-02."""
    await world.alice()
    world.audit.broken = True
    with pytest.raises(Exception, match="can't be written"):
        await world.admin.create_lock(target=ALICE, message="", ttl=0)
    assert await world.admin.list_locks() == ()


async def test_proxies_are_told_of_every_lock(world: World, autojump_clock: MockClock) -> None:
    await world.alice()
    before = await world.admin.create_lock(target=LockTarget(role="editor"), message="", ttl=0)
    async with world.proxy.watch() as changes:
        assert LockChanged(lock=before) in await until_current(changes)
        lock = await world.admin.create_lock(target=ALICE, message="m", ttl=0)
        assert await after(changes) == LockChanged(lock=lock)
        await world.admin.delete_lock(name=lock.name)
        assert await after(changes) == LockDeleted(name=lock.name)


async def test_agents_are_told_of_locked_people_without_their_names(
    world: World, autojump_clock: MockClock
) -> None:
    """AG-12 (auth part): a lock on a user voids what was granted to a key."""
    alice = await world.alice()
    key = user_key(alice.session.user_id)
    async with world.agent.watch() as changes:
        await until_current(changes)
        lock = await world.admin.create_lock(target=ALICE, message="alice!", ttl=0)
        assert await after(changes) == EpochChanged(user_key=key, epoch=-1)
        await world.admin.update_user(name="alice", roles=("auditor",), traits=None)
        assert await after(changes) == EpochChanged(user_key=key, epoch=-1)
        async with world.caller("agent", name="agent-2").watch() as later:
            told = await until_current(later)
        assert EpochChanged(user_key=key, epoch=-1) in told
        assert "alice" not in repr(told)
        await world.admin.delete_lock(name=lock.name)
        assert await after(changes) == EpochChanged(user_key=key, epoch=2)
        role = await world.admin.create_lock(
            target=LockTarget(role="access"), message="alice!", ttl=0
        )
        assert await after(changes) == LockChanged(lock=Lock(name=role.name, target=role.target))


async def test_the_watch_of_a_locked_agent_ends(world: World, autojump_clock: MockClock) -> None:
    await world.serve(GRAFANA, host="agent-1")
    async with world.agent.watch() as changes:
        await until_current(changes)
        await world.admin.create_lock(target=LockTarget(server_id="agent-1"), message="", ttl=0)
        with pytest.raises(Locked):
            await after(changes)
    with pytest.raises(Locked):
        async with world.agent.watch():
            raise AssertionError("it was let in")


@pytest.mark.parametrize("ttl", [-1.0, float(10**9)])
async def test_a_lock_lasts_for_a_time_that_can_be_meant(world: World, ttl: float) -> None:
    await world.alice()

    with pytest.raises(InvalidRequest, match="a lock lasts at most"):
        await world.admin.create_lock(target=ALICE, message="", ttl=ttl)


async def test_a_lock_from_a_file_must_have_a_name_and_time_left(world: World) -> None:
    await world.alice()
    over = Lock(name="over", target=ALICE, expires=world.clock())
    for lock, why in ((over, "over already"), (Lock(name="a b/c", target=ALICE), "no name for")):
        with pytest.raises(InvalidRequest, match=why):
            await world.admin.put_resource(resource=LockResource(lock=lock), mode="create")

    assert await world.admin.list_locks() == ()


async def test_there_are_so_many_locks_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DOS-05: each is looked at on each request, in proxies and agents too."""
    monkeypatch.setattr("tport.engine.auth.rights.locks.MAX_LOCKS", 2)
    await world.alice()
    for _ in range(2):
        await world.admin.create_lock(target=ALICE, message="", ttl=0)

    with pytest.raises(InvalidRequest, match="there are 2 locks already"):
        await world.admin.create_lock(target=ALICE, message="", ttl=0)


async def test_a_host_name_that_two_agents_have_locks_neither(world: World) -> None:
    """A lock on the wrong one leaves the right one in."""
    tunnels = tuple(
        TunnelReport(
            host_id=each, hostname="box", version="1", remote="192.0.2.9", since=START, servers=()
        )
        for each in ("one", "two")
    )
    await world.proxy.report(
        report=ProxyReport(proxy_id="proxy-1", public_addrs=(f"{PROXY}:3080",), tunnels=tunnels)
    )

    with pytest.raises(InvalidRequest, match="2 agents are called 'box'"):
        await world.admin.create_lock(target=LockTarget(server_id="box"), message="", ttl=0)
    lock = await world.admin.create_lock(target=LockTarget(server_id="two"), message="", ttl=0)
    assert lock.target.server_id == "two"


async def test_a_lock_by_a_host_name_is_on_the_agent_that_alone_has_it(world: World) -> None:
    """Whatever the machine is called later, or another is called by its name."""
    tunnel = TunnelReport(
        host_id="id-7", hostname="box", version="1", remote="192.0.2.9", since=START, servers=()
    )
    await world.proxy.report(
        report=ProxyReport(proxy_id="proxy-1", public_addrs=(f"{PROXY}:3080",), tunnels=(tunnel,))
    )
    lock = await world.admin.create_lock(target=LockTarget(server_id="box"), message="", ttl=0)
    assert lock.target.server_id == "id-7"


async def settle(world: World, **how: float) -> None:
    """Let a time pass, as auth's clock shows it, and auth do what it does by the way."""
    world.pass_time(**how)
    await world.backend.sweep()
    await world.service.set_back.tick()
    await trio.sleep(EVERY + TICK)
    await world.service.set_back.tick()


@pytest.mark.parametrize("maker", ["call", "file"])
async def test_a_clock_that_was_ahead_has_lifted_no_lock(
    autojump_clock: MockClock, maker: str
) -> None:
    resource = LockResource(lock=Lock(name="mine", target=ALICE, expires=START + timedelta(days=7)))
    async with open_world(monotonic=trio.current_time) as world:
        await world.alice()
        if maker == "call":
            await world.admin.create_lock(target=ALICE, message="", ttl=7 * 86400)
        else:
            await world.admin.put_resource(resource=resource, mode="create")
        before = await world.admin.list_locks()

        await settle(world, days=8)
        assert await world.admin.list_locks() == ()
        await settle(world, days=-8)

        assert await world.admin.list_locks() == before
        with pytest.raises(AccessDenied):
            await world.sign_in()
        with pytest.raises(Locked):
            await world.service.locks.check_person(await user_of(world))
        await settle(world, days=8)
        await world.service.locks.check_person(await user_of(world))


async def user_of(world: World) -> User:
    return await world.service.cluster.stores.users.get("alice")


async def test_who_is_away_meanwhile_finds_the_lock_when_auth_starts(
    world: World, autojump_clock: MockClock
) -> None:
    """What has been put aside is in force by the clock of the next start; and 0.1 let storage forget."""
    await world.alice()
    stores = world.service.cluster.stores
    ends = world.clock() + timedelta(days=7)
    aside, old = (Lock(name=name, target=ALICE, expires=ends) for name in ("aside", "old"))
    await stores.locks_over.put("aside", aside)
    await stores.locks.put("old", old, expires=ends)

    await world.service.locks.begin()

    assert set(await world.admin.list_locks()) == {aside, old}
    assert (await stores.locks.read("old")).expires is None
    assert await stores.locks_over.all() == []


async def test_agents_are_told_when_a_lock_is_over(world: World, autojump_clock: MockClock) -> None:
    alice = await world.alice()
    key = user_key(alice.session.user_id)
    await world.admin.create_lock(target=ALICE, message="", ttl=60)
    async with world.agent.watch() as changes:
        assert EpochChanged(user_key=key, epoch=-1) in await until_current(changes)
        world.pass_time(seconds=60)
        assert await after(changes) == EpochChanged(user_key=key, epoch=1)


async def test_a_lock_that_is_over_and_not_put_aside_yet_keeps_nobody_out_of_a_watch_begun_anew(
    world: World, autojump_clock: MockClock
) -> None:
    """As on a full disk, on which nothing is put aside."""
    alice = await world.alice()
    key = user_key(alice.session.user_id)
    stores = world.service.cluster.stores
    for target in (ALICE, LockTarget(server_id="agent-1")):
        name = str(target)
        await stores.locks.put(name, Lock(name=name, target=target, expires=world.clock()))

    async with world.agent.watch() as changes:
        assert EpochChanged(user_key=key, epoch=1) in await until_current(changes)
    assert len(await stores.locks.all()) == 2


async def next_epoch(changes: AsyncIterator[Change]) -> EpochChanged:
    """Return the next change of an epoch; sessions may end before it, by the same clock."""
    while not isinstance(change := await after(changes), EpochChanged):
        pass
    return change


async def test_agents_are_told_that_a_lock_is_in_force_again_once_the_clock_is_right(
    autojump_clock: MockClock,
) -> None:
    """AZ-04: the clock was ahead, and the lock put aside meanwhile."""
    async with open_world(monotonic=trio.current_time) as world:
        key = user_key((await world.alice()).session.user_id)
        await world.admin.create_lock(target=ALICE, message="", ttl=60)
        async with world.agent.watch() as changes:
            assert EpochChanged(user_key=key, epoch=-1) in await until_current(changes)
            world.pass_time(days=1)
            assert await next_epoch(changes) == EpochChanged(user_key=key, epoch=1)
            world.pass_time(days=-1)
            assert await next_epoch(changes) == EpochChanged(user_key=key, epoch=-1)


async def test_who_was_let_in_by_a_clock_that_was_ahead_is_kept_out_once_it_is_right(
    autojump_clock: MockClock,
) -> None:
    """AZ-04: though the lock was not put aside meanwhile, so that it doesn't come back either."""
    async with open_world(monotonic=trio.current_time) as world:
        key = user_key((await world.alice()).session.user_id)
        for target in (ALICE, LockTarget(server_id="agent-2")):
            lock = Lock(name=str(target), target=target, expires=START + timedelta(days=1))
            await world.service.cluster.stores.locks.put(lock.name, lock)
        world.pass_time(days=8)
        async with (
            world.agent.watch() as changes,
            world.caller("agent", name="agent-2").watch() as locked,
        ):
            assert EpochChanged(user_key=key, epoch=1) in await until_current(changes)
            await until_current(locked)
            world.pass_time(days=-8)
            assert await next_epoch(changes) == EpochChanged(user_key=key, epoch=-1)
            with pytest.raises(Locked):
                await read_on(locked)


async def test_the_name_of_a_lock_that_is_over_is_free(world: World) -> None:
    await world.alice()

    async def put(days: int) -> None:
        lock = Lock(name="mine", target=ALICE, expires=world.clock() + timedelta(days=days))
        await world.admin.put_resource(resource=LockResource(lock=lock), mode="create")

    await put(1)
    with pytest.raises(AlreadyExists):
        await put(1)
    world.pass_time(days=1)
    with pytest.raises(NotFound):
        await world.admin.delete_lock(name="mine")
    await put(9)
    [lock] = await world.admin.list_locks()
    await world.admin.delete_lock(name=lock.name)
    world.pass_time(days=-1)
    await world.service.set_back.tick()
    assert await world.admin.list_locks() == (), "lifting it lifts the one before"


async def put_lock(world: World, user: str, *, days: int, name: str = "mine") -> None:
    ends = world.clock() + timedelta(days=days)
    lock = Lock(name=name, target=LockTarget(user=user), expires=ends)
    await world.admin.put_resource(resource=LockResource(lock=lock), mode="create")


async def locked_until(world: World) -> list[tuple[str, int]]:
    """Return who is locked, and for how many days."""
    return sorted(
        (lock.target.user, (lock.expires - world.clock()).days)
        for lock in await world.admin.list_locks()
        if lock.expires is not None
    )


@pytest.mark.parametrize(
    ("user", "days", "locked"),
    [
        ("bob", 9, [("alice", 7), ("bob", 17)]),
        ("alice", -7, [("alice", 1), ("alice", 7)]),
        ("alice", 9, [("alice", 17)]),
    ],
    ids=["on another", "ends earlier", "holds as long"],
)
async def test_a_lock_that_comes_back_is_there_though_its_name_was_taken(
    world: World, user: str, days: int, locked: list[tuple[str, int]]
) -> None:
    """AZ-04: else whoever was lifted by a clock that was ahead would stay so for a name."""
    for name in ("alice", "bob"):
        await world.alice(name)
    await put_lock(world, "alice", days=7)
    world.pass_time(days=8)
    if days < 0:
        world.service.locks._next = 0.0  # whenever the service looked
        await world.service.locks.tick()
        await world.service.cluster.stores.locks.put(
            "mine",
            Lock(name="mine", target=ALICE, expires=world.clock() + timedelta(days=days)),
        )
    else:
        await put_lock(world, user, days=days)
    world.pass_time(days=-8)
    await world.service.set_back.tick()

    assert await locked_until(world) == locked
    assert await world.service.cluster.stores.locks_over.all() == []


async def test_a_lock_that_is_put_aside_takes_no_other_s_place_there(
    world: World, autojump_clock: MockClock
) -> None:
    """AZ-04: two had the same name, one after the other, by a clock that was ahead."""
    for name in ("alice", "bob"):
        await world.alice(name)
    for user, days in (("alice", 7), ("bob", 2), ("alice", 3)):
        await put_lock(world, user, days=days)
        world.pass_time(days=days)
    await trio.sleep(EVERY + TICK)
    assert await world.service.cluster.stores.locks.all() == []
    world.pass_time(days=-12)
    await world.service.set_back.tick()

    assert await locked_until(world) == [("alice", 12), ("bob", 9)]


async def test_lifting_a_lock_lifts_no_other_of_its_name(world: World) -> None:
    """AZ-04: on alice there was one, by a clock that was ahead; on bob it is lifted."""
    for name in ("alice", "bob"):
        await world.alice(name)
    await put_lock(world, "alice", days=7)
    world.pass_time(days=8)
    await put_lock(world, "bob", days=7)
    await world.admin.delete_lock(name="mine")
    world.pass_time(days=-8)
    await world.service.set_back.tick()

    assert await locked_until(world) == [("alice", 7)]


async def test_so_many_locks_that_are_over_are_kept_at_most(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tport.engine.auth.rights.locks.MAX_LOCKS", 2)
    await world.alice()
    for _ in range(4):
        await world.admin.create_lock(target=ALICE, message="", ttl=60)
        world.pass_time(seconds=60)
    last = await world.admin.create_lock(target=ALICE, message="", ttl=60)
    world.pass_time(seconds=60)
    await world.admin.create_lock(target=ALICE, message="", ttl=60)
    await trio.sleep(EVERY + TICK)
    kept = await world.service.cluster.stores.locks_over.all()
    assert len(kept) == 2
    assert last in kept


async def test_a_thousand_locks_that_end_together_are_put_aside_some_at_a_time(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DOS-05: presence, health and grants wait meanwhile. One that is made anew then is left alone."""
    await world.alice()
    stores, ends = world.service.cluster.stores, world.clock() + timedelta(seconds=60)
    for number in range(100):
        lock = Lock(name=f"l{number:02}", target=ALICE, expires=ends)
        await stores.locks.put(lock.name, lock)
    written, batch, looked = list[int](), world.backend.batch, trio.Event()

    async def batch_late(operations: Sequence[Operation]) -> list[Item | None]:
        if not written and isinstance(operations[0], Delete):
            again = await stores.locks.read("l03")
            await stores.locks.swap("l03", again, replace(again.value, expires=None))
        if any(each.key.startswith("/locks") for each in operations):
            written.append(len(operations))
        answers = await batch(operations)
        if len(written) == 2 + AT_ONCE:
            looked.set()
        return answers

    monkeypatch.setattr(world.backend, "batch", batch_late)
    world.pass_time(seconds=60)
    await looked.wait()

    assert [lock.name for lock in await stores.locks.all()] == [
        name for name in (f"l{number:02}" for number in range(100)) if name == "l03" or name > "l31"
    ]
    assert written == [1, 64, *[2] * AT_ONCE]
    written[1:] = []
    await trio.sleep(EVERY)
    assert [lock.name for lock in await stores.locks.all()] == ["l03"]
    assert written[1:] == [64, 64, 8]


async def test_whoever_makes_a_lock_waits_for_none_that_is_over(world: World) -> None:
    await world.alice()
    stores = world.service.cluster.stores
    over = Lock(name="over", target=ALICE, expires=world.clock())
    await stores.locks.put("over", over)
    await put_lock(world, "alice", days=1, name="another")

    assert over in await stores.locks.all()
    await put_lock(world, "alice", days=1, name="over")
    assert await stores.locks_over.all() == [over]
