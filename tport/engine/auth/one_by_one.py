"""One after the other for each person or account, and all others beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


class OneByOne:
    """A lock for each key, there for as long as somebody holds it or waits for it.

    What counts and then writes holds it from the one to the other: the log and storage let others
    go on in between. It knows no deadline: what is done inside must have one.
    """

    def __init__(self) -> None:
        self._locks: dict[str, tuple[trio.Lock, int]] = {}  # and how many hold it or wait

    def inside(self, key: str) -> int:
        """Return how many have their turn or wait for it."""
        return self._locks[key][1] if key in self._locks else 0

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        lock, inside = self._locks.get(key, (trio.Lock(), 0))
        self._locks[key] = (lock, inside + 1)
        try:
            async with lock:
                yield
        finally:
            lock, inside = self._locks.pop(key)
            if inside > 1:
                self._locks[key] = (lock, inside - 1)
