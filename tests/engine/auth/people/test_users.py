"""People: made, invited, changed, deleted."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.engine.auth.sso.visits import ANN, GOOGLE, Visit, session_of, sso_world
from tests.engine.auth.world import PASSWORD, PROXY, World
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    NotSignedIn,
    Unavailable,
)
from tport.engine.types.connector import ClaimMapping
from tport.engine.types.lock import LockTarget
from tport.engine.types.preference import Preference


async def test_an_invite_link_is_at_the_proxy_and_lets_its_holder_choose_a_password(
    world: World,
) -> None:
    invite = await world.admin.create_user(name="alice", roles=("access",), traits={})
    assert invite.url.startswith(f"https://{PROXY}:3080/web/invite/")
    info = await world.proxy.invite(token=invite.url.rpartition("/")[2])
    assert (info.user, info.password_min) == ("alice", 15)

    signed_in = await world.accept(invite.url)

    assert (await world.proxy.web_session(id=signed_in.session.id)).user == "alice"
    assert (await world.sign_in()).session.user == "alice"


async def test_nothing_that_opens_a_door_is_stored_as_it_is(world: World) -> None:
    """Of links, cookies and passwords the database holds hashes."""
    invite = await world.admin.create_user(name="alice", roles=("access",), traits={})
    secret = (await world.accept(invite.url)).secret

    stored = b"\n".join(item.key.encode() + item.value for item in await world.backend.range("/"))
    for text in (invite.url.rpartition("/")[2], secret, PASSWORD):
        assert text.encode() not in stored
    told = repr(world.audit.events)
    for text in (invite.url.rpartition("/")[2], secret, PASSWORD):
        assert text not in told


async def test_an_invite_is_good_for_an_hour(world: World) -> None:
    invite = await world.admin.create_user(name="alice", roles=("access",), traits={})
    world.pass_time(hours=1)
    with pytest.raises(NotFound):
        await world.accept(invite.url)


async def test_a_weak_password_does_not_spend_the_invite(world: World) -> None:
    invite = await world.admin.create_user(name="alice", roles=("access",), traits={})
    with pytest.raises(InvalidRequest, match="too short"):
        await world.accept(invite.url, "short")
    await world.accept(invite.url)


async def test_one_person_has_one_name_however_it_is_spelled(world: World) -> None:
    """AUTH-11 (auth part)."""
    await world.alice()
    for name in ("Alice", "ALICE", "ａｌｉｃｅ"):
        with pytest.raises(AlreadyExists):
            await world.admin.create_user(name=name, roles=("access",), traits={})
    assert (await world.sign_in("ALICE")).session.user == "alice"


async def test_a_user_needs_roles_that_exist(world: World) -> None:
    with pytest.raises(NotFound, match="no role is called 'acess'"):
        await world.admin.create_user(name="bob", roles=("acess",), traits={})
    with pytest.raises(InvalidRequest):
        await world.admin.create_user(name="bob", roles=(), traits={})
    assert await world.admin.list_users() == ()


async def test_a_change_of_roles_raises_the_epoch_and_leaves_the_sign_in(world: World) -> None:
    signed_in = await world.alice()
    user = await world.admin.update_user(name="alice", roles=("auditor",), traits=None)
    assert (user.roles, user.traits, user.epoch) == (("auditor",), {"team": ("dev",)}, 2)
    assert (await world.proxy.web_session(id=signed_in.session.id)).user == "alice"


async def test_a_reset_takes_the_password_and_all_sessions_away(world: World) -> None:
    signed_in = await world.alice()
    invite = await world.admin.reset_user(name="alice")
    with pytest.raises(NotSignedIn):
        await world.proxy.web_session(id=signed_in.session.id)
    with pytest.raises(AccessDenied):
        await world.sign_in()
    await world.accept(invite.url, "another handful of words here")
    await world.sign_in(password="another handful of words here")


async def test_lists_say_who_has_a_password_an_invite_or_a_lock(
    world: World, autojump_clock: MockClock
) -> None:
    await world.alice()
    await world.admin.create_user(name="bob", roles=("access",), traits={})
    for _ in range(5):
        with pytest.raises(AccessDenied):
            await world.sign_in(password="wrong")
    alice, bob = await world.admin.list_users()
    assert (alice.has_password, alice.invited_until is None) == (True, True)
    assert alice.locked_until is not None
    assert (bob.has_password, bob.invited_until is None, bob.locked_until) == (False, False, None)


async def test_what_cannot_be_written_to_the_audit_log_is_not_done(world: World) -> None:
    """OPS-02 (auth part)."""
    world.audit.broken = True
    with pytest.raises(Unavailable):
        await world.admin.create_user(name="alice", roles=("access",), traits={})
    world.audit.broken = False
    assert await world.admin.list_users() == ()


async def test_unknown_users_are_not_found(world: World) -> None:
    for call in (
        lambda: world.admin.delete_user(name="nobody"),
        lambda: world.admin.reset_user(name="nobody"),
        lambda: world.admin.update_user(name="nobody", roles=None, traits=None),
    ):
        with pytest.raises(NotFound, match="nobody"):
            await call()


async def test_of_two_who_make_the_same_user_one_does(world: World) -> None:
    outcomes: list[str] = []

    async def make() -> None:
        try:
            await world.admin.create_user(name="alice", roles=("access",), traits={})
            outcomes.append("made")
        except AlreadyExists:
            outcomes.append("exists")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(make)
        nursery.start_soon(make)
    assert sorted(outcomes) == ["exists", "made"]


async def test_of_two_changes_the_later_is_told_whose_the_earlier_was_whatever_it_was(
    world: World, autojump_clock: MockClock
) -> None:
    """A role given for a time changes a user too, and so does its end, which is nobody's."""
    bob, alice = await world.alice("bob", roles=("editor",)), await world.alice()
    as_alice, as_bob = (world.proxy.acting_for(each.secret) for each in (alice, bob))
    await world.admin.update_user(name="alice", roles=("access",), traits=None)
    first = await seen(world)
    asked = await as_alice.request_access(host=f"grafana.{PROXY}", reason="x")
    await as_bob.approve_request(id=asked.id, role="auditor", ttl=60, answer="")
    with pytest.raises(CompareFailed, match="meanwhile by bob,"):
        await world.admin.update_user(name="alice", roles=(), traits=None, revision=first)

    second = await seen(world)
    world.pass_time(minutes=2)
    await trio.sleep(2)  # auth looks each second
    with pytest.raises(CompareFailed, match="changed meanwhile, so nothing"):
        await world.admin.update_user(name="alice", roles=(), traits=None, revision=second)


async def seen(world: World) -> int:
    return next(i.revision for i in await world.admin.list_users() if i.user.name == "alice")


async def test_of_those_who_administer_nobody_counts_who_is_kept_out_or_lost_the_role(
    world: World,
) -> None:
    async def who() -> list[str]:
        return [i.user.name for i in await world.admin.list_users() if i.administers]

    for name, role in (("alice", "access"), ("bob", "editor"), ("carol", "editor")):
        await world.admin.create_user(name=name, roles=(role,), traits={})
    assert await who() == ["bob", "carol"]

    lock = await world.admin.create_lock(target=LockTarget(user="bob"), message="", ttl=0)
    assert await who() == ["carol"]
    await world.admin.update_user(name="carol", roles=("access",), traits=None)
    assert await who() == []
    await world.admin.delete_lock(name=lock.name)
    assert await who() == ["bob"]
    world.pass_time(hours=2)  # the link is over
    assert await who() == []


async def test_where_providers_alone_count_only_their_people_administer() -> None:
    """And they only while their connector is there: the warning before the last goes depends on it."""
    editors = ClaimMapping(claim="groups", value="ops", roles=("editor",))
    async with sso_world(replace(GOOGLE, claims_to_roles=(editors,))) as (world, provider, _):

        async def who() -> list[str]:
            return [i.user.name for i in await world.admin.list_users() if i.administers]

        await world.alice("bob", roles=("editor",))
        session_of(await Visit(world).come(provider, **ANN))
        assert await who() == ["ann@x.test", "bob"]
        await world.admin.set_preference(preference=Preference(local_auth=False), revision=0)
        assert await who() == ["ann@x.test"]
        await world.admin.reset_preference()
        await world.admin.delete_resource(kind="oidc", name="google")
        assert await who() == ["bob"]


async def test_where_providers_alone_count_no_link_is_made_that_leads_nowhere() -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        await world.alice()
        await world.admin.set_preference(preference=Preference(local_auth=False), revision=0)
        calls: list[partial[Any]] = [
            partial(world.admin.create_user, name="bob", roles=("access",), traits={}),
            partial(world.admin.reset_user, name="alice"),
        ]
        for call in calls:
            with pytest.raises(InvalidRequest, match="providers alone") as told:
                await call()
            assert "allow_local_auth" in told.value.hint
        assert [info.user.name for info in await world.admin.list_users()] == ["alice"]
        await world.admin.reset_preference()
        await world.admin.reset_user(name="alice")


async def test_a_link_from_before_providers_alone_counted_is_refused_and_written_down() -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        invite = await world.admin.create_user(name="alice", roles=("access",), traits={})
        await world.admin.set_preference(preference=Preference(local_auth=False), revision=0)
        with pytest.raises(AccessDenied, match="passwords don't sign in here"):
            await world.accept(invite.url)
        event = world.audit.events[-1]
        assert (event.type, event.code) == ("user.login", "T1000W")
        told = ("user", "method", "error", "remote", "user_agent")
        assert [event.fields[name] for name in told] == [
            "alice",
            "invite",
            "passwords don't sign in here: local_auth is off",
            "192.0.2.1",
            "UA",
        ]
        # It is not spent: who takes the change back need send no new one.
        await world.admin.reset_preference()
        await world.accept(invite.url)


async def test_a_link_that_is_none_leaves_no_name_behind_where_passwords_are_off() -> None:
    async with sso_world(GOOGLE) as (world, _, _):
        await world.admin.set_preference(preference=Preference(local_auth=False), revision=0)
        before = len(world.audit.events)
        with pytest.raises(NotFound):
            await world.accept(f"https://{PROXY}/web/invite/tport-invite-nonsense")
        assert len(world.audit.events) == before
