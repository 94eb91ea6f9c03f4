"""Device tokens at auth: made, counted, seen, ended."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.engine.auth.world import GRAFANA, JENKINS, PROXY, World, open_world
from tests.fakes import START
from tport.engine.api.answers import SignedIn
from tport.engine.api.protocol import AuthAPI
from tport.engine.auth.sessions import device_tokens as device_tokens_module
from tport.engine.auth.sessions.device_tokens import MAX_TOKENS
from tport.engine.auth.stores import Stored
from tport.engine.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidRequest,
    Locked,
    NotFound,
    NotSignedIn,
    Unavailable,
)
from tport.engine.pki.jwt import verify_session_credential
from tport.engine.types.device_token import (
    PREFIX,
    SECRET,
    DeviceToken,
    NewDeviceToken,
    device_token_id,
)
from tport.engine.types.lock import LockTarget
from tport.engine.types.session import session_id
from tport.engine.types.user import Grant

DAY = 86400.0
HOST = f"grafana.{PROXY}"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        await world.serve(GRAFANA)
        yield world


@pytest.fixture
async def alice(world: World) -> SignedIn:
    return await world.alice()


def acting(world: World, person: SignedIn) -> AuthAPI:
    return world.proxy.acting_for(person.secret)


async def make(world: World, person: SignedIn, name: str = "backup") -> NewDeviceToken:
    return await acting(world, person).create_device_token(app="grafana", name=name, ttl=90 * DAY)


async def test_a_token_is_a_session_of_its_maker_at_its_application(
    world: World, alice: SignedIn
) -> None:
    made = await make(world, alice)

    session = await world.proxy.app_session(id=made.token.id)
    signed = await world.proxy.sign_session(id=made.token.id)

    assert made.token.id == device_token_id(made.secret)
    assert (session.user, session.app, session.host) == ("alice", "grafana", HOST)
    assert session.expires == made.token.expires == START + timedelta(days=90)
    credential = verify_session_credential(
        signed.credential,
        jwks=world.service.authorities.jwks,
        cluster=world.service.cluster.name,
        now=world.clock(),
    )
    assert (credential.sid, credential.user, credential.app) == (session.id, "alice", "grafana")
    assert credential.session_expires == made.token.expires


async def test_the_secret_is_256_bits_shown_once_and_kept_nowhere(
    world: World, alice: SignedIn
) -> None:
    made = await make(world, alice)

    listed = msgspec.json.encode(await acting(world, alice).own_device_tokens())
    stored = b"".join(item.value + item.key.encode() for item in await world.backend.range("/"))
    written = msgspec.json.encode([event.fields for event in world.audit.events])
    assert SECRET.fullmatch(made.secret)
    for text in (listed, stored, written):
        assert made.secret.removeprefix(PREFIX).encode() not in text
    assert made.token.id.encode() in stored


async def test_the_hash_of_a_token_is_no_hash_that_a_cookie_can_have(
    world: World, alice: SignedIn
) -> None:
    """AZ-11: whoever puts a device token into a cookie has no session."""
    made = await make(world, alice)

    for id_ in (session_id(made.secret), hashlib.sha256(made.secret.encode()).hexdigest()):
        with pytest.raises(NotSignedIn):
            await world.proxy.app_session(id=id_)
    with pytest.raises(NotSignedIn):
        await world.proxy.web_session(id=made.token.id)


async def test_signing_out_leaves_tokens_alive(world: World, alice: SignedIn) -> None:
    made = await make(world, alice)

    await world.proxy.sign_out(id=alice.session.id)
    await world.proxy.end_app_session(id=made.token.id)  # what an application's sign-out asks

    assert (await world.proxy.app_session(id=made.token.id)).user == "alice"


async def test_a_token_lives_as_long_as_was_said(world: World, alice: SignedIn) -> None:
    made = await acting(world, alice).create_device_token(app="grafana", name="x", ttl=60.0)

    world.pass_time(seconds=59)
    await world.proxy.app_session(id=made.token.id)
    world.pass_time(seconds=1)

    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=made.token.id)
    assert await acting(world, alice).own_device_tokens() == ()


@pytest.mark.parametrize("ttl", [0.0, 59.0, 365 * DAY + 1, -1.0, 1e300])
async def test_no_token_lives_for_longer_than_a_year(
    world: World, alice: SignedIn, ttl: float
) -> None:
    with pytest.raises(InvalidRequest, match="365 days"):
        await acting(world, alice).create_device_token(app="grafana", name="x", ttl=ttl)


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, "a\nb", "\u202ex"])
async def test_a_name_is_what_a_page_can_show(world: World, alice: SignedIn, name: str) -> None:
    with pytest.raises(InvalidRequest, match="printable"):
        await acting(world, alice).create_device_token(app="grafana", name=name, ttl=DAY)


async def test_names_are_ones_own(world: World, alice: SignedIn) -> None:
    bob = await world.alice("bob")
    await make(world, alice)
    await make(world, bob)

    with pytest.raises(AlreadyExists):
        await make(world, alice)


async def test_a_person_has_a_bounded_number_of_tokens(world: World, alice: SignedIn) -> None:
    for at in range(MAX_TOKENS):
        await make(world, alice, f"t{at}")

    with pytest.raises(InvalidRequest, match="the most"):
        await make(world, alice, "one more")


async def test_tokens_made_at_once_keep_the_bound_and_their_names_apart(
    world: World, alice: SignedIn
) -> None:
    world.audit.is_disk = True
    refused: list[type[Exception]] = []

    async def try_to_make(name: str) -> None:
        try:
            await make(world, alice, name)
        except (AlreadyExists, InvalidRequest) as problem:
            refused.append(type(problem))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(try_to_make, "same")
    assert refused == [AlreadyExists] * 2
    assert len(await acting(world, alice).own_device_tokens()) == 1
    async with trio.open_nursery() as nursery:
        for at in range(MAX_TOKENS + 10):
            nursery.start_soon(try_to_make, f"t{at}")

    assert len(await acting(world, alice).own_device_tokens()) == MAX_TOKENS
    assert refused[2:] == [InvalidRequest] * 11


async def test_who_may_not_open_an_application_makes_no_token_for_it(
    world: World, alice: SignedIn
) -> None:
    """AZ-12: and doesn't learn whether it exists."""
    editor = await world.alice("eve", roles=("editor",))
    refusals = []
    for app in ("grafana", "nothing"):
        with pytest.raises(AccessDenied) as denied:
            await acting(world, editor).create_device_token(app=app, name="x", ttl=DAY)
        refusals.append(str(denied.value))

    assert len(set(refusals)) == 1


async def test_what_cannot_be_written_down_is_not_made(world: World, alice: SignedIn) -> None:
    """OPS-02."""
    world.audit.broken = True
    with pytest.raises(Unavailable):
        await make(world, alice)
    world.audit.broken = False

    assert await acting(world, alice).own_device_tokens() == ()


# --- What ends a token, and what does not ----------------------------------------------------------


async def change_roles(world: World) -> None:
    await world.admin.update_user(name="alice", roles=("access", "auditor"), traits=None)


async def change_traits(world: World) -> None:
    await world.admin.update_user(name="alice", roles=None, traits={"team": ("ops",)})


@pytest.mark.parametrize("change", [change_roles, change_traits], ids=lambda f: f.__name__)
async def test_a_change_of_roles_leaves_the_token_alive_with_what_is_granted_now(
    world: World, alice: SignedIn, change: Callable[[World], Awaitable[None]]
) -> None:
    made = await make(world, alice)
    before = await world.proxy.app_session(id=made.token.id)

    await change(world)

    assert (await world.proxy.app_session(id=made.token.id)).epoch == before.epoch + 1
    await world.proxy.sign_session(id=made.token.id)


async def test_a_role_that_is_taken_away_closes_the_application_and_given_back_opens_it(
    world: World, alice: SignedIn
) -> None:
    made = await make(world, alice)

    await world.admin.update_user(name="alice", roles=("auditor",), traits=None)
    with pytest.raises(AccessDenied):
        await world.proxy.sign_session(id=made.token.id)
    await world.admin.update_user(name="alice", roles=("access",), traits=None)

    await world.proxy.sign_session(id=made.token.id)


async def reset(world: World) -> None:
    await world.admin.reset_user(name="alice")


async def delete(world: World) -> None:
    await world.admin.delete_user(name="alice")


async def make_again(world: World) -> None:
    await world.admin.delete_user(name="alice")
    await world.alice()


@pytest.mark.parametrize("change", [reset, delete, make_again], ids=lambda f: f.__name__)
async def test_a_reset_or_deletion_of_its_maker_ends_a_token(
    world: World, alice: SignedIn, change: Callable[[World], Awaitable[None]]
) -> None:
    made = await make(world, alice)

    await change(world)

    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=made.token.id)
    with pytest.raises(NotSignedIn):
        await world.proxy.sign_session(id=made.token.id)
    assert await world.admin.list_device_tokens() == ()


async def test_a_lock_stops_a_token_and_lifted_lets_it_go_on(world: World, alice: SignedIn) -> None:
    made = await make(world, alice)

    lock = await world.admin.create_lock(target=LockTarget(user="alice"), message="", ttl=0.0)
    with pytest.raises(Locked):
        await world.proxy.app_session(id=made.token.id)
    with pytest.raises(Locked):
        await world.proxy.sign_session(id=made.token.id)
    await world.admin.delete_lock(name=lock.name)

    await world.proxy.sign_session(id=made.token.id)


async def test_a_role_given_for_a_time_is_asked_for_again_when_that_is_over(
    world: World, alice: SignedIn
) -> None:
    made = await make(world, alice)
    until = START + timedelta(hours=1)
    read = await world.service.cluster.stores.users.read("alice")
    timed = msgspec.structs.replace(read.value, grants=(Grant(role="access", until=until),))
    await world.service.cluster.stores.users.swap("alice", read, timed)

    assert (await world.proxy.app_session(id=made.token.id)).expires == until
    world.pass_time(hours=1)
    assert (await world.proxy.app_session(id=made.token.id)).expires == made.token.expires


async def test_a_person_revokes_their_own_tokens_and_nobody_elses(
    world: World, alice: SignedIn
) -> None:
    bob = await world.alice("bob")
    made = await make(world, alice)

    with pytest.raises(NotFound):
        await acting(world, bob).revoke_device_token(id=made.token.id)
    await world.proxy.app_session(id=made.token.id)
    revoked = await acting(world, alice).revoke_device_token(id=made.token.id)

    assert revoked.name == "backup"
    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=made.token.id)
    with pytest.raises(NotFound):
        await acting(world, alice).revoke_device_token(id=made.token.id)
    assert await world.backend.range("/device_tokens") == []
    [event] = [one for one in world.audit.events if one.type == "device_token.delete"]
    assert (event.fields["user"], event.fields["name"]) == ("alice", "backup")


async def test_an_administrator_sees_and_ends_anybodys(world: World, alice: SignedIn) -> None:
    bob = await world.alice("bob")
    first = await make(world, bob, "one")
    second = await make(world, alice, "two")

    assert [token.name for token in await world.admin.list_device_tokens()] == ["two", "one"]
    for id_ in ("", first.token.id[:7]):
        with pytest.raises(InvalidRequest, match="at least 8"):
            await world.admin.delete_device_token(id=id_)
    with pytest.raises(NotFound):
        await world.admin.delete_device_token(id="x" * 8)
    ended = await world.admin.delete_device_token(id=first.token.id[:12])

    assert ended == first.token
    assert await world.admin.list_device_tokens() == (second.token,)
    [event] = [one for one in world.audit.events if one.type == "device_token.delete"]
    assert (event.fields["user"], event.fields["owner"]) == ("admin-1", "bob")


# --- When it was seen --------------------------------------------------------------------------------


async def test_a_use_is_noted_off_its_path_and_not_more_often_than_each_five_minutes(
    world: World, alice: SignedIn, autojump_clock: MockClock
) -> None:
    made = await make(world, alice)

    async def seen_after(minutes: float) -> float | None:
        world.pass_time(minutes=minutes)
        await world.proxy.app_session(id=made.token.id)
        await trio.sleep(2.1)
        [token] = await acting(world, alice).own_device_tokens()
        return None if token.last_seen is None else (token.last_seen - START).seconds / 60

    [unused] = await acting(world, alice).own_device_tokens()
    assert unused.last_seen is None
    assert [await seen_after(minutes) for minutes in (0, 4, 0.9, 0.1, 10)] == [0, 0, 0, 5, 15]


async def test_a_token_that_is_revoked_while_its_use_is_noted_stays_revoked(
    world: World,
    alice: SignedIn,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = await make(world, alice)
    await world.proxy.app_session(id=made.token.id)
    tokens = world.service.cluster.stores.device_tokens
    read, noted = tokens.read, trio.Event()

    async def revoked_right_after(id_: str) -> Stored[DeviceToken]:
        found = await read(id_)
        monkeypatch.setattr(tokens, "read", read)
        await acting(world, alice).revoke_device_token(id=made.token.id)
        noted.set()
        return found

    monkeypatch.setattr(tokens, "read", revoked_right_after)
    await noted.wait()
    await trio.sleep(2.1)

    with pytest.raises(NotSignedIn):
        await world.proxy.app_session(id=made.token.id)


async def test_the_host_is_the_applications_own_whether_it_is_offered_now_or_not(
    world: World, alice: SignedIn
) -> None:
    jira = msgspec.structs.replace(JENKINS, public_addr="jira.example.net")
    await world.serve(GRAFANA, jira)
    made = await acting(world, alice).create_device_token(app="jenkins", name="x", ttl=DAY)
    await world.tunnel()

    assert (await world.proxy.app_session(id=made.token.id)).host == "jira.example.net"


async def test_a_token_counts_no_longer_than_its_makers_provider_vouches_for_them(
    world: World, alice: SignedIn
) -> None:
    token = await make(world, alice)
    users = world.service.cluster.stores.users
    read = await users.read("alice")
    until = world.clock() + timedelta(hours=1)
    await users.swap("alice", read, msgspec.structs.replace(read.value, expires=until))
    id_ = device_token_id(token.secret)

    session, _ = await world.service.device_tokens.session(id_)
    assert session.expires == until
    world.pass_time(hours=1)
    with pytest.raises(NotSignedIn) as told:
        await world.service.device_tokens.session(id_)
    assert "must vouch for them anew" in told.value.reason


async def test_an_id_that_begins_several_tokens_ends_none_of_them(
    world: World, alice: SignedIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_tokens_module, "MIN_ID", 0)
    for name in ("first", "second"):
        await make(world, alice, name)
    with pytest.raises(InvalidRequest, match="2 device tokens"):
        await world.admin.delete_device_token(id="")

    assert len(await world.admin.list_device_tokens()) == 2
