import trio
from trio.testing import MockClock

from tport.engine.proxy.offer_pauses import OFFERS_PAUSE, OfferPauses


async def test_an_agent_waits_for_its_own_pause_and_for_nobody_elses(
    autojump_clock: MockClock,
) -> None:
    pauses = OfferPauses()
    pauses.begin("a")
    began = trio.current_time()
    await pauses.wait("b")
    assert trio.current_time() == began
    await pauses.wait("a")
    assert trio.current_time() == began + OFFERS_PAUSE


async def test_of_agents_only_the_last_pause_is_remembered(autojump_clock: MockClock) -> None:
    pauses = OfferPauses()
    for number in range(100):
        pauses.begin(f"a{number}")
        await trio.sleep(OFFERS_PAUSE / 10)

    assert len(pauses) <= 11
    assert pauses.until("a99") > trio.current_time()
