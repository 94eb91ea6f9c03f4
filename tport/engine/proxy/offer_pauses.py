"""How often what an agent offers is judged, however many tunnels it opens and however often it dials."""

from __future__ import annotations

import math
from typing import Final

import trio

from tport.engine.proto.tunnel import Offers

# s between two offers of an agent that are judged, that of a hello too, the last one of those that come
# meanwhile: a thousand applications are a third of a second of auth's time. An agent has two tunnels at
# most, of which one replaces the other: a hello waits for this long, and has ten times as long.
OFFERS_PAUSE: Final = 1.0


class OfferPauses:
    """Until when nothing more of an agent is judged.

    What is over is forgotten: it holds the agents that were judged within a pause, and no more.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # trio's time by agent, the earliest first

    def __len__(self) -> int:
        return len(self._until)

    def until(self, agent: str) -> float:
        """Return trio's time from which on something of it may be judged."""
        return self._until.get(agent, -math.inf)

    def begin(self, agent: str) -> None:
        now = trio.current_time()
        self._until.pop(agent, None)
        self._until[agent] = now + OFFERS_PAUSE
        while self._until[first := next(iter(self._until))] <= now:
            del self._until[first]

    async def wait(self, agent: str) -> None:
        """Wait until something of it may be judged; who then begins a pause is the next of those who wait."""
        while True:
            until = self.until(agent)
            if until <= trio.current_time():
                return
            await trio.sleep_until(until)


def rest_after(offers: Offers) -> float:
    """Return for how many s nothing more is read of an agent that can't be judged yet.

    So its window holds it back, and what it says takes some hundredths of the loop, in small pieces or large.
    """
    return 0.004 + 50e-6 * (len(offers.apps) + len(offers.faulty))
