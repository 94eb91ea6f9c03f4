"""The default backend: one SQLite file, whose acknowledged writes survive a crash.

One task owns all writing. What was queued while it waited for the disk becomes its next
transaction, so that the cost of one `fsync` is shared by all who write at the time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, NoReturn, TypeVar

import trio

from tport.engine.errors import NotFound, TportError, Unavailable
from tport.engine.metrics.catalogue import STORAGE_BOUNDS
from tport.engine.metrics.sample import Histogram, Sample, Trouble, one
from tport.engine.storage.backend import (
    BATCH_LIMIT,
    Backend,
    Change,
    Expire,
    Item,
    Operation,
    Put,
    check_batch,
    check_key,
    keep_sweeping,
)
from tport.engine.storage.database import (
    Database,
    KeepBackup,
    Outcome,
    Write,
    count,
    expired_keys,
    explain,
    get,
    get_range,
)
from tport.engine.storage.watch import Watchers

T = TypeVar("T")

QUEUE: Final = 256  # writes that wait for their group; further callers wait to get in
GROUP: Final = 256  # writes in one transaction
WRITE_DEADLINE: Final = 5.0  # s from asking to Unavailable
SWEEP_LIMIT: Final = 1024  # items one sweep deletes; the next goes on


@asynccontextmanager
async def open_sqlite_backend(
    path: Path, clock: Callable[[], datetime], keep: KeepBackup | None = None
) -> AsyncIterator[SqliteBackend]:
    """Open the database at `path`, or create it, for this process alone.

    Beside it lie `-wal` and `-shm` (SQLite's), `.lock` (who has it open) and `.mark` (the last
    acknowledged write; see `mark.py`). The directory must be on a local disk.

    Args:
        clock: returns the aware time against which expiry is judged.
        keep: puts a backup aside before a database of an older format is brought forward.

    Raises:
        Unavailable: another process has it open.
        TportError: it is damaged, or lost writes that were acknowledged, or is too new; the
            message says what to do. Nothing was changed.
    """
    database = await trio.to_thread.run_sync(Database, path, keep)
    try:
        backend = SqliteBackend(database, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.keep_writing)
            nursery.start_soon(keep_sweeping, backend)
            try:
                yield backend
            finally:
                backend.close()
                nursery.cancel_scope.cancel()
    finally:
        with trio.CancelScope(shield=True):  # short: folds a log of a few MB into the file
            await trio.to_thread.run_sync(database.close)


@dataclass(eq=False, slots=True)
class _Pending:
    """A write on its way, and its caller, as long as there is one."""

    write: Write
    is_wanted: bool = True
    outcome: Outcome | None = None
    done: trio.Event = field(default_factory=trio.Event)


class SqliteBackend(Backend):
    """A database file behind the promise of `Backend`. `open_sqlite_backend` makes and runs it.

    A write that isn't done within WRITE_DEADLINE raises Unavailable; one that was still queued
    then is never done. Time is real here: threads know no mock clock.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._connections = database.readers
        self._clock = clock
        self._watchers = Watchers()
        self._send, self._receive = trio.open_memory_channel[_Pending](QUEUE)
        self._readers = trio.CapacityLimiter(len(self._connections))
        self._writer = trio.CapacityLimiter(1)
        self._took = {"read": Histogram(STORAGE_BOUNDS), "write": Histogram(STORAGE_BOUNDS)}
        self._failures = 0
        self._problem = ""  # why the last write failed; "": it didn't

    async def get(self, key: str) -> Item:
        check_key(key)
        item = await self._read(lambda connection: get(connection, key))
        if item is None or not item.is_live(self._clock()):
            raise NotFound(f"nothing is at {key}")
        return item

    async def range(self, prefix: str, *, limit: int | None = None) -> list[Item]:
        check_key(prefix)
        now = self._clock()
        return await self._read(lambda connection: get_range(connection, prefix, now, limit))

    async def count(self, prefix: str) -> int:
        check_key(prefix)
        return await self._read(lambda connection: count(connection, prefix))

    async def figures(self) -> Iterable[Sample]:
        """Tell how long storage takes, how often it failed, and how much waits for it."""
        waiting = self._receive.statistics().current_buffer_used
        return (
            one("tport_queue", waiting, "storage"),
            one("tport_storage_failures_total", self._failures),
            *(
                Sample("tport_storage_seconds", took.values, (operation,))
                for operation, took in self._took.items()
            ),
        )

    def troubles(self) -> Iterable[Trouble]:
        return (Trouble("storage", self._problem),) if self._problem else ()

    async def batch(self, operations: Sequence[Operation]) -> list[Item | None]:
        check_batch(operations)
        changes = await self._apply(operations)
        return [change.item if isinstance(change, Put) else None for change in changes]

    def watch(self, prefix: str) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Change]]:
        return self._watchers.watch(prefix)

    async def sweep(self) -> int:
        now = self._clock()
        keys = await self._read(lambda connection: expired_keys(connection, now, SWEEP_LIMIT))
        swept = 0
        for start in range(0, len(keys), BATCH_LIMIT):
            changes = await self._apply([Expire(key) for key in keys[start : start + BATCH_LIMIT]])
            swept += sum(change is not None for change in changes)
        return swept

    async def keep_writing(self) -> NoReturn:
        """Take what is queued, commit it in a thread, tell watchers and callers; until cancelled."""
        while True:
            group = [await self._receive.receive()]
            while len(group) < GROUP:
                try:
                    group.append(self._receive.receive_nowait())
                except trio.WouldBlock:
                    break
            group = [pending for pending in group if pending.is_wanted]
            if not group:
                continue
            writes = [pending.write for pending in group]
            outcomes = await trio.to_thread.run_sync(
                self._database.commit, writes, limiter=self._writer
            )
            for pending, outcome in zip(group, outcomes, strict=True):
                self._watchers.publish(outcome.changes)
                pending.outcome = outcome
                pending.done.set()

    def close(self) -> None:
        self._watchers.close()

    async def _apply(self, operations: Sequence[Operation | Expire]) -> list[Change | None]:
        pending = _Pending(Write(tuple(operations), self._clock()))
        began = trio.current_time()
        try:
            with trio.move_on_after(WRITE_DEADLINE):
                await self._send.send(pending)
                await pending.done.wait()
        finally:
            pending.is_wanted = False  # nobody is there to hear of it: don't begin it
        self._took["write"].observe(trio.current_time() - began)
        if pending.outcome is None:
            slow = Unavailable(
                f"storage didn't confirm a write within {WRITE_DEADLINE:.0f} s",
                hint="see whether the disk of the data directory is slow or full",
            )
            self._note(slow)
            raise slow
        wrote = any(change is not None for change in pending.outcome.changes)
        self._note(pending.outcome.error, wrote=wrote)
        if pending.outcome.error is not None:
            raise pending.outcome.error
        return pending.outcome.changes

    def _note(self, error: TportError | None, *, wrote: bool = False) -> None:
        """Remember how a write went.

        That it may not be done is no failure of storage; nor is it a sign that storage is well again,
        since nothing was written.
        """
        if isinstance(error, Unavailable):
            self._failures += 1
            self._problem = str(error)
        elif error is None and wrote:
            self._problem = ""

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        def read() -> T:
            connection = self._connections.pop()  # the limiter leaves one for each of us
            try:
                return query(connection)
            finally:
                self._connections.append(connection)

        began = trio.current_time()
        try:
            return await trio.to_thread.run_sync(read, limiter=self._readers)
        except sqlite3.DatabaseError as error:
            self._failures += 1
            raise explain(error) from error
        finally:
            self._took["read"].observe(trio.current_time() - began)
