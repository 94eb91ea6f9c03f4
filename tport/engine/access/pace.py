"""When it is an address' turn: so often a second, in the order in which it came. Pure.

An address that has not been there may come `burst` times at once; what comes more often gets a turn later,
one after the other, and none where that would be too late. Who is trusted has its turn at once.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from tport.engine.defaults import MAX_ADDRESSES


class Pace:
    """Turns of addresses. The least recently seen address is forgotten first.

    Times are seconds of one clock that never goes back. (GCRA: of each address only the moment is kept
    from which it would have its whole burst again.)
    """

    def __init__(
        self, *, rate: float, burst: int, most: float, trust: float, size: int = MAX_ADDRESSES
    ) -> None:
        """
        Args:
            rate: turns a second; infinite: each has its turn at once.
            burst: turns at once of an address that had none lately.
            most: s that a turn is waited for.
            trust: s for which an address is trusted.
            size: addresses that are remembered.
        """
        self._gap = 1 / rate
        self._burst = burst
        self._most = most
        self._trust = trust
        self._size = size
        self._rested: OrderedDict[str, float] = OrderedDict()
        self._trusted: OrderedDict[str, float] = OrderedDict()

    def turn(self, address: str, now: float) -> float:
        """Return when it is its turn, which is taken by that; infinite: it would be too late."""
        if not self._gap or self.is_trusted(address, now):
            return now
        rested = max(self._rested.get(address, now), now)
        at = max(now, rested - (self._burst - 1) * self._gap)
        if at > now + self._most:
            return math.inf
        _remember(self._rested, address, rested + self._gap, self._size)
        return at

    def trust(self, address: str, now: float) -> None:
        """Note that somebody is there who may come as often as they like."""
        if self._gap:
            _remember(self._trusted, address, now + self._trust, self._size)

    def is_trusted(self, address: str, now: float) -> bool:
        """Tell whether somebody was there lately who may come as often as they like."""
        return self._trusted.get(address, -math.inf) > now


def _remember(table: OrderedDict[str, float], address: str, until: float, size: int) -> None:
    table[address] = until
    table.move_to_end(address)
    if len(table) > size:
        table.popitem(last=False)
