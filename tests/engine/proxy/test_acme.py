"""Which certificates are ordered by ACME, when, by whom; and what people are shown meanwhile."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.acme_ca import Refusal
from tests.engine.auth.world import GRAFANA, PROXY
from tests.engine.proxy.acme_rig import GRAFANA_HOST, OneProxy, Rig, open_rig
from tport.engine.api.wire import TOO_NEW
from tport.engine.auth.calls.acme import AcmeCalls
from tport.engine.defaults import NEW_NAMES_PER_AGENT
from tport.engine.errors import InvalidRequest
from tport.engine.pki.keys import KeyPair
from tport.engine.types.acme import AcmeOrder, Challenge
from tport.engine.types.certificate import CertState


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig() as opened:
        yield opened


async def until(what: Callable[[], object]) -> None:
    with trio.fail_after(3 * 3600):
        for _ in iter(what, True):
            await trio.sleep(0.5)


async def until_obtained(proxy: OneProxy, host: str = PROXY) -> None:
    await until(lambda: proxy.state(host).not_after is not None)


async def with_limit(rig: Rig) -> str:
    """Have the CA say for two hours that the account has had too many orders; return a second application's host."""
    rig.hosts.add(other := f"other.{PROXY}")
    await rig.world.offer(GRAFANA, replace(GRAFANA, name="other"))
    rig.ca.refuse = Refusal("rateLimited", "too many new orders", 429, retry_after="7200")
    return other


async def until_failed(proxy: OneProxy, host: str = PROXY) -> str:
    await until(lambda: proxy.state(host).problem != "")
    return proxy.state(host).problem


# --- What is ordered ---------------------------------------------------------------------------


async def test_the_proxys_own_name_is_ordered_at_the_start_and_nothing_else(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await until_obtained(proxy)
    await trio.sleep(600)

    assert rig.ca.orders_made == [[PROXY]]


async def test_an_applications_name_is_ordered_when_somebody_opens_it(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Who comes first waits for it, and so do those who come meanwhile; it is one order."""
    proxy = await rig.proxy()
    contexts = []

    async def visit() -> None:
        contexts.append(await proxy.context(GRAFANA_HOST))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(visit)

    assert len(set(contexts)) == 1
    assert contexts[0] is not None
    assert rig.orders(GRAFANA_HOST) == 1


async def test_tls_13_a_thousand_invented_names_cause_no_order(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await until_obtained(proxy)
    before = rig.line.tried
    chance = random.Random(1)
    for number in range(1000):
        name = f"x{chance.randrange(10**9)}.{PROXY if number % 2 else 'evil.test'}"
        assert await proxy.context(name) is None
    await trio.sleep(60)

    assert rig.line.tried == before
    assert set(await rig.states()) == {PROXY}


async def test_a_host_that_is_known_here_and_not_at_auth_is_not_ordered(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Auth judges by itself: a proxy that is taken over orders nothing for others' names."""
    proxy = await rig.proxy()
    rig.hosts.add("evil.test")

    began = trio.current_time()
    for _ in range(3):
        assert await proxy.context("evil.test") is None
    assert rig.orders("evil.test") == 0
    assert trio.current_time() - began < 1  # nobody waits for what can't come


@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]", "localhost", "app.localhost", f"*.{PROXY}"])
async def test_names_that_no_ca_vouches_for_are_left_to_other_sources(
    rig: Rig, autojump_clock: MockClock, host: str
) -> None:
    proxy = await rig.proxy()
    rig.hosts.add(host)
    [source] = proxy.part.sources

    assert await source.context_for(host) is None
    assert source.states(host) == ()


async def test_a_name_that_a_file_has_is_not_ordered(rig: Rig, autojump_clock: MockClock) -> None:
    rig.with_file.add(PROXY)
    await rig.proxy()
    await trio.sleep(120)

    assert rig.ca.orders_made == []


async def test_with_a_hook_one_wildcard_serves_the_proxy_and_all_below(tmp_path: Path) -> None:
    """In real time: the hook is a real process."""
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    hook.chmod(0o700)
    async with open_rig(dns_hook=hook) as rig:
        proxy = await rig.proxy()
        await until_obtained(proxy)

        shown = {await proxy.context(host) for host in (PROXY, GRAFANA_HOST, f"*.{PROXY}")}
        assert len(shown) == 1
        assert rig.ca.orders_made == [[PROXY, f"*.{PROXY}"]]
        calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
        assert [call[:2] for call in calls] == [
            *[["present", f"_acme-challenge.{PROXY}"]] * 2,
            *[["cleanup", f"_acme-challenge.{PROXY}"]] * 2,
        ]


async def test_a_file_for_the_proxys_name_alone_does_not_keep_the_wildcard_away(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    async with open_rig(dns_hook=tmp_path / "hook") as rig:
        proxy = await rig.proxy()
        rig.with_file |= {PROXY, f"*.{PROXY}"}
        assert await proxy.context(GRAFANA_HOST) is None
        assert await rig.states() == {}

        rig.with_file.remove(f"*.{PROXY}")
        proxy.part.changed()
        await until_failed(proxy)  # there is no such program
        assert list(await rig.states()) == [PROXY]


@pytest.mark.parametrize("host", ["localhost", "192.0.2.1", "[::1]", "tport.localhost", "box"])
async def test_a_hook_proves_no_name_that_no_ca_vouches_for(
    autojump_clock: MockClock, tmp_path: Path, host: str
) -> None:
    """As another address of the proxy may be one."""
    async with open_rig(dns_hook=tmp_path / "hook") as rig:
        proxy = await rig.proxy()
        [source] = proxy.part.sources
        source._own_hosts = {PROXY, host}
        rig.hosts.add(host)

        assert await source.context_for(host) is None
        assert source.states(host) == ()


# --- What is shown meanwhile ---------------------------------------------------------------------


async def test_a_slow_ca_is_waited_for_a_while_and_no_longer(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await until_obtained(proxy)
    rig.line.hold = trio.Event()
    began = trio.current_time()

    assert await proxy.context(GRAFANA_HOST) is None
    assert 10 <= trio.current_time() - began <= 20
    rig.line.hold.set()
    await until_obtained(proxy, GRAFANA_HOST)
    assert await proxy.context(GRAFANA_HOST) is not None
    assert rig.orders(GRAFANA_HOST) == 1


async def test_after_a_failure_nobody_waits(rig: Rig, autojump_clock: MockClock) -> None:
    proxy = await rig.proxy()
    rig.ca.judge = lambda *_: {"type": "urn:ietf:params:acme:error:dns", "detail": "no such name"}
    assert await until_failed(proxy) == f"the CA says of {PROXY}: no such name (dns)"

    began = trio.current_time()
    assert await proxy.context(PROXY) is None
    assert trio.current_time() == began


async def test_who_has_mended_it_needs_not_wait_for_the_next_try(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    look, rig.ca.judge = rig.ca.judge, lambda *_: {"type": "dns", "detail": "no such name"}
    await until_failed(proxy)
    rig.ca.judge = look
    began = trio.current_time()
    proxy.reload.set()

    await until_obtained(proxy)
    assert trio.current_time() - began < 10


async def test_what_failed_is_told_with_the_next_try(rig: Rig, autojump_clock: MockClock) -> None:
    proxy = await rig.proxy()
    rig.ca.refuse = Refusal("rateLimited", "slow down", 429, retry_after="36000")
    await until_failed(proxy)

    state = proxy.state(PROXY)
    assert state.problem == "the CA says: slow down (rateLimited)"
    assert state.next_try is not None
    assert state.last_attempt is not None
    assert state.next_try - state.last_attempt == timedelta(hours=10)


async def test_a_clock_that_was_years_ahead_costs_no_years(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """What failed then waits for a time that the mended clock comes to in years."""
    rig.clock.ahead = timedelta(days=2000)
    proxy = await rig.proxy()
    rig.ca.refuse = Refusal("rateLimited", "slow down", 429, retry_after="36000")
    await until_failed(proxy)
    rig.clock.ahead = timedelta()

    await until_obtained(proxy)
    assert trio.current_time() < 120


async def test_tls_13_a_name_beyond_what_its_agent_may_order_waits_and_counts_as_no_failure(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """TLS-13. It is shown as one whose certificate isn't there yet, and is ordered when it may be."""
    proxy = await rig.proxy()
    await until_obtained(proxy)
    apps = [replace(GRAFANA, name=f"app{number}") for number in range(NEW_NAMES_PER_AGENT + 2)]
    hosts = [f"{app.name}.{PROXY}" for app in apps]
    rig.hosts |= set(hosts)
    await rig.world.offer(*apps)

    for host in hosts:
        await proxy.context(host)
    assert len(rig.ca.orders_made) == 1 + NEW_NAMES_PER_AGENT
    began = trio.current_time()
    assert await proxy.context(hosts[-1]) is None
    assert trio.current_time() - began < 1  # nobody waits for what isn't ordered
    assert proxy.state(hosts[-1]).not_after is None
    assert hosts[-1] not in await rig.states()

    await rig.world.offer(*apps)
    rig.clock.ahead += timedelta(minutes=10)
    await trio.sleep(30)
    assert await proxy.context(hosts[-1]) is not None


async def test_a_limit_of_the_account_is_met_once_and_not_by_each_name(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await until_obtained(proxy)
    other = await with_limit(rig)

    for host in (GRAFANA_HOST, other, other):
        assert await proxy.context(host) is None
        await trio.sleep(30)

    assert proxy.state(GRAFANA_HOST).problem == "the CA says: too many new orders (rateLimited)"
    assert (await rig.states())[GRAFANA_HOST].failures == 0
    assert rig.orders(other) == 0


async def test_why_a_name_waits_is_told_until_it_may_be_ordered_and_logged_once(
    rig: Rig, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Visitors see a warning of their browser meanwhile, and whoever runs the cluster must know of what."""
    proxy = await rig.proxy()
    await until_obtained(proxy)
    other = await with_limit(rig)
    await proxy.context(GRAFANA_HOST)
    held_until = proxy.state(GRAFANA_HOST).next_try
    assert held_until is not None
    assert proxy.state(other) == CertState(host=other, source="acme")  # nobody asked for it yet

    for _ in range(3):
        assert await proxy.context(other) is None
        await trio.sleep(30)
    state = proxy.state(other)
    assert "the CA takes no new names now" in state.problem
    assert "docs/acme.md" in state.advice
    assert state.next_try is not None
    assert abs(state.next_try - held_until) < timedelta(seconds=1)
    said = [one for one in caplog.messages if one.startswith(f"no certificate for {other} before")]
    assert len(said) == 1
    assert "the CA takes no new names" in proxy.state(other).problem
    assert "the CA says" in proxy.state(GRAFANA_HOST).problem  # its own failure, not that wait

    rig.clock.ahead += timedelta(hours=2)
    assert proxy.state(other) == CertState(host=other, source="acme")


async def test_whoever_runs_the_cluster_can_have_a_name_ordered_that_waits(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """By any proxy: it waits at none then, though they know nothing of one another's."""
    one, two = await rig.proxy("one"), await rig.proxy("two")
    await until_obtained(one)
    other = await with_limit(rig)
    assert await one.context(GRAFANA_HOST) is None
    for proxy in (one, two):
        assert await proxy.context(other) is None
        assert proxy.state(other).problem

    one.reload.set()
    await trio.sleep(30)
    assert one.state(other) == CertState(host=other, source="acme")
    assert await one.context(other) is not None
    await until(lambda: two.state(other).not_after is not None)
    assert two.state(other).problem == ""


async def test_an_auth_of_the_version_before_hears_of_a_limit_as_of_any_failure(
    rig: Rig, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = AcmeCalls.acme_failed

    async def old(self: AcmeCalls, **given: Any) -> None:
        if given.get("limited"):
            raise InvalidRequest("acme_failed: it contains unknown field `limited`", hint=TOO_NEW)
        await failed(self, **given)

    monkeypatch.setattr(AcmeCalls, "acme_failed", old)
    proxy = await rig.proxy()
    rig.ca.refuse = Refusal("rateLimited", "slow down", 429, retry_after="36000")

    assert await until_failed(proxy) == "the CA says: slow down (rateLimited)"


async def test_a_name_that_fails_stops_no_other(rig: Rig, autojump_clock: MockClock) -> None:
    proxy = await rig.proxy()
    look = rig.ca.judge

    def judge(kind: str, name: str, token: str) -> object:
        problem = {"type": "urn:ietf:params:acme:error:caa", "detail": "forbidden"}
        return problem if name == PROXY else look(kind, name, token)

    rig.ca.judge = judge  # type: ignore[assignment]  # its answer is the one or the other
    await until_failed(proxy)

    assert await proxy.context(GRAFANA_HOST) is not None


# --- Renewal -------------------------------------------------------------------------------------


async def test_a_certificate_is_renewed_after_two_thirds_of_its_life(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await until_obtained(proxy)
    first = await proxy.context(PROXY)
    rig.clock.ahead += timedelta(days=54)
    await trio.sleep(60)
    assert rig.orders(PROXY) == 1

    rig.clock.ahead += timedelta(days=7)
    await trio.sleep(60)
    assert rig.orders(PROXY) == 2
    second = await proxy.context(PROXY)
    assert second is not None
    assert second is not first


async def test_an_applications_is_renewed_without_a_visit_unless_it_is_gone(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await proxy.context(GRAFANA_HOST)
    rig.clock.ahead += timedelta(days=61)
    await trio.sleep(60)
    assert rig.orders(GRAFANA_HOST) == 2

    rig.hosts.remove(GRAFANA_HOST)
    rig.clock.ahead += timedelta(days=61)
    await trio.sleep(60)
    assert rig.orders(GRAFANA_HOST) == 2
    assert rig.orders(PROXY) == 3


async def test_the_cas_window_is_kept(rig: Rig, autojump_clock: MockClock) -> None:
    """A CA that must revoke says so by a window that is now."""
    now = rig.clock()
    rig.ca.window = now + timedelta(days=70), now + timedelta(days=71)
    proxy = await rig.proxy()
    await until_obtained(proxy)
    state = (await rig.states())[PROXY]
    assert state.renew_at is not None
    assert rig.ca.window[0] <= state.renew_at <= rig.ca.window[1]

    rig.ca.window = now - timedelta(days=2), now - timedelta(days=1)
    rig.clock.ahead += timedelta(hours=7)
    await trio.sleep(120)
    assert rig.orders(PROXY) == 1  # it is one of its first day
    rig.clock.ahead += timedelta(hours=24)
    await trio.sleep(120)
    assert rig.orders(PROXY) == 2
    assert len(rig.ca.replaced) == 1


async def test_a_window_is_kept_while_the_ca_can_not_be_asked_again(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """It may be early because the CA has to revoke; that it is away for a while changes nothing."""
    now = rig.clock()
    rig.ca.window = now + timedelta(days=5), now + timedelta(days=6)
    proxy = await rig.proxy()
    await until_obtained(proxy)
    rig.line.down = True
    rig.clock.ahead += timedelta(hours=7)
    await trio.sleep(120)
    rig.line.down = False

    state = (await rig.states())[PROXY]
    assert rig.line.tried > 0
    assert state.look_at is not None
    assert state.look_at > rig.clock()
    assert state.renew_at is not None
    assert rig.ca.window[0] <= state.renew_at <= rig.ca.window[1]


async def test_no_window_leads_past_a_certificates_end(rig: Rig, autojump_clock: MockClock) -> None:
    now = rig.clock()
    rig.ca.window = now + timedelta(days=400), now + timedelta(days=401)
    proxy = await rig.proxy()
    await until_obtained(proxy)

    state = (await rig.states())[PROXY]
    assert state.renew_at is not None
    assert state.not_after is not None
    assert state.renew_at < state.not_after - timedelta(days=8)


async def test_with_the_ca_down_for_an_hour_the_certificate_comes_when_it_is_back(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """R-19."""
    rig.line.down = True
    proxy = await rig.proxy()
    assert "can't be reached" in await until_failed(proxy)
    await trio.sleep(3600)
    assert rig.line.tried < 10
    rig.line.down = False

    await until_obtained(proxy)
    assert await proxy.context(PROXY) is not None
    assert trio.current_time() < 3600 + 3600 * 1.1


async def test_an_old_certificate_serves_while_the_ca_is_down_and_is_told(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """R-19: a certificate that has ended is better than none, for who looks; the alarm was days before."""
    proxy = await rig.proxy()
    await until_obtained(proxy)
    first = await proxy.context(PROXY)
    rig.line.down = True
    rig.clock.ahead += timedelta(days=91)
    await trio.sleep(60)

    assert await proxy.context(PROXY) is first
    state = proxy.state(PROXY)
    assert "can't be reached" in state.problem
    assert state.not_after is not None
    assert state.not_after < rig.clock()


async def test_after_a_restart_with_fresh_roots_the_account_is_made_anew(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await until_obtained(proxy)
    rig.ca.restart()

    assert await proxy.context(GRAFANA_HOST) is not None
    assert len(rig.ca.accounts) == 1


async def test_a_window_without_a_time_zone_costs_no_certificate(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """The CA's opinion can't be read; what it issued is kept, and not ordered again and again."""
    now = rig.clock().replace(tzinfo=None)
    rig.ca.window = now + timedelta(days=70), now + timedelta(days=71)
    proxy = await rig.proxy()
    await until_obtained(proxy)
    await trio.sleep(600)

    assert rig.orders(PROXY) == 1


async def test_what_nobody_foresaw_is_not_asked_of_the_ca_again_at_once(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """A defect of ours is told as a failure, and waits as long as a refusal."""

    def judge(*_: str) -> None:
        raise RuntimeError("a defect")

    rig.ca.judge = judge
    proxy = await rig.proxy()

    assert "went wrong" in await until_failed(proxy)
    await trio.sleep(3000)
    assert rig.orders(PROXY) == 1


async def test_a_chain_that_no_server_can_show_is_not_taken(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Else it would stand in the way of another until it has to be renewed."""
    issue = rig.ca.issue
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    rig.ca.issue = lambda key, names: issue(key, names) + broken  # type: ignore[method-assign]
    proxy = await rig.proxy()

    assert "can't be used" in await until_failed(proxy)
    assert (await rig.states())[PROXY].serial == ""
    rig.ca.issue = issue  # type: ignore[method-assign]
    await trio.sleep(3600 * 1.2)
    assert await proxy.context(PROXY) is not None


async def test_while_the_watch_lags_behind_a_certificate_is_fetched_once_in_a_while(
    rig: Rig, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache still tells of the one before: what came meanwhile isn't asked for without end."""
    proxy = await rig.proxy()
    await until_obtained(proxy)
    fetched, fetch, hand_over = 0, proxy.auth.acme_pair, proxy.auth.acme_obtained

    async def counted(**what: Any) -> KeyPair:
        nonlocal fetched
        fetched += 1
        await trio.sleep(0.01)
        return await fetch(**what)

    async def unseen(**what: Any) -> None:
        monkeypatch.setattr(type(proxy.cache), "acme", dict(proxy.cache.acme))
        await hand_over(**what)

    monkeypatch.setattr(proxy.auth, "acme_pair", counted)
    monkeypatch.setattr(proxy.auth, "acme_obtained", unseen)
    first = await proxy.context(PROXY)
    rig.clock.ahead += timedelta(days=61)
    await trio.sleep(120)

    assert await proxy.context(PROXY) is not first
    assert fetched < 40


# --- Several proxies -----------------------------------------------------------------------------


async def test_of_several_proxies_one_orders_and_all_have_it(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """The CA comes to each of them, and only when all show the challenge."""
    proxies = [await rig.proxy(f"proxy-{number}") for number in range(3)]
    for proxy in proxies:
        await until_obtained(proxy)

    assert [await proxy.context(PROXY) is not None for proxy in proxies] == [True] * 3
    assert rig.ca.orders_made == [[PROXY]]
    assert len(rig.ca.accounts) == 1
    assert (await rig.states())[PROXY].failures == 0


async def test_a_renewed_certificate_reaches_the_proxies_that_did_not_order(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxies = [await rig.proxy(f"proxy-{number}") for number in range(2)]
    for proxy in proxies:
        await until_obtained(proxy)
    first = [await proxy.context(PROXY) for proxy in proxies]
    rig.clock.ahead += timedelta(days=61)
    await trio.sleep(120)

    second = [await proxy.context(PROXY) for proxy in proxies]
    assert rig.orders(PROXY) == 2
    assert not set(first) & set(second)


async def test_a_proxy_that_dies_while_it_orders_is_followed_by_another(
    rig: Rig, autojump_clock: MockClock
) -> None:
    first = await rig.proxy("proxy-1")
    rig.line.hold = trio.Event()
    await trio.sleep(1)
    assert (await rig.states())[PROXY].order is not None
    first.end()
    rig.line.hold = None
    second = await rig.proxy("proxy-2")

    await until_obtained(second)
    assert trio.current_time() < 60


async def test_when_auth_restarts_proxies_say_again_what_they_show(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """What auth remembers of it is in memory, and a watch that begins anew says so."""
    proxies = [await rig.proxy(f"proxy-{number}") for number in range(2)]
    for proxy in proxies:
        await until_obtained(proxy)
    held = rig.world.service.acme_holders
    order = AcmeOrder(id="lost", proxy="proxy-9", expires=rig.clock() + timedelta(minutes=5))
    challenge = Challenge(name=PROXY, kind="http-01", token="t", key_authorization="t.k")
    state = replace((await rig.states())[PROXY], order=replace(order, challenges=(challenge,)))
    [item] = await rig.world.service.cluster.stores.acme.range()
    place = item.key.removeprefix(rig.world.service.cluster.stores.acme.prefix)
    await rig.world.service.cluster.stores.acme.put(place, state)
    await until(lambda: held._holders.get("lost") == {"proxy-0", "proxy-1"})

    held._holders.clear()
    for feed in list(rig.world.service.watches._feeds):
        feed.end()

    await until(lambda: held._holders.get("lost") == {"proxy-0", "proxy-1"})


async def test_a_proxy_that_has_restarted_shows_what_it_had(
    rig: Rig, autojump_clock: MockClock
) -> None:
    await until_obtained(await rig.proxy("proxy-1"))
    again = await rig.proxy("proxy-1-again")

    assert await again.context(PROXY) is not None
    assert rig.orders(PROXY) == 1


async def test_an_application_that_is_away_is_shown_its_certificate_still(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """After a restart its agent comes seconds later; a warning of the browser would be no answer."""
    await (await rig.proxy("proxy-1")).context(GRAFANA_HOST)
    rig.hosts.remove(GRAFANA_HOST)
    again = await rig.proxy("proxy-1-again")

    assert await again.context(GRAFANA_HOST) is not None
    assert rig.orders(GRAFANA_HOST) == 1
