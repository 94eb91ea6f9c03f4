"""How many names may get their first certificate: what agents offer must not use up what a CA allows.

An agent says at which address its application is, and may say another each second; a browser that asks for it
then has a certificate ordered, and a CA counts orders by the account that all names of the cluster share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from tport.engine.access.limits import AddressLimiter
from tport.engine.defaults import NEW_NAMES, NEW_NAMES_PER_AGENT
from tport.engine.errors import LimitExceeded
from tport.engine.types.acme import CLOCK_STEP

_MINUTES: Final = 60  # of an hour, in which as many come again as may come at once


class NewNames:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._agents = _by_the_hour(clock, NEW_NAMES_PER_AGENT)
        self._directories = _by_the_hour(clock, NEW_NAMES)
        self._held: dict[str, tuple[datetime, datetime]] = {}  # by CA: since when, until when

    def take(self, directory: str, name: str, agents: Collection[str]) -> None:
        """Take one from what the CA's account may order, and from what one of these agents may.

        An application that several agents offer has what all of them have: none of them can keep the
        others from their certificate.

        Raises:
            LimitExceeded: not now.
        """
        self._check_held(directory, name)
        agent, wait = "", 0.0
        for agent in sorted(agents) or [""]:
            wait = _wait_of(self._agents, agent)
            if not wait:
                break
        if wait:
            raise LimitExceeded(
                f"{name}: its agent has had too many names ordered lately", retry_after=wait
            )
        account = sha256(directory.encode()).hexdigest()  # no address, nor like one
        if wait := _wait_of(self._directories, account):
            raise LimitExceeded(f"{name}: too many names were ordered lately", retry_after=wait)
        self._agents.take(agent)
        self._directories.take(account)

    def hold(self, directory: str, wait: timedelta) -> None:
        """Take none for this CA for a while: it has had too many of all our names together."""
        now = self._clock()
        self._held[directory] = (now, now + wait)

    def forgive(self, directory: str) -> None:
        """End a hold, also before the time that the CA named: if it holds on, the next name hears so."""
        self._held.pop(directory, None)

    def _check_held(self, directory: str, name: str) -> None:
        if directory not in self._held:
            return
        since, until = self._held[directory]
        now = self._clock()
        if now >= until or now < since - CLOCK_STEP:  # of the future: the clock was wrong then
            del self._held[directory]
            return
        raise LimitExceeded(
            f"{name}: the CA takes no new names before {until:%FT%TZ}",
            retry_after=(until - now).total_seconds(),
        )


def _by_the_hour(clock: Callable[[], datetime], number: int) -> AddressLimiter:
    return AddressLimiter(clock, per_minute=number / _MINUTES, burst=number)


def _wait_of(limiter: AddressLimiter, key: str) -> float:
    """Return after how many seconds there is one left; 0: now."""
    try:
        limiter.check(key)
    except LimitExceeded as problem:
        return problem.retry_after
    return 0.0
