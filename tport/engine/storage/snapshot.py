"""A database as one piece of bytes: taken beside the process that has it open, judged, put in place.

SQLite copies it in one read transaction, so that a copy is the database as it was at one commit,
whatever is written meanwhile. Nothing here writes to the database that it reads.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tport.engine.errors import NotFound, TportError, Unavailable
from tport.engine.storage.database import SCHEMA_VERSION, connect, explain, get, read_head
from tport.engine.storage.mark import Mark, MarkFile, sync_directory

_COMPLAINTS = 10  # of one kind that are told
_WAL_FLAGS = slice(
    18, 20
)  # in the header: 2 says that there is a log beside it. Source: fileformat2 1.3.3


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """
    Attributes:
        data: the whole database.
        revision: of its last write.
        items: how many there are, expired ones too.
        complaints: what is wrong with it, each in a line.
    """

    data: bytes
    revision: int
    items: int
    complaints: tuple[str, ...]

    def value(self, key: str) -> bytes | None:
        """Return what is stored under a key; None: nothing."""
        with _opened(self.data) as connection:
            item = get(connection, key)
        return None if item is None else item.value


def is_in_use(path: Path) -> bool:
    """Tell whether a process has the database open."""
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def take_snapshot(path: Path) -> Snapshot:
    """Copy the database at `path`, and judge the copy. Blocks.

    Raises:
        NotFound: there is none.
        Unavailable: it can't be read now.
        TportError: it is damaged beyond being copied, or no database of tport's.
    """
    if not path.exists():
        raise NotFound(f"there is no database at {path}")
    try:
        # The mark first: what is acknowledged after it only makes the copy newer.
        in_use, mark = is_in_use(path), MarkFile(path.with_name(f"{path.name}.mark")).read()
        with closing(connect(path, "ro")) as source, closing(_memory()) as copy:
            source.backup(copy)
            data = bytearray(copy.serialize())
        data[_WAL_FLAGS] = b"\x01\x01"
        return judge(bytes(data), mark=mark, in_use=in_use)
    except sqlite3.DatabaseError as error:
        known = explain(error)
        raise TportError(f"{path}: {known}", hint=known.hint) from error
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from None


def judge(data: bytes, *, mark: Mark | None = None, in_use: bool = False) -> Snapshot:
    """Return a copy with all that is wrong with it.

    Args:
        mark: the last write that was acknowledged before the copy was taken; None: not known.
        in_use: it was taken while others wrote: it may be newer than the mark.

    Raises:
        sqlite3.DatabaseError: it is no database.
        TportError: it is none of ours, or newer than this version.
    """
    complaints: list[str] = []
    with _opened(data) as connection:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version == 0 and mark is not None:
            raise TportError(
                f"writes were lost: it is empty, and revision {mark.revision} was acknowledged",
                hint="is its log, which ends in -wal, missing?",
            )
        if version != SCHEMA_VERSION:
            raise TportError(
                f"the database has format {version}, this version of tport knows {SCHEMA_VERSION}",
                hint="use the version of tport that wrote it",
            )
        for (line,) in connection.execute(f"PRAGMA integrity_check({_COMPLAINTS})"):
            if line != "ok":
                complaints.append(f"damaged: {line}")
        if complaints:
            return Snapshot(data=data, revision=0, items=0, complaints=tuple(complaints))
        revision, token, previous = read_head(connection)
        [items] = connection.execute("SELECT count(*) FROM items").fetchone()
        complaints += _unreadable(connection)
    if mark is not None and not _meets(mark, revision, {token, previous}, in_use=in_use):
        complaints.append(
            f"writes were lost: it ends at revision {revision}, acknowledged was {mark.revision}"
        )
    return Snapshot(data=data, revision=revision, items=items, complaints=tuple(complaints))


def put_in_place(path: Path, data: bytes, without: Sequence[str]) -> int:
    """Make a database of a copy, where there is none, and return how many items were left out.

    It is begun with a mark of its own: an old log or mark beside it has nothing to do with it.

    Args:
        without: prefixes of keys that are not to live again.

    Raises:
        sqlite3.DatabaseError, OSError: it can't be done; there is no database then.
    """
    left_out = 0
    with _opened(data) as connection:
        for prefix in without:
            first = prefix.encode()
            left_out += connection.execute(
                "DELETE FROM items WHERE key >= ? AND key < ?", (first, first + b"\xff")
            ).rowcount
        revision, _, _ = read_head(connection)
        mark = Mark(revision + 1, os.urandom(16))
        connection.execute(
            "UPDATE head SET revision = ?, mark = ?, previous = mark", (mark.revision, mark.token)
        )
        connection.execute("VACUUM")  # what was left out is not to be found in free pages
        data = connection.serialize()
    for suffix in ("-wal", "-shm", ".mark"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    marks = MarkFile(path.with_name(f"{path.name}.mark"))
    marks.write(mark)
    marks.close()
    new = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_directory(path.parent)
    return left_out


def _meets(mark: Mark, revision: int, tokens: set[bytes], *, in_use: bool) -> bool:
    if mark.token in tokens:
        return True
    return in_use and revision > mark.revision


def _unreadable(connection: sqlite3.Connection) -> Iterator[str]:
    """Tell of values that are not what auth writes: JSON, or nothing."""
    found = 0
    for key, value in connection.execute("SELECT key, value FROM items"):
        try:
            if value:
                msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            found += 1
            if found <= _COMPLAINTS:
                yield f"what is stored at {key.decode('utf-8', 'replace')} can't be read"
    if found > _COMPLAINTS:
        yield f"and {found - _COMPLAINTS} more"


def _memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


@contextmanager
def _opened(data: bytes) -> Iterator[sqlite3.Connection]:
    with closing(_memory()) as connection:
        connection.deserialize(data)
        yield connection
