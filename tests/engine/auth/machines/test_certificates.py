"""What proxies say of their certificates: whose counts, how much, and what follows for applications."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.engine.auth.world import GRAFANA, World
from tests.fakes import START
from tport.engine.api.answers import ProxyReport
from tport.engine.api.certificates import MAX_STATES
from tport.engine.defaults import PRESENCE_TTL
from tport.engine.errors import InvalidRequest
from tport.engine.types.certificate import SOON, CertState, standing

GOOD = CertState(
    host="a.test", source="file", names=("a.test",), not_after=START + timedelta(days=60)
)


async def alive(world: World, name: str) -> None:
    report = ProxyReport(proxy_id=name, public_addrs=(), tunnels=())
    await world.caller("proxy", name=name).report(report=report)


async def test_what_several_proxies_say_alike_is_one_line_and_goes_with_the_last(
    world: World,
) -> None:
    other = replace(GOOD, host="b.test", source="acme", not_after=None, problem="rate limited")
    for name in ("one", "two"):
        await alive(world, name)
        await world.caller("proxy", name=name).report_certificates(states=(GOOD,))
    await world.caller("proxy", name="two").report_certificates(states=(other, GOOD))

    told = await world.admin.list_certificates()

    assert [(info.state, info.proxies) for info in told] == [
        (GOOD, ("one", "two")),
        (other, ("two",)),
    ]
    world.clock.now += timedelta(seconds=PRESENCE_TTL)
    world.service.presence.tick()
    await alive(world, "one")
    assert [info.proxies for info in await world.admin.list_certificates()] == [("one",)]


async def test_leaves_of_one_host_that_differ_in_their_dates_are_one_line(world: World) -> None:
    """Each process of a proxy makes its own, when somebody first comes to it."""
    first = replace(GOOD, source="own CA", last_attempt=START)
    later = replace(first, not_after=START + timedelta(days=61))
    none_yet = CertState(host="a.test", source="own CA")
    for name, state in (("one", later), ("three", none_yet), ("two", first)):
        await alive(world, name)
        await world.caller("proxy", name=name).report_certificates(states=(state,))

    [told] = await world.admin.list_certificates()
    assert (told.state, told.proxies) == (first, ("one", "three", "two"))

    failed = replace(first, problem="no answer")
    await world.caller("proxy", name="two").report_certificates(states=(failed,))
    assert [info.state for info in await world.admin.list_certificates()] == [later, failed]


async def test_a_proxy_that_is_known_to_have_ended_is_forgotten_at_once(world: World) -> None:
    for name in ("one", "two"):
        await alive(world, name)
    changes = list[tuple[str, ...]]()
    presence = world.service.presence
    presence.on_change.append(lambda: changes.append(presence.proxies))

    presence.forget("one")
    presence.forget("one")

    assert changes == [("two",)]


async def test_where_it_is_known_which_proxies_there_are_nobody_waits_for_others(
    world: World,
) -> None:
    presence = world.service.presence
    known = [presence.knows_proxies]  # at first any may live still
    presence.expect(["one", "two"])
    for name in ("one", "two"):
        await alive(world, name)
        known.append(presence.knows_proxies)
    presence.expect(["one", "three"])
    known.append(presence.knows_proxies)

    assert known == [False, False, True, False]
    assert not presence.is_complete, "their agents may still be on their way"


async def test_a_proxy_says_no_more_than_is_kept(world: World) -> None:
    states = tuple(replace(GOOD, host=f"{n}.test") for n in range(MAX_STATES + 1))
    with pytest.raises(InvalidRequest, match="at most"):
        await world.caller("proxy", name="one").report_certificates(states=states)


async def test_an_application_without_a_certificate_is_told_as_such(world: World) -> None:
    await world.serve(replace(GRAFANA, public_addr="odd.test"))
    [proxy] = world.service.presence.proxies
    caller = world.caller("proxy", name=proxy)
    await caller.report_certificates(states=(CertState(host="odd.test", source="none"),))
    assert [app.lacks_certificate for app in await world.admin.list_apps()] == [True]

    await caller.report_certificates(states=(replace(GOOD, host="odd.test"),))
    assert [app.lacks_certificate for app in await world.admin.list_apps()] == [False]


@pytest.mark.parametrize(
    ("state", "word", "mood"),
    [
        (GOOD, "good", "good"),
        (replace(GOOD, problem="x"), "good, with a problem", "bad"),
        (replace(GOOD, not_after=START), "expired", "bad"),
        (replace(GOOD, not_after=START + SOON / 2), "ends soon", "bad"),
        (replace(GOOD, not_before=START + SOON), "not valid yet", "bad"),
        (replace(GOOD, not_after=None), "made when first asked for", ""),
        (replace(GOOD, not_after=None, problem="x"), "none yet", "bad"),
        (replace(GOOD, source="none", not_after=None), "needs a certificate", "bad"),
    ],
)
def test_each_state_has_its_word(state: CertState, word: str, mood: str) -> None:
    assert standing(state, START) == (word, mood)
