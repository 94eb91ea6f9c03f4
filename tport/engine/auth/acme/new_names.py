"""How many names may get their first certificate: what agents offer must not use up what a CA allows.

An agent says at which address its application is, and may say another each second; a browser that asks for it
then has a certificate ordered, and a CA counts orders by the account that all names of the cluster share. Let's
Encrypt counts certificates by their registered domain besides, which most of a cluster's names share.

What was counted is forgotten when auth ends.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from operator import itemgetter
from typing import Final

from tport.engine.access.limits import AddressLimiter
from tport.engine.config.model import LETS_ENCRYPT
from tport.engine.defaults import (
    NEW_NAMES,
    NEW_NAMES_OF_DOMAIN,
    NEW_NAMES_OF_DOMAIN_PER_AGENT,
    NEW_NAMES_PER_AGENT,
)
from tport.engine.errors import LimitExceeded
from tport.engine.pki.acme_policy import domain_of
from tport.engine.types.acme import CLOCK_STEP

_HOUR: Final = 60  # minutes, in which as many come again as may come at once
_WEEK: Final = 7 * 24 * 60


class NewNames:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._agents = _every(clock, _HOUR, NEW_NAMES_PER_AGENT)
        self._directories = _every(clock, _HOUR, NEW_NAMES)
        self._domains = _every(clock, _WEEK, NEW_NAMES_OF_DOMAIN)
        self._domains_agents = _every(clock, _WEEK, NEW_NAMES_OF_DOMAIN_PER_AGENT)
        self._held: dict[str, tuple[datetime, datetime]] = {}  # by CA: since when, until when

    def take(self, directory: str, name: str, agents: Collection[str]) -> None:
        """Take one from what the CA's account may order, and from what one of these agents may.

        An application that several agents offer has what all of them have: none of them can keep the
        others from their certificate.

        Raises:
            LimitExceeded: not now.
        """
        self._check_held(directory, name)
        agent, wait = _freest(self._agents, sorted(agents) or [""])
        if wait:
            raise LimitExceeded(
                f"{name}: its agent has had too many names ordered lately", retry_after=wait
            )
        account = _key(directory)
        if wait := _wait_of(self._directories, account):
            raise LimitExceeded(f"{name}: too many names were ordered lately", retry_after=wait)
        if directory == LETS_ENCRYPT:
            self._check_domain(name, agents)
        self._agents.take(agent)
        self._directories.take(account)

    def obtained(self, directory: str, name: str, agents: Collection[str]) -> None:
        """Count a first certificate in its domain's week: an order that fails counts in none at the CA."""
        if directory != LETS_ENCRYPT:
            return
        domain = domain_of(name)
        share, _ = _freest(self._domains_agents, _shares(domain, agents))
        self._domains_agents.take(share)
        self._domains.take(_key(domain))

    def _check_domain(self, name: str, agents: Collection[str]) -> None:
        domain = domain_of(name)
        _, wait = _freest(self._domains_agents, _shares(domain, agents))
        whose = "names of its agent" if wait else "names"
        if wait := wait or _wait_of(self._domains, _key(domain)):
            raise LimitExceeded(
                f"{name}: too many {whose} below {domain} were certified lately; a wildcard (dns_hook)"
                " serves all below the proxy's own",
                retry_after=wait,
            )

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
            f"{name}: the CA takes no new names now: it has had too many from this account or address",
            retry_after=(until - now).total_seconds(),
        )


def _every(clock: Callable[[], datetime], minutes: int, number: int) -> AddressLimiter:
    return AddressLimiter(clock, per_minute=number / minutes, burst=number)


def _key(*parts: str) -> str:
    """Return what a limiter takes for no address, nor for one like it."""
    return sha256(" ".join(parts).encode()).hexdigest()


def _shares(domain: str, agents: Collection[str]) -> list[str]:
    return [_key(domain, agent) for agent in sorted(agents) or [""]]


def _freest(limiter: AddressLimiter, keys: Sequence[str]) -> tuple[str, float]:
    """Return the first of them that has one left, or the one that has it next; and after how many seconds."""
    waits = [(key, _wait_of(limiter, key)) for key in keys]
    return min(waits, key=itemgetter(1))


def _wait_of(limiter: AddressLimiter, key: str) -> float:
    """Return after how many seconds there is one left; 0: now."""
    try:
        limiter.check(key)
    except LimitExceeded as problem:
        return problem.retry_after
    return 0.0
