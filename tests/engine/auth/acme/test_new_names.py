"""What agents say that their applications' names are uses up neither what a CA allows nor our storage (TLS-13)."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.acme_ca import DIRECTORY, FakeCa
from tests.engine.auth.world import GRAFANA, PROXY, World
from tests.fakes import WallClock
from tport.engine.auth.acme import acme as acme_module
from tport.engine.auth.acme.new_names import NewNames
from tport.engine.config.model import LETS_ENCRYPT
from tport.engine.defaults import (
    NEW_NAMES,
    NEW_NAMES_OF_DOMAIN,
    NEW_NAMES_OF_DOMAIN_PER_AGENT,
    NEW_NAMES_PER_AGENT,
)
from tport.engine.errors import LimitExceeded
from tport.engine.pki.keys import KeyPair, load_private_key, make_key
from tport.engine.types.acme import AcmeState

ZONE = "tport.example.com"
BUSY = "the CA says: too many new orders (300) from this account in the last 3h0m0s (rateLimited)"


async def offered_at(
    world: World, name: str, *, host: str = "agent-1", app: str = "grafana"
) -> str:
    """Have an agent say that its one application is at another address."""
    [server] = await world.serve(replace(GRAFANA, name=app, public_addr=name), host=host)
    assert not server.refused
    return name


async def begin(
    world: World, name: str, *, directory: str = DIRECTORY, serial: str = ""
) -> AcmeState:
    return await world.proxy.acme_begin(directory=directory, names=(name,), serial=serial)


async def fail(
    world: World,
    state: AcmeState,
    *,
    problem: str = "no",
    retry_after: float = 0.0,
    limited: bool = False,
) -> None:
    assert state.order is not None
    await world.proxy.acme_failed(
        directory=state.directory,
        name=state.name,
        order=state.order.id,
        problem=problem,
        retry_after=retry_after,
        unreached=False,
        limited=limited,
    )


async def begun_by(world: World, agent: str, most: int) -> int:
    """Have one agent say new addresses as often as it likes; return how many were ordered."""
    for number in range(most):
        name = await offered_at(world, f"{agent}-{number}.test", host=agent, app=agent)
        try:
            await begin(world, name)
        except LimitExceeded:
            return number
    return most


async def states(world: World) -> dict[str, AcmeState]:
    return {one.name: one for one in await world.service.cluster.stores.acme.all()}


async def test_tls_13_an_agent_that_says_ever_new_names_has_few_of_them_ordered(
    world: World,
) -> None:
    """TLS-13. With a token that pins it to one application, as any other."""
    assert await begun_by(world, "agent-1", 100) == NEW_NAMES_PER_AGENT
    assert len(await states(world)) == NEW_NAMES_PER_AGENT  # the refusal left nothing behind

    name = await offered_at(world, "other.test", host="agent-2", app="other")
    await begin(world, name)  # another agent's isn't kept from its own by that

    world.pass_time(seconds=3600 / NEW_NAMES_PER_AGENT + 1)
    assert await begun_by(world, "agent-1", 100) == 1


async def test_tls_13_all_agents_together_leave_room_for_renewals_at_the_ca(world: World) -> None:
    """TLS-13."""
    ordered = [await begun_by(world, f"agent-{n}", 100) for n in range(8)]

    assert sum(ordered) == NEW_NAMES
    with pytest.raises(LimitExceeded) as refused:
        await begin(world, await offered_at(world, "last.test", host="agent-9", app="last"))
    assert 0 < refused.value.retry_after <= 3600 / NEW_NAMES + 1
    await begin(world, "last.test", directory="https://other.test/dir")  # counted by itself


async def test_the_proxys_own_name_and_renewals_are_not_counted(world: World) -> None:
    await begun_by(world, "agent-1", 100)
    name = await offered_at(world, "known.test")
    store = world.service.cluster.stores.acme
    known = AcmeState(directory=DIRECTORY, name=name, names=(name,), serial="1")
    await store.put(acme_module.place_of(DIRECTORY, name), known)

    for _ in range(2 * NEW_NAMES):
        await begin(world, PROXY)
        await begin(world, name, serial="1")


async def test_an_application_of_two_agents_has_what_either_may_order(world: World) -> None:
    """Who joins in with another's application doesn't keep it from its certificate."""
    await begun_by(world, "agent-1", 100)
    shared = replace(GRAFANA, name="shared", public_addr="shared.test")
    await world.offer(shared, host="agent-2")
    await world.offer(shared, host="agent-1")

    await begin(world, "shared.test")


async def test_a_name_that_waits_after_a_failure_costs_its_agent_nothing(world: World) -> None:
    name = await offered_at(world, "a.test")
    await fail(world, await begin(world, name))
    for _ in range(2 * NEW_NAMES):
        with pytest.raises(LimitExceeded, match=f"^{name}: no$"):
            await begin(world, name)

    await begin(world, await offered_at(world, "b.test"))


# --- What the CA itself limits ---------------------------------------------------------------------


async def test_a_limit_of_the_account_stops_new_names_and_is_no_failure_of_one(
    world: World,
) -> None:
    name = await offered_at(world, "a.test")
    await fail(world, await begin(world, name), problem=BUSY, retry_after=7200.0, limited=True)

    state = (await states(world))[name]
    assert (state.failures, state.misses, state.problem) == (0, 0, BUSY)
    assert state.next_try == state.held_until == world.clock.now + timedelta(hours=2)
    other = await offered_at(world, "b.test", host="agent-2", app="other")
    with pytest.raises(LimitExceeded) as refused:
        await begin(world, other)
    assert refused.value.retry_after == 7200
    assert other not in await states(world)
    await begin(world, other, directory="https://other.test/dir")
    await begin(world, PROXY)  # few, and the CA may count them otherwise: it is asked

    world.pass_time(hours=2)
    await begin(world, other)


async def test_whoever_runs_the_cluster_can_have_new_names_asked_for_before_the_ca_s_time(
    world: World,
) -> None:
    """If the CA still means it, the first name hears so, and the others wait again."""
    name = await offered_at(world, "a.test")
    await fail(world, await begin(world, name), problem=BUSY, retry_after=7200.0, limited=True)
    other = await offered_at(world, "b.test", host="agent-2", app="other")
    await world.proxy.acme_forgive(directory=DIRECTORY)

    begun = await begin(world, other)
    with pytest.raises(LimitExceeded, match=re.escape(f"{name}: {BUSY}")):
        await begin(world, name)  # which the CA's word was about
    await fail(world, begun, problem=BUSY, retry_after=7000.0, limited=True)
    with pytest.raises(LimitExceeded, match="no new names"):
        await begin(world, await offered_at(world, "c.test", host="agent-3", app="third"))


async def test_no_word_of_a_ca_stops_new_names_for_longer_than_three_hours(world: World) -> None:
    name = await offered_at(world, "a.test")
    await fail(world, await begin(world, name), problem=BUSY, retry_after=10**6, limited=True)
    other = await offered_at(world, "b.test", host="agent-2", app="other")
    with pytest.raises(LimitExceeded) as refused:
        await begin(world, other)
    assert refused.value.retry_after == 3 * 3600

    world.pass_time(hours=3)
    await begin(world, other)
    with pytest.raises(LimitExceeded, match=re.escape(f"{name}: {BUSY}")):
        await begin(world, name)


async def test_a_limit_without_a_time_is_waited_out_for_an_hour_or_until_somebody_says_so(
    world: World,
) -> None:
    name = await offered_at(world, "a.test")
    await fail(world, await begin(world, name), problem=BUSY, limited=True)
    state = (await states(world))[name]
    assert state.next_try == world.clock.now + timedelta(hours=1)
    other = await offered_at(world, "b.test", host="agent-2", app="other")
    with pytest.raises(LimitExceeded):
        await begin(world, other)

    await world.proxy.acme_forgive(directory=DIRECTORY)
    await begin(world, other)


@pytest.mark.parametrize(
    "words",
    [
        'too many certificates (50) already issued for "full.test" in the last 168h0m0s',
        "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s",
        "slow down",
    ],
)
async def test_a_limit_of_one_name_or_domain_stops_no_other(world: World, words: str) -> None:
    """Else whoever owns a name, and had it certified five times, would keep all others from theirs."""
    name = await offered_at(world, "a.full.test")
    await fail(world, await begin(world, name), problem=words, retry_after=86400.0, limited=True)

    await begin(world, await offered_at(world, "b.test", host="agent-2", app="other"))


def test_a_hold_of_the_future_is_none() -> None:
    """The clock was years ahead when the CA named its time, and has been mended."""
    clock = WallClock()
    names = NewNames(clock)
    clock.now += timedelta(days=2000)
    names.hold(DIRECTORY, timedelta(hours=2))
    with pytest.raises(LimitExceeded):
        names.take(DIRECTORY, "a.test", {"agent-1"})
    clock.now -= timedelta(days=2000)

    names.take(DIRECTORY, "a.test", {"agent-1"})


# --- What Let's Encrypt issues below one domain in a week ------------------------------------------


def certified(names: NewNames, clock: WallClock, agent: str, most: int, zone: str = ZONE) -> int:
    """Have new names of one agent ordered and obtained, ever a minute later; return how many were."""
    return sum(
        obtains(names, clock, f"{agent}-{number}-{clock.now:%d%H%M}.{zone}", agent)
        for number in range(most)
    )


def obtains(names: NewNames, clock: WallClock, name: str, *agents: str) -> bool:
    clock.now += timedelta(minutes=2)  # so that what is allowed in an hour comes again
    try:
        names.take(LETS_ENCRYPT, name, agents)
    except LimitExceeded:
        return False
    names.obtained(LETS_ENCRYPT, name, agents)
    return True


def test_tls_13_agents_leave_some_of_what_lets_encrypt_issues_below_a_domain() -> None:
    """TLS-13. That is fifty in a week, and one each 202 minutes after those."""
    clock = WallClock()
    names = NewNames(clock)
    began = clock.now
    assert certified(names, clock, "agent-1", 35) == NEW_NAMES_OF_DOMAIN_PER_AGENT
    others = NEW_NAMES_OF_DOMAIN - NEW_NAMES_OF_DOMAIN_PER_AGENT
    assert certified(names, clock, "agent-2", 15) == others  # which the first can't have

    with pytest.raises(LimitExceeded, match=r"names below example\.com") as refused:
        names.take(LETS_ENCRYPT, f"x.{ZONE}", {"agent-3"})
    assert 0 < refused.value.retry_after <= 7 * 86400 / NEW_NAMES_OF_DOMAIN + 1
    names.take(LETS_ENCRYPT, "x.other.test", {"agent-3"})

    more = sum(certified(names, clock, f"agent-{n % 3}", 1) for n in range(7 * 24 * 30))
    issued = (clock.now - began) / timedelta(minutes=202)
    assert NEW_NAMES_OF_DOMAIN - 1 <= more <= issued


def test_an_application_of_two_agents_is_certified_as_one_of_either() -> None:
    clock = WallClock()
    names = NewNames(clock)
    certified(names, clock, "agent-1", 35)

    assert not obtains(names, clock, f"a.{ZONE}", "agent-1")
    assert obtains(names, clock, f"a.{ZONE}", "agent-1", "agent-2")


def test_what_is_ordered_in_vain_counts_in_no_week() -> None:
    """As by a company whose names lead nowhere yet: they are tried again each day."""
    clock = WallClock()
    names = NewNames(clock)
    for number in range(3 * NEW_NAMES_OF_DOMAIN):
        clock.now += timedelta(minutes=2)
        names.take(LETS_ENCRYPT, f"x{number}.{ZONE}", {"agent-1"})


def test_another_ca_has_no_week() -> None:
    """As one's own, which may have a thousand names below one domain."""
    clock = WallClock()
    names = NewNames(clock)
    for number in range(3 * NEW_NAMES_OF_DOMAIN):
        clock.now += timedelta(minutes=2)
        names.take(DIRECTORY, f"x{number}.{ZONE}", {"agent-1"})
        names.obtained(DIRECTORY, f"x{number}.{ZONE}", {"agent-1"})


async def obtain(world: World, name: str, *, serial: str = "") -> None:
    await certify(world, await begin(world, name, directory=LETS_ENCRYPT, serial=serial))


async def certify(world: World, begun: AcmeState) -> None:
    assert begun.order is not None
    name = begun.name
    key = make_key()
    ca = FakeCa(lambda: world.clock.now)
    chain = ca.issue(load_private_key(key).public_key(), [name])
    await world.proxy.acme_obtained(
        directory=LETS_ENCRYPT,
        name=name,
        order=begun.order.id,
        pair=KeyPair(chain=chain, key=key),
        renew_at=world.clock.now,
        look_at=None,
    )


async def test_renewals_and_the_proxys_own_name_have_room_in_a_domain_s_week(world: World) -> None:
    for number in range(NEW_NAMES_OF_DOMAIN_PER_AGENT):
        await obtain(world, await offered_at(world, name := f"x{number}.{PROXY}"))
        world.pass_time(minutes=2)
        serial = (await states(world))[name].serial
        await obtain(world, name, serial=serial)
    with pytest.raises(LimitExceeded, match="too many names of its agent below"):
        await obtain(world, await offered_at(world, f"y.{PROXY}"))

    await obtain(world, PROXY)
    await obtain(world, await offered_at(world, f"z.{PROXY}", host="agent-2", app="other"))


async def test_tls_13_a_certificate_is_of_the_agent_for_which_it_was_ordered(world: World) -> None:
    """TLS-13. Though that agent names another address before the certificate is there."""
    for number in range(NEW_NAMES_OF_DOMAIN_PER_AGENT):
        name = await offered_at(world, f"x{number}.{PROXY}")
        begun = await begin(world, name, directory=LETS_ENCRYPT)
        await offered_at(world, f"gone.{PROXY}")
        await certify(world, begun)
        world.pass_time(minutes=2)

    with pytest.raises(LimitExceeded, match="too many names of its agent below"):
        await begin(world, await offered_at(world, f"y.{PROXY}"), directory=LETS_ENCRYPT)


async def test_whose_an_order_was_is_forgotten_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or, where nobody ends it, when there are too many."""
    monkeypatch.setattr(acme_module, "MAX_BEGUN", 2)
    await fail(world, await begin(world, await offered_at(world, "a.test")))
    await obtain(world, await offered_at(world, f"b.{PROXY}"))
    assert world.service.acme.begun_for == {}

    for number in range(3):
        await begin(world, await offered_at(world, f"c{number}.test"))
    assert len(world.service.acme.begun_for) == 2


# --- What stays of it -------------------------------------------------------------------------------


async def test_of_names_without_a_certificate_the_latest_are_remembered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acme_module, "MAX_UNISSUED", 3)
    await fail(world, await begin(world, PROXY))
    store = world.service.cluster.stores.acme
    has_one = AcmeState(directory=DIRECTORY, name="one.test", names=("one.test",), serial="1")
    await store.put(acme_module.place_of(DIRECTORY, "one.test"), has_one)

    for number in range(6):
        await fail(world, await begin(world, await offered_at(world, f"{number}.test")))
        world.pass_time(seconds=1)

    assert set(await states(world)) == {PROXY, "one.test", "3.test", "4.test", "5.test"}


async def test_what_is_being_ordered_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acme_module, "MAX_UNISSUED", 1)
    first = await begin(world, await offered_at(world, "a.test"))
    await begin(world, await offered_at(world, "b.test"))

    await fail(world, first)
