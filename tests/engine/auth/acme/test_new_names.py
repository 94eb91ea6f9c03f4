"""What agents say that their applications' names are uses up neither what a CA allows nor our storage (TLS-13)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.acme_ca import DIRECTORY
from tests.engine.auth.world import GRAFANA, PROXY, World
from tests.fakes import WallClock
from tport.engine.auth.acme import acme as acme_module
from tport.engine.auth.acme.new_names import NewNames
from tport.engine.defaults import NEW_NAMES, NEW_NAMES_PER_AGENT
from tport.engine.errors import LimitExceeded
from tport.engine.types.acme import AcmeState

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
        with pytest.raises(LimitExceeded, match="not before"):
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
    with pytest.raises(LimitExceeded, match="not before"):
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
    with pytest.raises(LimitExceeded, match="not before"):
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
