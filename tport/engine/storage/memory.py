"""A backend in memory: for tests, and for what may be gone with the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime

import trio

from tport.engine.errors import NotFound
from tport.engine.storage.backend import (
    Backend,
    Change,
    Deleted,
    Expire,
    Item,
    Operation,
    Put,
    check_batch,
    check_key,
    decide,
    keep_sweeping,
)
from tport.engine.storage.watch import Watchers


@asynccontextmanager
async def open_memory_backend(clock: Callable[[], datetime]) -> AsyncIterator[MemoryBackend]:
    """Open an empty backend; what it holds is forgotten when it closes.

    Args:
        clock: returns the aware time against which expiry is judged.
    """
    backend = MemoryBackend(clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_sweeping, backend)
        try:
            yield backend
        finally:
            backend.close()
            nursery.cancel_scope.cancel()


class MemoryBackend(Backend):
    """A dict behind the promise of `Backend`. `open_memory_backend` makes it and sweeps it."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._items: dict[str, Item] = {}
        self._revision = 0
        self._watchers = Watchers()

    async def get(self, key: str) -> Item:
        check_key(key)
        await trio.lowlevel.checkpoint()
        item = self._items.get(key)
        if item is None or not item.is_live(self._clock()):
            raise NotFound(f"nothing is at {key}")
        return item

    async def range(self, prefix: str, *, limit: int | None = None) -> list[Item]:
        check_key(prefix)
        await trio.lowlevel.checkpoint()
        now = self._clock()
        keys = sorted(key for key in self._items if key.startswith(prefix))
        return [item for key in keys if (item := self._items[key]).is_live(now)][:limit]

    async def batch(self, operations: Sequence[Operation]) -> list[Item | None]:
        check_batch(operations)
        await trio.lowlevel.checkpoint()  # before: once it is done the caller hears so
        changes = self._apply(operations)
        return [change.item if isinstance(change, Put) else None for change in changes]

    def watch(self, prefix: str) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Change]]:
        return self._watchers.watch(prefix)

    async def sweep(self) -> int:
        await trio.lowlevel.checkpoint()
        now = self._clock()
        expired = [Expire(key) for key, item in self._items.items() if not item.is_live(now)]
        return len(self._apply(expired))

    def close(self) -> None:
        self._watchers.close()

    def _apply(self, operations: Sequence[Operation | Expire]) -> list[Change | None]:
        now, revision = self._clock(), self._revision + 1
        changes = [
            decide(operation, self._items.get(operation.key), revision=revision, now=now)
            for operation in operations
        ]
        for change in changes:
            match change:
                case Put(item):
                    self._items[item.key] = item
                case Deleted(key):
                    self._items.pop(key, None)
        if any(changes):
            self._revision = revision
            self._watchers.publish(changes)
        return changes
