"""Certificates by ACME at auth: who may order, what all hear of it, and what storage holds."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.acme_ca import DIRECTORY, FakeCa
from tests.engine.auth.world import PROXY, World
from tport.engine.api.answers import ProxyReport
from tport.engine.api.cache import AuthCache
from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import (
    AccessDenied,
    CompareFailed,
    InvalidRequest,
    LimitExceeded,
    NotFound,
)
from tport.engine.pki.keys import KeyPair, load_private_key, make_key
from tport.engine.types.acme import AcmeState, Challenge

NAMES = (PROXY,)


def proxy(world: World, name: str = "proxy-1") -> AuthAPI:
    return world.caller("proxy", name=name)


async def live(world: World, *names: str) -> None:
    for name in names:
        report = ProxyReport(proxy_id=name, public_addrs=(f"{PROXY}:443",), tunnels=())
        await proxy(world, name).report(report=report)


def issue(world: World, *names: str) -> KeyPair:
    key = make_key()
    ca = FakeCa(lambda: world.clock.now)
    return KeyPair(chain=ca.issue(load_private_key(key).public_key(), list(names)), key=key)


async def begin(auth: AuthAPI, serial: str = "") -> AcmeState:
    return await auth.acme_begin(directory=DIRECTORY, names=NAMES, serial=serial)


def order_of(state: AcmeState) -> str:
    assert state.order is not None
    return state.order.id


async def obtain(world: World, auth: AuthAPI) -> KeyPair:
    pair = issue(world, *NAMES)
    await auth.acme_obtained(
        directory=DIRECTORY,
        name=PROXY,
        order=order_of(await begin(auth)),
        pair=pair,
        renew_at=world.clock.now + timedelta(days=60),
        look_at=None,
    )
    return pair


async def fail(
    auth: AuthAPI, state: AcmeState, retry_after: float = 0.0, *, unreached: bool = False
) -> None:
    await auth.acme_failed(
        directory=DIRECTORY,
        name=PROXY,
        order=order_of(state),
        problem="the CA says: no\x1b[2J",
        retry_after=retry_after,
        unreached=unreached,
    )


async def state_of(world: World) -> AcmeState:
    [state] = await world.service.cluster.stores.acme.all()
    return state


async def test_of_two_proxies_that_want_a_certificate_at_once_one_orders(world: World) -> None:
    await live(world, "proxy-1", "proxy-2")
    outcomes: list[str] = []

    async def one(name: str) -> None:
        try:
            await begin(proxy(world, name))
        except CompareFailed:
            outcomes.append("refused")
        else:
            outcomes.append("ordered")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "proxy-1")
        nursery.start_soon(one, "proxy-2")

    assert sorted(outcomes) == ["ordered", "refused"]


async def test_the_right_to_order_ends_by_itself(world: World) -> None:
    await live(world, "proxy-1", "proxy-2")
    first = await begin(proxy(world))
    world.clock.now += timedelta(minutes=14)
    await live(world, "proxy-1", "proxy-2")
    with pytest.raises(CompareFailed):
        await begin(proxy(world, "proxy-2"))

    world.clock.now += timedelta(minutes=1)
    await begin(proxy(world, "proxy-2"))

    with pytest.raises(CompareFailed, match="over"):
        await fail(proxy(world), first)


async def test_a_proxy_may_begin_again_what_it_lost_track_of(world: World) -> None:
    await live(world, "proxy-1")
    first = await begin(proxy(world))
    second = await begin(proxy(world))

    assert order_of(first) != order_of(second)
    with pytest.raises(CompareFailed, match="over"):
        await fail(proxy(world), first)


async def test_the_right_to_order_ends_with_its_proxy(world: World) -> None:
    await live(world, "proxy-1", "proxy-2")
    await begin(proxy(world))
    world.clock.now += timedelta(seconds=16)
    await live(world, "proxy-2")
    world.service.presence.tick()

    await begin(proxy(world, "proxy-2"))


@pytest.mark.parametrize(
    "names",
    [
        ("evil.test",),
        (PROXY, "evil.test"),
        ("127.0.0.1",),
        ("unknown.tport.example.com",),
        ("*.evil.test",),
    ],
)
async def test_nobody_elses_name_is_ordered(world: World, names: tuple[str, ...]) -> None:
    with pytest.raises(NotFound):
        await proxy(world).acme_begin(directory=DIRECTORY, names=names, serial="")
    assert await world.service.cluster.stores.acme.all() == []


async def test_the_proxys_wildcard_may_be_ordered(world: World) -> None:
    names = (PROXY, f"*.{PROXY}")
    state = await proxy(world).acme_begin(directory=DIRECTORY, names=names, serial="")
    assert state.names == names


async def test_nobody_but_a_proxy_asks(world: World) -> None:
    for kind in ("agent", "admin"):
        with pytest.raises(AccessDenied):
            await begin(world.caller(kind, name="x"))
        with pytest.raises(AccessDenied):
            await world.caller(kind, name="x").acme_pair(directory=DIRECTORY, name=PROXY)
        with pytest.raises(AccessDenied):
            await world.caller(kind, name="x").acme_account(directory=DIRECTORY)


async def test_what_was_obtained_is_there_for_every_proxy(world: World) -> None:
    pair = await obtain(world, proxy(world))

    got = await proxy(world, "proxy-2").acme_pair(directory=DIRECTORY, name=PROXY)
    assert (got.chain, got.key) == (pair.chain, pair.key)
    state = await state_of(world)
    assert state.order is None
    assert state.not_after == world.clock.now + timedelta(days=90)
    assert state.issuer.startswith("Fake CA")
    [event] = [one for one in world.audit.events if one.type == "acme.order"]
    assert event.code == "TPC01I"
    assert event.fields["host"] == PROXY


async def test_another_certificate_than_was_ordered_is_not_taken(world: World) -> None:
    state = await begin(proxy(world))
    with pytest.raises(InvalidRequest, match="is not for"):
        await proxy(world).acme_obtained(
            directory=DIRECTORY,
            name=PROXY,
            order=order_of(state),
            pair=issue(world, "evil.test"),
            renew_at=world.clock.now,
            look_at=None,
        )


async def test_keys_in_storage_are_sealed(world: World) -> None:
    pair = await obtain(world, proxy(world))
    account = await proxy(world).acme_account(directory=DIRECTORY)

    stored = [item.value for item in await world.service.cluster.stores.backend.range("/")]
    # The third line is of the public half: a certificate may have the same, as one of 256 has.
    secrets = [line for key in (pair.key, account.key) for line in key.splitlines()[1:3]]
    assert stored
    assert not [value for value in stored for line in secrets if line.encode() in value]
    assert account.key not in repr(account)


async def test_the_account_is_the_same_for_all_proxies(world: World) -> None:
    first = await proxy(world).acme_account(directory=DIRECTORY)
    await proxy(world).acme_registered(directory=DIRECTORY, url="https://ca.test/acct/1")
    second = await proxy(world, "proxy-2").acme_account(directory=DIRECTORY)

    assert second.key == first.key
    assert second.url == "https://ca.test/acct/1"
    other = await proxy(world).acme_account(directory="https://other.test/dir")
    assert other.key != first.key


async def test_after_a_failure_nobody_orders_for_an_hour_then_two(world: World) -> None:
    await live(world, "proxy-1")
    await fail(proxy(world), await begin(proxy(world)))

    state = await state_of(world)
    assert state.problem == "the CA says: no[2J"
    assert state.last_attempt == world.clock.now
    [event] = [one for one in world.audit.events if one.type == "acme.order"]
    assert (event.code, event.fields["success"]) == ("TPC02W", False)

    for hours in (1, 2, 4):
        state = await state_of(world)
        assert state.next_try is not None
        wait = (state.next_try - world.clock.now) / timedelta(hours=1)
        assert hours <= wait <= 1.1 * hours
        with pytest.raises(LimitExceeded):
            await begin(proxy(world, "proxy-2"))
        world.clock.now = state.next_try
        await fail(proxy(world), await begin(proxy(world)))


async def test_a_ca_that_was_away_does_not_make_the_first_refusal_cost_a_day(world: World) -> None:
    """Both are counted by themselves: what never came to a judgement was refused by nobody."""
    for _ in range(20):
        await fail(proxy(world), await begin(proxy(world)), unreached=True)
        state = await state_of(world)
        assert state.next_try is not None
        world.clock.now = state.next_try
    await fail(proxy(world), await begin(proxy(world)))

    state = await state_of(world)
    assert state.next_try is not None
    assert state.next_try - world.clock.now <= timedelta(hours=1.1)


async def test_the_cas_own_wait_is_kept(world: World) -> None:
    await fail(proxy(world), await begin(proxy(world)), retry_after=3 * 86400.0)

    state = await state_of(world)
    assert state.next_try == world.clock.now + timedelta(days=3)


async def test_what_is_mended_may_be_tried_at_once_but_for_what_the_ca_holds(
    world: World,
) -> None:
    await fail(proxy(world), await begin(proxy(world)))
    await proxy(world).acme_forgive(directory="https://other.test/dir")
    with pytest.raises(LimitExceeded):
        await begin(proxy(world))
    await proxy(world).acme_forgive(directory=DIRECTORY)
    await fail(proxy(world), await begin(proxy(world)), retry_after=7200.0)

    await proxy(world).acme_forgive(directory=DIRECTORY)
    with pytest.raises(LimitExceeded):
        await begin(proxy(world))
    state = await state_of(world)
    assert state.failures == 2
    assert state.problem


async def test_a_certificate_whose_record_is_gone_may_be_ordered_again(world: World) -> None:
    """As of an application that was away for months: proxies know of the old certificate still."""
    await obtain(world, proxy(world))
    serial = (await state_of(world)).serial
    world.clock.now += timedelta(days=365)

    begun = await proxy(world).acme_begin(directory=DIRECTORY, names=(PROXY,), serial=serial)

    assert begun.serial == ""
    assert begun.order is not None


async def test_a_success_forgets_the_failures(world: World) -> None:
    await fail(proxy(world), await begin(proxy(world)))
    state = await state_of(world)
    assert state.next_try is not None
    world.clock.now = state.next_try
    await obtain(world, proxy(world))

    state = await state_of(world)
    assert (state.failures, state.problem, state.next_try) == (0, "", None)


async def test_every_proxy_hears_what_is_to_be_shown(world: World) -> None:
    challenge = Challenge(name=PROXY, kind="tls-alpn-01", token="t", key_authorization="t.k")
    cache = AuthCache(proxy(world, "proxy-2"), lambda: world.clock.now)
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.keep)
        order = order_of(await begin(proxy(world)))
        await proxy(world).acme_show(
            directory=DIRECTORY, name=PROXY, order=order, challenges=(challenge,)
        )
        await wait_all_tasks_blocked()
        found = cache.acme[DIRECTORY, PROXY].order
        assert found is not None
        assert found.challenges == (challenge,)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("name", "token", "key_authorization"),
    [
        ("evil.test", "t", "t.k"),
        (PROXY, "t", "x.k"),
        (PROXY, "t", "t.<script>"),
        (PROXY, "a/b", "a/b.k"),
        (PROXY, "", ".k"),
        (PROXY, "t", "t." + "k" * 300),
    ],
)
async def test_only_challenges_of_the_orders_names_are_shown(
    world: World, name: str, token: str, key_authorization: str
) -> None:
    order = order_of(await begin(proxy(world)))
    challenge = Challenge(
        name=name, kind="http-01", token=token, key_authorization=key_authorization
    )
    with pytest.raises(InvalidRequest):
        await proxy(world).acme_show(
            directory=DIRECTORY, name=PROXY, order=order, challenges=(challenge,)
        )


async def test_all_hold_once_every_live_proxy_said_so(
    world: World, autojump_clock: MockClock
) -> None:
    await live(world, "proxy-1", "proxy-2")
    order = order_of(await begin(proxy(world)))
    await proxy(world).acme_holds(order=order)
    assert not await proxy(world).acme_all_hold(order=order)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: proxy(world, "proxy-2").acme_holds(order=order))
        world.clock.now += timedelta(seconds=16)
        await live(world, "proxy-1", "proxy-2")
        assert await proxy(world).acme_all_hold(order=order)


async def test_a_proxy_that_falls_silent_is_not_waited_for(
    world: World, autojump_clock: MockClock
) -> None:
    await live(world, "proxy-1", "proxy-2")
    order = order_of(await begin(proxy(world)))
    await proxy(world).acme_holds(order=order)
    world.clock.now += timedelta(seconds=16)
    await live(world, "proxy-1")
    world.service.presence.tick()

    assert await proxy(world).acme_all_hold(order=order)


async def test_one_that_auth_has_not_heard_of_yet_is_waited_for(
    world: World, autojump_clock: MockClock
) -> None:
    """Auth has just begun, and the cluster has had two proxies at a time."""
    await live(world, "proxy-1", "proxy-2")
    await proxy(world).acme_holds(order="another")
    world.service.presence._heard.clear()
    await live(world, "proxy-1")
    order = order_of(await begin(proxy(world)))
    await proxy(world).acme_holds(order=order)

    assert not await proxy(world).acme_all_hold(order=order)
    world.clock.now += timedelta(seconds=15)
    await live(world, "proxy-1")
    assert await proxy(world).acme_all_hold(order=order)


async def test_a_single_proxy_waits_for_nobody(world: World, autojump_clock: MockClock) -> None:
    order = order_of(await begin(proxy(world)))
    await proxy(world).acme_holds(order=order)
    assert await proxy(world).acme_all_hold(order=order)
    assert trio.current_time() < 1


async def test_a_key_sealed_with_another_key_is_no_certificate(world: World) -> None:
    await obtain(world, proxy(world))
    store = world.service.cluster.stores.acme_pairs
    [item] = await store.range()
    name = item.key.removeprefix(store.prefix)
    await store.put(name, replace(store.decode(item), key="AAAA"))

    with pytest.raises(NotFound, match="sealed with another"):
        await proxy(world).acme_pair(directory=DIRECTORY, name=PROXY)


async def test_a_schedule_is_for_the_certificate_that_is_there(world: World) -> None:
    await obtain(world, proxy(world))
    state = await state_of(world)
    at = world.clock.now + timedelta(days=1)
    await proxy(world).acme_schedule(
        directory=DIRECTORY, name=PROXY, serial=state.serial, renew_at=at, look_at=at
    )
    assert (await state_of(world)).renew_at == at
    with pytest.raises(CompareFailed):
        await proxy(world).acme_schedule(
            directory=DIRECTORY, name=PROXY, serial="other", renew_at=at, look_at=at
        )


async def test_who_knows_an_older_certificate_reads_before_another_is_ordered(
    world: World,
) -> None:
    """A CA has limits: what another proxy has just obtained is not ordered once more."""
    await obtain(world, proxy(world))
    state = await state_of(world)
    with pytest.raises(CompareFailed, match="another certificate"):
        await begin(proxy(world, "proxy-2"))
    assert (await state_of(world)).order is None
    assert (await begin(proxy(world, "proxy-2"), serial=state.serial)).order is not None
