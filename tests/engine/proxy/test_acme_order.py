"""Ordering: what it waits for, for how long, and what is said at once while it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from tests.engine.auth.world import PROXY
from tests.engine.proxy.acme_rig import GRAFANA_HOST, Rig, open_rig
from tests.engine.proxy.test_acme import until_failed, until_obtained
from tport.engine.auth.acme.acme import Acme
from tport.engine.errors import Unavailable
from tport.engine.proxy import acme as acme_module
from tport.engine.proxy.certificates import TakesWaiting


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig() as opened:
        yield opened


async def test_what_is_there_is_known_at_once_and_what_is_not_takes_waiting(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    [source] = proxy.part.sources
    with pytest.raises(TakesWaiting):
        source.context_now(PROXY)
    await until_obtained(proxy)

    assert source.context_now(PROXY) is await proxy.context(PROXY)
    assert source.context_now("localhost") is None


async def test_a_ca_that_has_to_think_is_asked_again_when_it_says(
    rig: Rig, autojump_clock: MockClock
) -> None:
    rig.ca.looks, rig.ca.retry_after = 3, "20"
    proxy = await rig.proxy()
    began = trio.current_time()
    await until_obtained(proxy)

    assert trio.current_time() - began >= 60


async def test_who_waits_for_a_name_that_fails_meanwhile_waits_no_longer(
    rig: Rig, autojump_clock: MockClock
) -> None:
    proxy = await rig.proxy()
    await until_obtained(proxy)
    rig.ca.judge = lambda *_: {"type": "urn:ietf:params:acme:error:dns", "detail": "no such name"}
    began = trio.current_time()

    assert await proxy.context(GRAFANA_HOST) is None
    assert trio.current_time() - began < 8
    assert await until_failed(proxy, GRAFANA_HOST)


async def test_a_window_that_still_holds_what_was_chosen_changes_nothing(
    rig: Rig, autojump_clock: MockClock
) -> None:
    """Else each look would draw another time, and renewals would creep to the window's end."""
    now = rig.clock()
    rig.ca.window = now + timedelta(days=30), now + timedelta(days=40)
    proxy = await rig.proxy()
    await until_obtained(proxy)
    first = (await rig.states())[PROXY]
    assert first.look_at is not None
    rig.clock.ahead += first.look_at - rig.clock() + timedelta(minutes=1)
    await trio.sleep(120)
    second = (await rig.states())[PROXY]

    assert second.look_at is not None
    assert second.look_at > first.look_at, "the CA was asked again"
    assert second.renew_at == first.renew_at


async def test_a_certificate_is_handed_over_as_soon_as_auth_is_back(
    rig: Rig, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was issued, and counts against the CA's limits: it is not thrown away."""
    obtained = Acme.obtained
    tries: list[float] = []

    async def away_at_first(self: Acme, *args: object) -> None:
        tries.append(trio.current_time())
        if len(tries) < 4:
            raise Unavailable("starting")
        await obtained(self, *args)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Acme, "obtained", away_at_first)
    proxy = await rig.proxy()
    await until_obtained(proxy)

    assert len(tries) == 4
    assert rig.orders(PROXY) == 1


async def test_a_certificate_that_auth_never_takes_is_given_up_and_told(
    rig: Rig, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(self: Acme, *_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise Unavailable("the disk is full")

    monkeypatch.setattr(Acme, "obtained", away)
    proxy = await rig.proxy()
    began = trio.current_time()

    assert "the disk is full" in await until_failed(proxy)
    assert 120 <= trio.current_time() - began < 200


async def test_a_proxy_that_shows_no_challenge_has_the_order_given_up(
    rig: Rig, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CA would come to it, and count a failure."""
    proxy = await rig.proxy()

    async def never(order: str, by: str) -> bool:
        await trio.sleep(5)
        return False

    monkeypatch.setattr(rig.world.service.acme_holders, "all_hold", never)
    assert "doesn't show the challenge" in await until_failed(proxy)
    assert len(rig.ca.orders_made) == 1


async def test_names_that_are_waited_for_are_bounded_and_the_latest_are_kept(
    rig: Rig, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acme_module, "MAX_WANTED", 2)
    proxy = await rig.proxy()
    [source] = proxy.part.sources
    for name in ("a.test", "b.test", "a.test", "c.test"):
        source._want(name)

    assert list(source._wanted) == ["a.test", "c.test"]
