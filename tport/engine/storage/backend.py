"""What every storage keeps: one ordered map of keys to bytes, with revisions, expiry and watching.

A key is a path ("/tokens/3f…"), starts with "/" and has at most 1 KiB of UTF-8; a value is at
most 1 MiB. Each write that changes something takes the next revision of the whole store; a
batch is one write, so its items share theirs. An expired item is as gone as a deleted one, from
the instant its `expires` is reached by the clock that the backend was opened with.

`decide` is the meaning of each operation, for backends that look before they write.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, NoReturn

import trio

from tport.engine.defaults import EARLIEST, LATEST
from tport.engine.errors import (
    AlreadyExists,
    CompareFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
)

logger = logging.getLogger(__name__)

KEY_LIMIT: Final = 1024  # bytes of UTF-8
VALUE_LIMIT: Final = 1024 * 1024  # bytes; etcd's request limit is 1.5 MiB
BATCH_LIMIT: Final = 64  # operations; etcd's limit is 128
SWEEP_INTERVAL: Final = 5.0  # s between deletions of what expired; readers never wait for it


@dataclass(frozen=True, slots=True)
class Item:
    """One key with its value.

    `expires` is aware, or None for never. `revision` is that of the write that made the item,
    0 until it is written.
    """

    key: str
    value: bytes
    expires: datetime | None = None
    revision: int = 0

    def is_live(self, now: datetime) -> bool:
        return self.expires is None or now < self.expires


@dataclass(frozen=True, slots=True)
class _ItemWritten:
    item: Item

    @property
    def key(self) -> str:
        return self.item.key


class Create(_ItemWritten):
    """Write an item whose key is free, else AlreadyExists."""

    __slots__ = ()


class Put(_ItemWritten):
    """Write an item whatever was there. As a change: this item is there now."""

    __slots__ = ()


class CompareAndSwap(_ItemWritten):
    """Replace the item of exactly this revision, else CompareFailed."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an item, else NotFound; if `revision` is given and is another's, CompareFailed."""

    key: str
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """Let the batch pass only while `key` has this revision (0: while there is none)."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Expire:
    """Delete what expired under `key`, if it did. The sweep's own; no part of a batch."""

    key: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """A change: nothing is at `key` since the write of this revision."""

    key: str
    revision: int


Operation = Create | Put | CompareAndSwap | Delete | Check
Change = Put | Deleted


class WatchLost(Unavailable):
    """The watcher misses changes: watch again, then read again."""


class Backend(ABC):
    """One map of keys to bytes.

    Any method may raise InvalidRequest, for a key, value or batch outside the limits, and
    Unavailable, when storage can't answer now. A caller that is cancelled during a write finds
    it done whole or not at all, and can't know which.
    """

    @abstractmethod
    async def get(self, key: str) -> Item:
        """Return the item, or raise NotFound."""

    @abstractmethod
    async def range(self, prefix: str, *, limit: int | None = None) -> list[Item]:
        """Return the items whose keys start with `prefix`, in key order; at most the first `limit`."""

    @abstractmethod
    async def batch(self, operations: Sequence[Operation]) -> list[Item | None]:
        """Do all operations, or none: at most 64, each on a key of its own.

        Returns:
            For each operation the item as written, with its revision; None if it writes none.

        Raises:
            What the first operation that can't be done raises.
        """

    @abstractmethod
    def watch(self, prefix: str) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Change]]:
        """Receive every change under `prefix` that becomes durable from here on, by revision.

        Open the watch first, then read: a change whose revision isn't above the item's is old.
        A write is in the watchers' queues before its writer's call returns. Expiry shows as
        Deleted when the sweep comes by, or as the Put of a successor.

        The receiver raises WatchLost, after what is queued, once its queue overflowed (see
        `watch.QUEUE`) or the backend closed: writers never wait for a watcher.
        """

    @abstractmethod
    async def sweep(self) -> int:
        """Delete what expired; return how many items."""

    async def count(self, prefix: str) -> int:
        """Return how many items' keys start with `prefix`; some of them may have expired just now."""
        return len(await self.range(prefix))

    async def create(self, item: Item) -> Item:
        """Write an item whose key is free and return it with its revision, or raise AlreadyExists."""
        return await self._write(Create(item))

    async def put(self, item: Item) -> Item:
        """Write an item, whatever was there, and return it with its revision."""
        return await self._write(Put(item))

    async def compare_and_swap(self, item: Item) -> Item:
        """Replace the item that was read with `item.revision`.

        Raises:
            CompareFailed: it changed or went since.
        """
        return await self._write(CompareAndSwap(item))

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete an item; with `revision`, only that one.

        Raises:
            NotFound: there is none.
            CompareFailed: it has another revision.
        """
        await self.batch([Delete(key, revision)])

    async def _write(self, operation: Create | Put | CompareAndSwap) -> Item:
        [written] = await self.batch([operation])
        assert written is not None
        return written


def decide(
    operation: Operation | Expire, stored: Item | None, *, revision: int, now: datetime
) -> Change | None:
    """Judge one operation against what is stored under its key, expired or not.

    Returns:
        The change to make, with the `revision` given, or None if there is nothing to do.

    Raises:
        AlreadyExists, CompareFailed, NotFound: it may not be done.
    """
    current = stored if stored is not None and stored.is_live(now) else None
    match operation:
        case Create(item):
            if current is not None:
                raise AlreadyExists(f"{item.key} exists already")
            return Put(replace(item, revision=revision))
        case Put(item):
            return Put(replace(item, revision=revision))
        case CompareAndSwap(item):
            if current is None or current.revision != item.revision:
                raise CompareFailed(f"{item.key} changed since it was read")
            return Put(replace(item, revision=revision))
        case Delete(key, expected):
            if current is None:
                raise NotFound(f"nothing is at {key}")
            if expected is not None and current.revision != expected:
                raise CompareFailed(f"{key} changed since it was read")
            return Deleted(key, revision)
        case Check(key, expected):
            if (current.revision if current is not None else 0) != expected:
                raise CompareFailed(f"{key} changed since it was read")
            return None
        case Expire(key):
            return Deleted(key, revision) if stored is not None and current is None else None


def check_key(key: str) -> None:
    """Raise InvalidRequest unless `key` may be a key, or a prefix of keys."""
    if not key.startswith("/"):
        raise InvalidRequest(f"storage key {key[:80]!r} doesn't start with '/'")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"storage key {key[:80]!r} is no valid Unicode") from None
    if size > KEY_LIMIT:
        raise InvalidRequest(f"storage key {key[:80]!r}… has {size} bytes, at most {KEY_LIMIT}")


def check_batch(operations: Sequence[Operation]) -> None:
    """Raise InvalidRequest unless every key, value and time in `operations`, and their number, will do."""
    if len(operations) > BATCH_LIMIT:
        raise InvalidRequest(f"{len(operations)} operations in a batch, at most {BATCH_LIMIT}")
    keys = [operation.key for operation in operations]
    # So that no operation depends on another, and one revision a batch tells all its items apart.
    if len(set(keys)) < len(keys):
        raise InvalidRequest("a batch names a key twice")
    for operation in operations:
        check_key(operation.key)
        if isinstance(operation, Create | Put | CompareAndSwap):
            item = operation.item
            if len(item.value) > VALUE_LIMIT:
                raise InvalidRequest(
                    f"value of {item.key} has {len(item.value)} bytes, at most {VALUE_LIMIT}"
                )
            if item.expires is not None and item.expires.tzinfo is None:
                raise InvalidRequest(f"expiry of {item.key} has no time zone")
            if item.expires is not None and not EARLIEST <= item.expires <= LATEST:
                raise InvalidRequest(f"expiry of {item.key} is too far away")


async def keep_sweeping(backend: Backend) -> NoReturn:
    """Delete what expires, every few seconds, until cancelled."""
    while True:
        await trio.sleep(SWEEP_INTERVAL)
        try:
            await backend.sweep()
        except Unavailable as problem:
            logger.warning("expired items stay for now: %s", problem)
