"""Password hashing off the loop, a few at a time, with a queue that has an end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, TypeVar

import trio

from tport.engine.access.passwords import check_password_strength, hash_password
from tport.engine.auth.one_by_one import OneByOne
from tport.engine.defaults import ACCOUNT_QUEUE, CODE_QUEUE, HASH_QUEUE, HASH_WAIT
from tport.engine.errors import LimitExceeded

T = TypeVar("T")

GIVES_WAY: Final = 10  # nice: beside a thread that wants the CPU too, a tenth of it is left
_RETRY = 5.0  # s


class Hasher:
    """Runs hashes in threads, as many as there are cores: each takes 46 MiB while it runs.

    They give way to whatever else the machine does: many who sign in don't slow down requests.
    Tries at one account go one after the other, so that the count of failures is exact:
    a hundred guesses sent at once are still five, and then the lock.

    Attributes:
        refused: how many found no room, since the start.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._limiter = trio.CapacityLimiter(threads or os.cpu_count() or 1)
        self._inside = 0
        self._took = 0.0  # s, the last hash
        self.refused = 0
        self._accounts = OneByOne()

    @asynccontextmanager
    async def turn(self, account: str, *, hashes: bool = True) -> AsyncIterator[None]:
        """Wait for this account's turn. Who waits for it takes none of the places of who wants a hash.

        Args:
            hashes: a password is tried or chosen in it. What needs none, as a code, takes nobody's place.

        Raises:
            LimitExceeded: too many wait already, for this account or for a hash.
        """
        self._check_room(
            self._accounts.inside(account) <= (ACCOUNT_QUEUE if hashes else CODE_QUEUE)
        )
        async with self._accounts.turn(account):
            if not hashes:
                yield
                return
            before = self._inside / self._limiter.total_tokens  # hashes, one after the other
            self._check_room(before < 1 + HASH_QUEUE and before * self._took < HASH_WAIT)
            self._inside += 1
            try:
                yield
            finally:
                self._inside -= 1

    def _check_room(self, is_room: bool) -> None:
        if not is_room:
            self.refused += 1
            raise LimitExceeded(
                "too many people sign in right now; try again in a few seconds", retry_after=_RETRY
            )

    async def chosen(self, password: str, *, user: str, cluster: str, minimum: int) -> str:
        """Return the hash of a password that somebody chose; the arguments as in `access.passwords`.

        Raises:
            InvalidRequest: it won't do, in words for its chooser.
        """
        check = partial(
            check_password_strength, password, user=user, cluster=cluster, minimum=minimum
        )
        # All in Python: a thread that gives way would have the loop wait for it.
        await trio.to_thread.run_sync(check, limiter=self._limiter)
        return await self.run(partial(hash_password, password))

    async def run(self, hash_: Callable[[], T]) -> T:
        """Run one hash in a thread."""
        work = partial(_aside, hash_)
        result, self._took = await trio.to_thread.run_sync(work, limiter=self._limiter)
        return result


def _aside(hash_: Callable[[], T]) -> tuple[T, float]:
    """Do it in a thread of its own: one that has given way can't go back, and trio's are used again.

    Returns:
        What it returned, and the seconds that it took.
    """
    began = time.monotonic()
    with ThreadPoolExecutor(1, initializer=_give_way) as thread:
        return thread.submit(hash_).result(), time.monotonic() - began


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere it is the whole process that would
        with suppress(OSError):  # what a sandbox may forbid
            os.nice(GIVES_WAY)
