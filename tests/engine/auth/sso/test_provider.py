"""What is remembered of providers: what they said, and for a moment that they failed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.fakes import WallClock
from tests.provider import FakeProvider
from tport.engine.auth.sso import provider as provider_module
from tport.engine.auth.sso.provider import AT_ONCE, DEADLINE, FAILED, KEPT, MOST_WAITING, Providers
from tport.engine.errors import ConnectionProblem, LimitExceeded
from tport.engine.proto.oidc import ProviderAnswer, ProviderProblem, ProviderRequest

ISSUER, OTHER = "https://id.test", "https://other.test"


@dataclass
class Network:
    """Where providers are. `silent`: it takes requests and answers none; each is told after DEADLINE."""

    providers: tuple[FakeProvider, ...]
    silent: bool = False
    asked: list[str] = field(default_factory=list)

    async def __call__(self, request: ProviderRequest) -> ProviderAnswer:
        self.asked.append(request.url)
        if self.silent and request.url.startswith(ISSUER):
            await trio.sleep(DEADLINE)
            raise ConnectionProblem("the identity provider does not answer in time")
        provider = next(each for each in self.providers if request.url.startswith(each.issuer))
        return await provider(request)


@pytest.fixture
def network() -> Network:
    clock = WallClock()
    return Network(tuple(FakeProvider(issuer, now=clock) for issuer in (ISSUER, OTHER)))


@pytest.fixture
def providers(network: Network) -> Providers:
    return Providers(WallClock(), network)


async def waited(providers: Providers, issuer: str = ISSUER) -> float:
    """Ask for what a provider says of itself; return how long its failure took, in s."""
    began = trio.current_time()
    with pytest.raises((ConnectionProblem, ProviderProblem)):
        await providers.discovery(issuer)
    return trio.current_time() - began


async def test_one_waits_for_a_provider_that_is_silent_and_the_next_does_not(
    autojump_clock: MockClock, network: Network, providers: Providers
) -> None:
    network.silent = True
    assert await waited(providers) == pytest.approx(DEADLINE)
    assert await waited(providers) == 0
    await providers.discovery(OTHER)  # another one's failure is not theirs
    network.silent = False
    await trio.sleep(FAILED)
    await providers.discovery(ISSUER)


async def test_those_who_wait_for_their_turn_are_told_when_the_first_are(
    autojump_clock: MockClock, network: Network, providers: Providers
) -> None:
    network.silent = True
    took: list[float] = []

    async def ask() -> None:
        took.append(await waited(providers))

    async with trio.open_nursery() as nursery:
        for _ in range(3 * AT_ONCE):
            nursery.start_soon(ask)
    assert len(took) == 3 * AT_ONCE
    assert max(took) == pytest.approx(DEADLINE)
    assert len(network.asked) == AT_ONCE


async def test_who_gives_up_waiting_tells_the_next_that_nothing_came(
    autojump_clock: MockClock, network: Network, providers: Providers
) -> None:
    """A sign-in's time may be over before that of its last request is."""
    network.silent = True
    with trio.move_on_after(DEADLINE - 1):
        await providers.discovery(ISSUER)
    assert await waited(providers) == 0


async def test_who_leaves_at_once_says_nothing_of_the_provider(
    autojump_clock: MockClock, network: Network, providers: Providers
) -> None:
    network.silent = True
    with trio.move_on_after(0.5):
        await providers.discovery(ISSUER)
    network.silent = False
    await providers.discovery(ISSUER)


async def test_what_can_not_be_meant_is_asked_for_again_only_after_a_moment(
    autojump_clock: MockClock, network: Network, providers: Providers
) -> None:
    provider = network.providers[0]
    provider.discovery["issuer"] = OTHER
    for _ in range(3):
        with pytest.raises(ProviderProblem, match="another issuer") as told:
            await providers.discovery(ISSUER)
        assert "issuer_url: https://other.test" in told.value.hint
    assert len(network.asked) == 1
    provider.discovery["issuer"] = ISSUER
    await trio.sleep(FAILED)
    await providers.discovery(ISSUER)


async def test_what_a_provider_said_counts_for_an_hour(
    autojump_clock: MockClock, network: Network, providers: Providers
) -> None:
    await providers.discovery(ISSUER)
    network.silent = True
    await trio.sleep(KEPT - 1)
    await providers.discovery(ISSUER)
    await trio.sleep(2)
    await waited(providers)


async def test_whoever_is_one_too_many_to_wait_is_told_at_once(
    autojump_clock: MockClock, network: Network, providers: Providers
) -> None:
    network.silent = True
    refused = 0

    async def ask() -> None:
        nonlocal refused
        try:
            await providers.discovery(ISSUER)
        except LimitExceeded:
            refused += 1
        except ConnectionProblem:
            pass

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE + MOST_WAITING + 20):
            nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        assert refused == 20


async def test_what_is_remembered_of_providers_is_bounded_those_asked_first_go_first(
    autojump_clock: MockClock,
    network: Network,
    providers: Providers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provider_module, "MAX_PROVIDERS", 1)
    for issuer in (ISSUER, OTHER, OTHER, ISSUER):
        await providers.discovery(issuer)
    assert [url.partition("/.well")[0] for url in network.asked] == [ISSUER, OTHER, ISSUER]

    await trio.sleep(KEPT)
    network.asked.clear()
    for provider in network.providers:
        provider.down = True
    for issuer in (ISSUER, OTHER, OTHER, ISSUER):
        await waited(providers, issuer)
    assert [url.partition("/.well")[0] for url in network.asked] == [ISSUER, OTHER, ISSUER]
