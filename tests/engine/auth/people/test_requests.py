"""Asking for access, deciding on it, and what it gives being taken back in time."""

from __future__ import annotations

from datetime import timedelta
from typing import NoReturn

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.world import GRAFANA, PROXY, World
from tport.engine.api.answers import SignedIn
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.people.requests import MAX_PENDING
from tport.engine.defaults import WEB_SESSION_TTL
from tport.engine.errors import (
    AccessDenied,
    CompareFailed,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    NotSignedIn,
    Unavailable,
)
from tport.engine.types.lock import LockTarget
from tport.engine.types.role import Conditions, Role, RoleOptions, Rule
from tport.engine.types.user import Grant, User

HOST = f"grafana.{PROXY}"


async def outsider(world: World, name: str = "alice") -> tuple[SignedIn, AuthAPI]:
    """Make a user who opens nothing; return their session, and auth as they may use it."""
    signed = await world.alice(name, roles=("auditor",))
    return signed, world.proxy.acting_for(signed.secret)


async def test_what_is_approved_opens_the_application_for_its_time_and_no_longer(
    world: World, autojump_clock: MockClock
) -> None:
    await world.serve(GRAFANA)
    signed, alice = await outsider(world)
    with pytest.raises(AccessDenied):
        await world.open(signed)

    asked = await alice.request_access(host=HOST.upper(), reason="  the  outage ")
    assert (asked.host, asked.reason, asked.state) == (HOST, "the outage", "pending")
    decided = await world.admin.approve_request(
        id=asked.id, role="access", ttl=3600, answer="until noon"
    )

    assert decided.until is not None
    opened = await world.open(signed)
    assert opened.session.expires == decided.until  # no session outlives what allows it
    assert [each.state for each in await alice.own_requests()] == ["approved"]
    [user] = [info.user for info in await world.admin.list_users()]
    assert user.roles == ("auditor", "access")

    world.pass_time(seconds=3600)
    await world.serve(GRAFANA)
    await trio.sleep(2)
    [user] = [info.user for info in await world.admin.list_users()]
    assert user.roles == ("auditor",)
    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=opened.session.id)
    with pytest.raises(AccessDenied):
        await world.open(signed)
    types = [event.type for event in world.audit.events if event.type.startswith("access_request")]
    assert types == ["access_request.create", "access_request.review", "access_request.expire"]


async def test_a_role_that_is_over_gives_nothing_though_storage_can_not_take_it_back(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(GRAFANA)
    signed, alice = await outsider(world)
    manager = Role(
        name="manager", allow=Conditions(rules=(Rule(resources=("user",), verbs=("list",)),))
    )
    await world.admin.create_role(role=manager)
    for role, host in (("access", HOST), ("manager", f"b.{PROXY}")):
        asked = await alice.request_access(host=host, reason="x")
        await world.admin.approve_request(id=asked.id, role=role, ttl=3600, answer="")
    token = await alice.create_device_token(app="grafana", name="x", ttl=7 * 86400)
    await alice.list_users()
    await world.proxy.sign_session(id=token.token.id)

    async def is_full(operations: object) -> NoReturn:
        raise Unavailable("the disk is full")

    world.pass_time(seconds=3600)
    await world.serve(GRAFANA)
    monkeypatch.setattr(world.backend, "batch", is_full)
    await trio.sleep(2)
    session, user = await world.service.sessions.web_with_user(signed.session.id)
    assert (session.user, user.roles, user.grants) == ("alice", ("auditor",), ())
    with pytest.raises(AccessDenied):
        await world.service.launcher.sign_session(token.token.id)


async def test_a_role_that_is_over_counts_nowhere_though_it_was_not_taken_back_yet(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is told as something that a person has, nor keeps them out, or from a whole session."""

    async def later() -> None:
        pass

    monkeypatch.setattr(world.service.requests, "tick", later)
    await world.serve(GRAFANA)
    await world.alice("alice", roles=("auditor",))
    brief = Role(name="brief", options=RoleOptions(max_session_ttl=timedelta(minutes=5)))
    await world.admin.create_role(role=brief)
    lent, users = ("access", "editor", "brief"), world.service.cluster.stores.users
    alice = await users.read("alice")
    grants = tuple(Grant(role=role, until=world.clock.now) for role in lent)
    await users.swap("alice", alice, replace(alice.value, roles=("auditor", *lent), grants=grants))
    await world.admin.create_lock(target=LockTarget(role="editor"), message="", ttl=0)

    assert (await world.sign_in()).session.expires == world.clock.now + WEB_SESSION_TTL
    [info] = await world.admin.list_users()
    assert (info.user.roles, info.lock, info.administers) == (("auditor",), "", False)
    told = await world.admin.explain_access(user="alice", app="grafana")
    assert not told.allowed
    assert "locked" not in repr(told)
    reset = await world.admin.reset_user(name="alice")
    assert (await world.accept(reset.url)).session.user == "alice"


async def test_asking_twice_is_asking_once_and_there_is_a_bound(world: World) -> None:
    _, alice = await outsider(world)

    first = await alice.request_access(host=HOST, reason="a")
    assert (await alice.request_access(host=HOST, reason="b")) == first
    for number in range(MAX_PENDING - 1):
        await alice.request_access(host=f"app{number}.{PROXY}", reason="")
    with pytest.raises(LimitExceeded):
        await alice.request_access(host=f"more.{PROXY}", reason="")


async def test_requests_asked_for_at_once_keep_the_bound(world: World) -> None:
    world.audit.is_disk = True
    _, alice = await outsider(world)
    refused = []

    async def ask(host: str) -> None:
        try:
            await alice.request_access(host=host, reason="")
        except LimitExceeded as limit:
            refused.append(limit)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, HOST)
    assert len(await alice.own_requests()) == 1
    async with trio.open_nursery() as nursery:
        for number in range(30):
            nursery.start_soon(ask, f"app{number}.{PROXY}")

    assert len(await alice.own_requests()) == MAX_PENDING
    assert len(refused) == 30 - (MAX_PENDING - 1)
    assert sum(event.type == "access_request.create" for event in world.audit.events) == MAX_PENDING


async def test_asking_tells_nothing_of_whether_the_application_exists(world: World) -> None:
    await world.serve(GRAFANA)
    _, alice = await outsider(world)

    there = await alice.request_access(host=HOST, reason="x")
    not_there = await alice.request_access(host=f"nothing.{PROXY}", reason="x")

    assert there.state == not_there.state == "pending"
    assert await alice.explain_own(host=HOST) is None
    editor = await world.alice("editor", roles=("editor",))
    acting = world.proxy.acting_for(editor.secret)
    explained = await acting.explain_own(host=HOST)
    assert explained is not None
    assert explained.would_open == ("access",)
    assert await acting.explain_own(host=f"nothing.{PROXY}") is None


async def test_a_request_is_decided_once_and_by_somebody_else(world: World) -> None:
    _, alice = await outsider(world)
    asked = await alice.request_access(host=HOST, reason="x")
    editor = await world.alice("editor", roles=("editor",))
    acting = world.proxy.acting_for(editor.secret)
    own = await acting.request_access(host=HOST, reason="mine")

    with pytest.raises(AccessDenied, match="of their own"):
        await acting.approve_request(id=own.id, role="access", ttl=60, answer="")
    with pytest.raises(AccessDenied):
        await alice.deny_request(id=asked.id, answer="")
    denied = await acting.deny_request(id=asked.id, answer="ask your team")
    assert (denied.state, denied.by, denied.answer) == ("denied", "editor", "ask your team")
    with pytest.raises(CompareFailed, match="denied by editor"):
        await world.admin.approve_request(id=asked.id, role="access", ttl=60, answer="")
    assert {r.id: r.state for r in await world.admin.list_requests()} == {
        asked.id: "denied",
        own.id: "pending",
    }


@pytest.mark.parametrize(
    ("role", "ttl", "error"),
    [
        ("nothing", 60, NotFound),
        ("auditor", 60, InvalidRequest),  # they have it, without end
        ("access", 1, InvalidRequest),
        ("access", 8 * 24 * 3600, InvalidRequest),
        ("access", 1e300, InvalidRequest),
    ],
)
async def test_nonsense_is_no_approval(
    world: World, role: str, ttl: float, error: type[Exception]
) -> None:
    _, alice = await outsider(world)
    asked = await alice.request_access(host=HOST, reason="x")

    with pytest.raises(error):
        await world.admin.approve_request(id=asked.id, role=role, ttl=ttl, answer="")

    assert [each.state for each in await alice.own_requests()] == ["pending"]
    assert "access_request.review" not in {event.type for event in world.audit.events}


async def test_roles_that_are_set_meanwhile_are_not_taken_back(
    world: World, autojump_clock: MockClock
) -> None:
    _, alice = await outsider(world)
    asked = await alice.request_access(host=HOST, reason="x")
    await world.admin.approve_request(id=asked.id, role="access", ttl=60, answer="")

    await world.admin.update_user(name="alice", roles=("access",), traits=None)
    world.pass_time(minutes=2)
    await trio.sleep(2)

    [user] = [info.user for info in await world.admin.list_users()]
    assert (user.roles, user.grants) == (("access",), ())


async def test_roles_end_in_time_though_a_clock_that_was_a_year_ahead_was_put_right(
    world: World, autojump_clock: MockClock
) -> None:
    """R-13: the next look was a year off, and until a restart no role was taken back."""
    world.pass_time(days=365)
    await trio.sleep(2)
    world.pass_time(days=-365)
    await trio.sleep(2)
    _, alice = await outsider(world)
    asked = await alice.request_access(host=HOST, reason="x")
    await world.admin.approve_request(id=asked.id, role="access", ttl=60, answer="")
    world.pass_time(minutes=2)
    await trio.sleep(2)

    [user] = [info.user for info in await world.admin.list_users()]
    assert (user.roles, user.grants) == (("auditor",), ())


async def test_a_namesake_made_meanwhile_gets_nothing(world: World) -> None:
    _, alice = await outsider(world)
    asked = await alice.request_access(host=HOST, reason="x")
    await world.admin.delete_user(name="alice")
    await outsider(world)

    with pytest.raises(NotFound):
        await world.admin.approve_request(id=asked.id, role="access", ttl=60, answer="")


async def test_why_is_answered_for_administrators(world: World) -> None:
    await world.serve(GRAFANA)
    await outsider(world)

    found = await world.admin.explain_access(user="Alice", app="grafana")

    assert not found.allowed
    assert found.would_open == ("access",)
    with pytest.raises(NotFound, match="no agent offers"):
        await world.admin.explain_access(user="alice", app="jira")
    with pytest.raises(NotFound, match="no user"):
        await world.admin.explain_access(user="bob", app="grafana")


async def test_why_says_that_a_lock_keeps_out_who_has_the_role(world: World) -> None:
    await world.serve(GRAFANA)
    await world.alice("alice", roles=("access",))
    target = LockTarget(user="alice")
    lock = await world.admin.create_lock(target=target, message="lost laptop", ttl=60)

    found = await world.admin.explain_access(user="alice", app="grafana")

    assert not found.allowed
    assert found.decided.startswith("a lock on user alice keeps alice out until ")
    assert found.decided.endswith(" UTC: lost laptop")
    assert found.changes == (f"lift the lock on user alice: tport rm lock/{lock.name}",)
    world.pass_time(seconds=61)
    await world.serve(GRAFANA)
    assert (await world.admin.explain_access(user="alice", app="grafana")).allowed


async def test_who_decides_on_access_alone_makes_nobody_an_administrator(world: World) -> None:
    await world.serve(GRAFANA)
    rules = (Rule(resources=("access_request",), verbs=("list", "update")),)
    await world.admin.put_role(role=Role(name="reviewer", allow=Conditions(rules=rules)))
    reviewer = await world.alice("rita", roles=("reviewer",))
    acting = world.proxy.acting_for(reviewer.secret)
    _, alice = await outsider(world)
    asked = await alice.request_access(host=HOST, reason="x")

    with pytest.raises(AccessDenied, match="only who may change users"):
        await acting.approve_request(id=asked.id, role="editor", ttl=60, answer="")
    decided = await acting.approve_request(id=asked.id, role="access", ttl=60, answer="")

    assert (decided.state, decided.role) == ("approved", "access")


async def test_one_deleted_while_roles_are_taken_back_stops_nothing(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.serve(GRAFANA)
    _, alice = await outsider(world)
    asked = await alice.request_access(host=HOST, reason="x")
    await world.admin.approve_request(id=asked.id, role="access", ttl=60, answer="")
    users = world.service.cluster.stores.users
    listed = await users.all()
    await world.admin.delete_user(name="alice")

    async def as_it_was() -> list[User]:
        return listed

    monkeypatch.setattr(users, "all", as_it_was)
    world.pass_time(seconds=120)
    await trio.sleep(2)  # auth looks each second

    assert await world.anyone.ping()
