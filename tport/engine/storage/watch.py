"""Tells watchers what changed, without ever waiting for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

import trio

from tport.engine.storage.backend import Change, WatchLost, check_key

QUEUE: Final = 1024  # changes a watcher may lag behind; the one after them ends its watch


class Watch(trio.abc.ReceiveChannel[Change]):
    """The receiving end of one watch. It has no end but WatchLost."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._queued, self._changes = trio.open_memory_channel[Change](QUEUE)
        self._lost = ""

    async def receive(self) -> Change:
        """Return the next change, or raise WatchLost when changes were missed."""
        try:
            return await self._changes.receive()
        except trio.EndOfChannel:
            raise WatchLost(self._lost, hint="watch again, then read again") from None

    async def aclose(self) -> None:
        await self._changes.aclose()

    def tell(self, change: Change) -> None:
        if self._lost:
            return
        try:
            self._queued.send_nowait(change)
        except trio.WouldBlock:
            self.end(f"the watch of {self.prefix} fell behind by more than {QUEUE} changes")
        except trio.BrokenResourceError:
            pass  # its reader closed it and is on the way out

    def end(self, why: str) -> None:
        self._lost = why
        self._queued.close()


class Watchers:
    """All open watches of one backend."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()

    @asynccontextmanager
    async def watch(self, prefix: str) -> AsyncIterator[trio.abc.ReceiveChannel[Change]]:
        """Receive what is published under `prefix` while this is open."""
        check_key(prefix)
        watch = Watch(prefix)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            watch.end("the watch was closed")
            await watch.aclose()

    def publish(self, changes: Iterable[Change | None]) -> None:
        """Queue what became durable, for those whom it concerns. The order of calls is theirs."""
        for change in changes:
            if change is None:
                continue
            for watch in self._watches:
                if change.key.startswith(watch.prefix):
                    watch.tell(change)

    def close(self) -> None:
        """End every watch: its backend is closing."""
        for watch in self._watches:
            watch.end("storage was closed")
