"""How often one address may try: a bucket of tokens for each, in a table that can't grow."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from tport.engine.defaults import MAX_ADDRESSES
from tport.engine.errors import LimitExceeded

_PREFIX_V6 = 64  # bits: what one subscriber gets, so what one of them is


class AddressLimiter:
    """Tries per address, refilled evenly. The least recently seen address is forgotten first."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        per_minute: float,
        burst: int,
        size: int = MAX_ADDRESSES,
    ) -> None:
        self._clock = clock
        self._rate = per_minute / 60
        self._burst = burst
        self._size = size
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise LimitExceeded when this address has no try left; takes none."""
        left, _ = self._level(address_key(address))
        if left < 1:
            wait = math.ceil((1 - left) / self._rate)
            raise LimitExceeded(
                f"too many attempts from this address; try again in {wait} s",
                retry_after=float(wait),
            )

    def take(self, address: str) -> None:
        """Use up one try."""
        key = address_key(address)
        left, now = self._level(key)
        self._buckets[key] = (max(0.0, left - 1), now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._size:
            self._buckets.popitem(last=False)

    def _level(self, key: str) -> tuple[float, float]:
        now = self._clock().timestamp()
        left, then = self._buckets.get(key, (float(self._burst), now))
        if now < then:  # the clock was set back: tries come again from now on
            self._buckets[key] = left, now
            return left, now
        return min(self._burst, left + (now - then) * self._rate), now


def address_key(remote: str) -> str:
    """Return what tries from `remote` (an address, with or without port) are counted under."""
    host = remote.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _PREFIX_V6), strict=False))
    return str(address)
