"""Which proxies show the challenges of an order: the CA may come to any of them. Memory only.

After a restart of auth every proxy begins its watch anew, and says again what it shows.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import trio

from tport.engine.auth.machines.presence import Presence
from tport.engine.auth.stores import Stores

WAIT: Final = 5.0  # s that one call waits; callers give up after 10
MAX_ORDERS: Final = 1000  # remembered; those of a minute, were each host ordered at once
_SEVERAL: Final = "several"


class AcmeHolders:
    def __init__(self, stores: Stores, presence: Presence) -> None:
        self._marks = stores.acme_marks
        self._presence = presence
        self._holders: OrderedDict[str, set[str]] = OrderedDict()
        self._moved = trio.Event()
        presence.on_change.append(self._move)

    async def holds(self, order: str, proxy: str) -> None:
        """See `AuthAPI.acme_holds`."""
        self._holders.setdefault(order[:64], set()).add(proxy)
        if len(self._holders) > MAX_ORDERS:
            self._holders.popitem(last=False)
        if len(self._presence.proxies) > 1 and await self._marks.find(_SEVERAL) is None:
            await self._marks.put(_SEVERAL, True)
        self._move()

    async def all_hold(self, order: str, proxy: str) -> bool:
        """See `AuthAPI.acme_all_hold`.

        Just after a restart of auth a proxy may live of which it hasn't heard yet; a cluster that
        has had several at a time waits for those.
        """
        several = await self._marks.find(_SEVERAL) is not None
        with trio.move_on_after(WAIT):
            while not self._do_all_hold(order[:64], proxy, several=several):
                await self._moved.wait()
            return True
        return False

    def _do_all_hold(self, order: str, proxy: str, *, several: bool) -> bool:
        if several and not self._presence.knows_proxies:
            return False
        return {proxy, *self._presence.proxies} <= self._holders.get(order, set())

    def _move(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
