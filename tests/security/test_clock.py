"""Security items of time: each test holds the ID of its item."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from tests.engine.auth.joining.test_join import join, token_for
from tests.engine.auth.test_service import as_, start
from tests.engine.auth.visitor import Visitor
from tests.engine.auth.world import CLUSTER, GRAFANA, PASSWORD, PROXY, World, open_world
from tests.fakes import WallClock
from tests.security.test_second_factors import in_or_not
from tport.engine.access.totp import matching_step, new_totp_secret, time_step, totp_code
from tport.engine.api.answers import SignedIn
from tport.engine.auth.cluster import AuthSettings
from tport.engine.auth.service import AuthService
from tport.engine.defaults import INVITE_TTL, MAX_LOGIN_FAILURES, PRESENCE_TTL, WEB_SESSION_TTL
from tport.engine.errors import AccessDenied, NotFound, NotSignedIn, ProofNeeded, TportError
from tport.engine.storage.backend import Item
from tport.engine.types.event import Event

BACK = [timedelta(seconds=30), timedelta(minutes=2), timedelta(hours=13), timedelta(days=365)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


def moved(by: timedelta) -> str:
    return str(by)


async def ended(ask: Callable[[], Awaitable[object]]) -> None:
    with pytest.raises((NotSignedIn, AccessDenied, NotFound)):
        await ask()


@pytest.mark.parametrize("is_handled", [False, True], ids=["at once", "a second later"])
@pytest.mark.parametrize("back", BACK, ids=moved)
async def test_ops_10_what_has_expired_stays_so_though_the_clock_is_set_back(
    world: World, back: timedelta, *, is_handled: bool
) -> None:
    """R-13: sessions, invites, join tokens; at the moment of the jump, and once auth has noticed it."""
    alice = await world.alice()
    invite = await world.admin.create_user(name="bob", roles=("access",), traits={})
    token = await token_for(world, ttl=WEB_SESSION_TTL.total_seconds())
    world.pass_time(seconds=(WEB_SESSION_TTL + timedelta(seconds=10)).total_seconds())
    await ended(lambda: world.proxy.web_session(id=alice.session.id))

    world.clock.now -= back
    if is_handled:
        await world.service.set_back.tick()

    await ended(lambda: world.proxy.web_session(id=alice.session.id))
    await ended(lambda: world.accept(invite.url))
    await ended(lambda: join(world, token.token))


async def test_ops_10_no_session_lives_longer_for_a_clock_that_was_set_back(world: World) -> None:
    """R-13: set back by an hour, a live session would outlive its real end by that hour: it is ended."""
    alice = await world.alice()
    world.clock.now -= timedelta(hours=1)
    await world.service.set_back.tick()

    await ended(lambda: world.proxy.web_session(id=alice.session.id))
    assert "TPX06W" in world.audit.codes()
    again = await world.sign_in()
    assert again.session.expires == world.clock.now + WEB_SESSION_TTL
    assert await world.proxy.web_session(id=again.session.id) == again.session


async def test_ops_10_a_clock_that_jumps_ahead_hides_no_application() -> None:
    """R-13: a proxy is silent for as long as it says nothing, whatever the wall shows."""
    moment = 0.0
    async with open_world(monotonic=lambda: moment) as world:
        await world.serve(GRAFANA)
        presence = world.service.presence
        world.pass_time(days=2)
        presence.tick()
        assert [server.app.name for server in presence.servers] == ["grafana"]
        assert not presence.is_complete
        moment = PRESENCE_TTL
        presence.tick()
        assert presence.servers == ()
        assert presence.is_complete


async def test_ops_10_a_sign_in_while_sessions_are_ended_is_ended_with_them(world: World) -> None:
    """R-13: it was made by the time that stood still, and would outlive its real end."""
    await world.alice()
    record, meanwhile = world.audit.record, list[SignedIn]()

    async def record_late(event: Event) -> None:
        if event.type == "clock.set_back":
            meanwhile.append(await world.sign_in())
        await record(event)

    world.audit.record = record_late  # type: ignore[method-assign]
    world.clock.now -= timedelta(hours=5)
    await world.service.set_back.tick()

    [late] = meanwhile
    assert late.session.expires > world.clock.now + WEB_SESSION_TTL
    await ended(lambda: world.proxy.web_session(id=late.session.id))


async def test_ops_10_a_sign_in_that_is_written_down_while_time_is_set_back_is_of_the_right_time(
    world: World,
) -> None:
    """R-13: it is stored once all others were ended, and would outlive its real end."""
    await world.alice()
    record = world.audit.record

    async def record_slowly(event: Event) -> None:
        await record(event)
        if event.type == "user.login":
            world.clock.now -= timedelta(hours=5)
            await world.service.set_back.tick()

    world.audit.record = record_slowly  # type: ignore[method-assign]
    signed = await world.sign_in()

    assert signed.session.created == world.clock.now
    assert signed.session.expires == world.clock.now + WEB_SESSION_TTL


async def test_ops_10_a_step_of_a_minute_ends_nothing(world: World) -> None:
    """R-13: clocks may differ by that much, and NTP corrects by less."""
    alice = await world.alice()
    for seconds in (60, -60):
        world.clock.now += timedelta(seconds=seconds)
        await world.service.set_back.tick()

        assert await world.proxy.web_session(id=alice.session.id) == alice.session
    assert "TPX06W" not in world.audit.codes()


async def test_ops_10_a_proof_is_no_fresher_for_a_clock_that_was_set_back(world: World) -> None:
    alice = await world.alice()
    world.pass_time(minutes=6)
    with pytest.raises(ProofNeeded):
        await world.service.sessions.check_fresh_proof(alice.session)

    world.clock.now -= timedelta(minutes=5)

    with pytest.raises((ProofNeeded, NotSignedIn)):
        await world.service.sessions.check_fresh_proof(alice.session)
    await world.service.set_back.tick()
    await ended(lambda: world.proxy.web_session(id=alice.session.id))


async def test_ops_10_a_clock_that_was_wrong_for_a_year_leaves_no_trace_once_it_is_put_right(
    world: World,
) -> None:
    """R-13: nobody has to wait until the wall has caught up, and nobody has to do anything."""
    await world.alice()
    world.pass_time(days=365)
    await world.service.set_back.tick()
    wrong = await world.sign_in()
    world.pass_time(days=-365)
    await world.service.set_back.tick()

    right = await world.sign_in()
    token = await token_for(world)
    assert right.session.created == world.clock.now
    assert (await join(world, token.token)).host_id
    await ended(lambda: world.proxy.web_session(id=wrong.session.id))


async def test_ops_10_no_account_stays_locked_for_a_clock_that_was_wrong(world: World) -> None:
    """R-13: whose owner forgot the password, on that very day, would not get in for a year."""
    await world.alice()
    world.pass_time(days=365)
    for _ in range(MAX_LOGIN_FAILURES):
        with pytest.raises(AccessDenied):
            await world.sign_in(password="wrong horse battery staple")
    with pytest.raises(AccessDenied):
        await world.sign_in()
    world.pass_time(days=-365)
    await world.service.set_back.tick()
    [alice] = await world.admin.list_users()
    assert alice.locked_until is None

    assert (await world.sign_in()).session.created == world.clock.now


async def test_ops_10_a_lock_of_a_clock_that_was_ahead_does_not_begin_at_its_own_time(
    world: World,
) -> None:
    """R-13: against somebody at whom nobody guesses then, also when it was made at the very last."""
    await world.alice()
    record = world.audit.record

    async def guessed(name: str) -> None:
        for _ in range(MAX_LOGIN_FAILURES):
            with pytest.raises(AccessDenied):
                await world.sign_in(name, password="wrong horse battery staple")

    async def record_late(event: Event) -> None:
        if event.type == "clock.set_back":
            await guessed("bob")
        await record(event)

    await world.alice("bob")
    world.pass_time(hours=2)
    await guessed("alice")
    world.pass_time(hours=-2)
    world.audit.record = record_late  # type: ignore[method-assign]
    await world.service.set_back.tick()

    world.pass_time(hours=2, minutes=5)
    assert [each.locked_until for each in await world.admin.list_users()] == [None, None]
    for name in ("alice", "bob"):
        assert (await world.sign_in(name)).session.user == name


async def test_ops_10_an_account_that_was_locked_before_the_clock_was_wrong_stays_so(
    world: World,
) -> None:
    """R-13: time that never passed ends no lock; nor does setting the clock back a little."""
    await world.alice()
    for _ in range(MAX_LOGIN_FAILURES):
        with pytest.raises(AccessDenied):
            await world.sign_in(password="wrong horse battery staple")
    for minutes in (15, -10):
        world.pass_time(minutes=minutes)
        await world.service.set_back.tick()
        with pytest.raises(AccessDenied):
            await world.sign_in()


async def test_ops_10_a_restart_is_no_way_around_it(tmp_path: Path) -> None:
    """R-13: the latest time that was seen is stored: kill, set the clock back, start again."""
    clock = WallClock()

    async def signed_up(service: AuthService, name: str) -> SignedIn:
        made = await as_(service, "admin").create_user(name=name, roles=("access",), traits={})
        secret = made.url.rpartition("/")[2]
        answer = await as_(service, "proxy").accept_invite(
            token=secret, password=PASSWORD, remote="", user_agent=""
        )
        assert isinstance(answer, SignedIn)
        return answer

    async with start(tmp_path, clock) as service:
        alice = await signed_up(service, "alice")
        token = await as_(service, "admin").create_token(
            roles=("app",), ttl=60, app_name="", app_uri="", max_uses=0
        )
        clock.now += timedelta(minutes=3)
        await service.set_back.tick()
        with pytest.raises(TportError, match="expired"):
            await service.tokens.check(token.token.partition(".")[0], "app")
    clock.now -= timedelta(minutes=150)

    async with start(tmp_path, clock) as service:
        await ended(lambda: as_(service, "proxy").web_session(id=alice.session.id))
        with pytest.raises(TportError, match=r"unknown token|expired"):
            await service.tokens.check(token.token.partition(".")[0], "app")
        assert "set back by" in service.degraded()[0]
        bob = await signed_up(service, "bob")
        assert bob.session.created == clock.now


async def test_ops_10_a_restart_with_the_clock_a_little_behind_signs_nobody_out(
    tmp_path: Path,
) -> None:
    """R-13: as each machine without a clock of its own starts after a power cut."""
    clock = WallClock()
    async with start(tmp_path, clock) as service:
        made = await as_(service, "admin").create_user(name="ann", roles=("access",), traits={})
        answer = await as_(service, "proxy").accept_invite(
            token=made.url.rpartition("/")[2], password=PASSWORD, remote="", user_agent=""
        )
        assert isinstance(answer, SignedIn)
        clock.now += timedelta(minutes=3)
        await service.set_back.tick()
    clock.now -= timedelta(seconds=5)

    async with start(tmp_path, clock) as service:
        session = await as_(service, "proxy").web_session(id=answer.session.id)
        assert session.user == "ann"


async def test_ops_10_while_storage_fails_time_stands_still_and_nothing_lives_again() -> None:
    """Fail closed: what could revive is ended first, and only then the clock is followed."""
    async with open_world() as world:
        alice = await world.alice()
        world.pass_time(seconds=(WEB_SESSION_TTL + INVITE_TTL).total_seconds())
        world.clock.now -= timedelta(days=2)
        world.audit.broken = True
        with pytest.raises(TportError):
            await world.service.set_back.tick()
        await ended(lambda: world.proxy.web_session(id=alice.session.id))
        assert world.service.cluster.clock() > world.clock.now

        world.audit.broken = False
        await world.service.set_back.tick()
        assert world.service.cluster.clock() == world.clock.now
        await ended(lambda: world.proxy.web_session(id=alice.session.id))


async def test_ops_10_what_storage_keeps_expires_by_the_same_time(world: World) -> None:
    until = world.clock.now + timedelta(minutes=5)
    await world.backend.create(Item("/things/1", b"1", expires=until))
    world.pass_time(minutes=5)
    with pytest.raises(NotFound):
        await world.backend.get("/things/1")

    world.clock.now -= timedelta(minutes=4)

    with pytest.raises(NotFound):
        await world.backend.get("/things/1")
    await world.service.set_back.tick()
    with pytest.raises(NotFound):
        await world.backend.get("/things/1")


@pytest.mark.parametrize(
    ("seconds", "counts"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)]
)
async def test_ops_10_auth_01_a_phone_may_be_one_step_off_and_not_two(
    seconds: int, *, counts: bool
) -> None:
    """R-14: RFC 6238 §5.2."""
    secret, now = new_totp_secret(), WallClock().now
    code = totp_code(secret, time_step(now + timedelta(seconds=seconds)))

    assert (matching_step(secret, code, now=now, after=0) is not None) is counts


@pytest.mark.parametrize("seconds", [-30, 30])
async def test_ops_10_auth_01_a_phone_half_a_minute_off_signs_in(seconds: int) -> None:
    """R-14: through the whole of a sign-in."""
    settings = AuthSettings(cluster=CLUSTER, proxy_addrs=(f"{PROXY}:3080",))
    async with open_world(settings=settings) as world:
        alice = Visitor(world)
        await alice.with_app()
        world.pass_time(minutes=5)
        step = seconds // 30
        assert await in_or_not(alice, await alice.asked(), "totp", alice.code(step))
        assert not await in_or_not(alice, await alice.asked(), "totp", alice.code(2 * step))
