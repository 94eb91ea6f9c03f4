"""The high-water mark beside a database: the last write that was acknowledged.

SQLite takes a write-ahead log that is damaged in the middle, or gone, for one that ends early:
it drops the later commits and calls the rest sound. A revoked session would live again. So each
commit leaves a random mark in the database, and the same mark goes to a small file of its own
before anyone is told that the write is done. At the next start the two must meet.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tport.engine.errors import TportError
from tport.engine.files import write_whole

MAGIC: Final = "tport-storage-mark 1"


@dataclass(frozen=True, slots=True)
class Mark:
    """One commit: its revision, and 16 random bytes that no other commit has."""

    revision: int
    token: bytes


class MarkDamaged(TportError):
    """The file beside the database isn't a mark."""


class MarkFile:
    """The file that holds one mark. Its calls block on the disk, and raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def read(self) -> Mark | None:
        """Return the mark, or None if there is no file.

        Raises:
            MarkDamaged: the file holds something else.
        """
        try:
            text = self.path.read_bytes().decode("ascii", "replace")
        except FileNotFoundError:
            return None
        try:
            magic, revision, token = text.rsplit(maxsplit=2)
            mark = Mark(int(revision), bytes.fromhex(token))
        except ValueError:
            magic, mark = "", Mark(0, b"")
        if magic != MAGIC:
            raise MarkDamaged(
                f"{self.path} is damaged: it should name the last write to the database beside it",
                hint="put it back with the database it belongs to; or go on with that as it is:"
                " tport db accept-rollback",
            )
        return mark

    def write(self, mark: Mark) -> None:
        """Make `mark` durable. The record has one length and fits a disk sector: old or new, never half."""
        record = f"{MAGIC} {mark.revision:020d} {mark.token.hex()}\n".encode()
        if self._fd is None:
            write_whole(self.path, record)
            self._fd = os.open(self.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        else:
            os.pwrite(self._fd, record, 0)
            os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
