"""A database as one piece of bytes: taken beside the process that has it open, judged, put in place.

SQLite copies it in one read transaction, so that a copy is the database as it was at one commit,
whatever is written meanwhile. Nothing here writes to the database that it reads.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from tport.engine.errors import NotFound, TportError, Unavailable
from tport.engine.files import write_whole
from tport.engine.storage import content
from tport.engine.storage.database import (
    CHANGED,
    ROW,
    connect,
    explain,
    get,
    read_text,
)
from tport.engine.storage.formats import FORMATS, Formats
from tport.engine.storage.head import judge_mark, read_head, write_head
from tport.engine.storage.mark import Mark, MarkDamaged, MarkFile
from tport.engine.storage.migration import check_format, migrate

_COMPLAINTS = 10  # of one kind that are told
_WAL_FLAGS = slice(
    18, 20
)  # in the header: 2 says that there is a log beside it. Source: fileformat2 1.3.3


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """
    Attributes:
        data: the whole database; of what SQLite can read, what is stored now and nothing of what was.
        revision: of its last write.
        items: how many there are, expired ones too.
        complaints: what is wrong with it, each in a line.
        is_whole: SQLite can read all of it, whatever is wrong.
        format: of its records; an older one than the newest is brought forward when auth starts.
    """

    data: bytes
    revision: int
    items: int
    complaints: tuple[str, ...]
    is_whole: bool = True
    format: int

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


def take_snapshot(path: Path, formats: Formats = FORMATS) -> Snapshot:
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
        in_use, (mark, unmarked) = is_in_use(path), _read_mark(path)
        with closing(connect(path, "ro")) as source, closing(_memory()) as copy:
            source.backup(copy)
            data = bytearray(copy.serialize())
        data[_WAL_FLAGS] = b"\x01\x01"
        judged = judge(bytes(data), mark=mark, in_use=in_use, formats=formats)
        if judged.is_whole:  # judged before: copying a damaged index would mend it unseen
            judged = replace(judged, data=_without_free_pages(judged.data))
    except sqlite3.DatabaseError as error:
        known = explain(error)
        raise TportError(f"{path}: {known}", hint=known.hint) from error
    except OSError as error:
        raise Unavailable(f"{path} can't be read: {error.strerror}") from None
    if unmarked and judged.revision:
        return replace(judged, complaints=(*judged.complaints, unmarked))
    return judged


def judge(
    data: bytes,
    *,
    mark: Mark | None = None,
    in_use: bool = False,
    formats: Formats = FORMATS,
) -> Snapshot:
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
        version = check_format(connection, formats, "the database")
        if version == 0 and mark is not None:
            raise TportError(
                f"writes were lost: it is empty, and revision {mark.revision} was acknowledged",
                hint="is its log, which ends in -wal, missing?",
            )
        if version == 0:
            raise TportError("this is no database of tport's")
        for (line,) in connection.execute(f"PRAGMA integrity_check({_COMPLAINTS})"):
            if line != "ok":
                complaints.append(f"damaged: {line}")
        if complaints:
            return Snapshot(
                data=data,
                revision=0,
                items=0,
                complaints=tuple(complaints),
                is_whole=False,
                format=version,
            )
        head = read_head(connection)
        [items] = connection.execute("SELECT count(*) FROM items").fetchone()
        if content.sum_of(connection) != head.content:
            complaints.append(f"damaged: {CHANGED}")
        complaints += _unreadable(connection)
    is_newer = mark is not None and in_use and head.revision > mark.revision
    if mark is not None and judge_mark(mark, head) and not is_newer:
        complaints.append(
            f"writes were lost: it ends at revision {head.revision}, acknowledged was {mark.revision}"
        )
    return Snapshot(
        data=data,
        revision=head.revision,
        items=items,
        complaints=tuple(complaints),
        format=version,
    )


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """What of an earlier state is not to live again.

    Attributes:
        without: prefixes of keys that are left out.
        changed: prefix → what becomes of each value under it; None: it is left out, too.
    """

    without: Sequence[str] = ()
    changed: Mapping[str, Callable[[bytes], bytes | None]] = field(default_factory=dict)


def put_in_place(
    path: Path, data: bytes, forgetting: Forgetting, formats: Formats = FORMATS
) -> int:
    """Make a database of a copy, where there is none, and return how many items were left out.

    It is begun with a mark of its own: an old log or mark beside it has nothing to do with it. One of
    an older format is brought to the newest first: `forgetting` knows that alone.

    Raises:
        sqlite3.DatabaseError, OSError, TportError: it can't be done; there is no database then.
    """
    with _opened(data) as connection:
        if check_format(connection, formats, "the database") < formats.newest:
            migrate(connection, formats, backup="")  # what is restored is the backup
        mark, left_out = _begin_anew(connection, forgetting, above=0)
        connection.execute("VACUUM")  # what was left out is not to be found in free pages
        data = connection.serialize()
    for suffix in ("-wal", "-shm", ".mark"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()
    _write_mark(path, mark)
    write_whole(path, data)
    return left_out


def go_on_with(
    path: Path, forgetting: Forgetting, tell: Callable[[int], None] = lambda left_out: None
) -> int:
    """Make what is left of a database one that opens, and return how many items were left out.

    `tell` is called with that number when all can be done, and before it is: if it raises, it is not.

    Nobody may have it open. What SQLite can't read whole, this doesn't mend. Cut short, it leaves a
    database that still doesn't open, and may be called again.

    Raises:
        sqlite3.DatabaseError, OSError: it can't be done.
    """
    mark, _ = _read_mark(path)
    with closing(connect(path, "rw")) as connection:
        above = 0 if mark is None else mark.revision
        mark, left_out = _begin_anew(connection, forgetting, above=above, tell=tell)
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _write_mark(path, mark)
    return left_out


def _begin_anew(
    connection: sqlite3.Connection,
    forgetting: Forgetting,
    *,
    above: int,
    tell: Callable[[int], None] = lambda left_out: None,
) -> tuple[Mark, int]:
    """Forget what is to be forgotten, as a commit above this revision; return its mark, and how many went."""
    left_out = 0
    connection.execute("BEGIN IMMEDIATE")
    head = read_head(connection)
    revision = max(head.revision, above) + 1
    for prefix in forgetting.without:
        left_out += connection.execute(
            "DELETE FROM items WHERE key >= ? AND key < ?", _bounds(prefix)
        ).rowcount
    for prefix, change in forgetting.changed.items():
        for key, value, _, _ in connection.execute(
            f"{ROW} WHERE key >= ? AND key < ?", _bounds(prefix)
        ).fetchall():
            if (changed := change(value)) is None:
                connection.execute("DELETE FROM items WHERE key = ?", (key,))
                left_out += 1
                continue
            connection.execute(
                "UPDATE items SET value = ?, revision = ? WHERE key = ?", (changed, revision, key)
            )
    mark = Mark(revision, os.urandom(16))
    write_head(connection, mark, content.sum_of(connection))
    tell(left_out)  # closing rolls back
    connection.execute("COMMIT")
    return mark, left_out


def _bounds(prefix: str) -> tuple[bytes, bytes]:
    first = prefix.encode()
    return first, first + b"\xff"


def _read_mark(path: Path) -> tuple[Mark | None, str]:
    """Return the mark of the database at `path`; None with why there is none."""
    file = path.with_name(f"{path.name}.mark")
    try:
        mark = MarkFile(file).read()
    except MarkDamaged:
        return None, f"nothing tells whether writes were lost: {file.name} is damaged"
    if mark is None:
        return None, f"nothing tells whether writes were lost: {file.name} is missing"
    return mark, ""


def _write_mark(path: Path, mark: Mark) -> None:
    marks = MarkFile(path.with_name(f"{path.name}.mark"))
    marks.write(mark)
    marks.close()


def _unreadable(connection: sqlite3.Connection) -> Iterator[str]:
    """Tell of values that are not what auth writes: JSON, or nothing."""
    found = 0
    for key, value in connection.execute("SELECT key, value FROM items"):
        try:
            if value:
                msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, TypeError):
            found += 1
            if found <= _COMPLAINTS:
                name = key.decode("utf-8", "replace") if isinstance(key, bytes) else repr(key)
                yield f"what is stored at {name} can't be read"
    if found > _COMPLAINTS:
        yield f"and {found - _COMPLAINTS} more"


def _without_free_pages(data: bytes) -> bytes:
    """Return a database that holds its records alone: 0.1 left in free pages what it had changed or deleted."""
    with _opened(data) as connection:
        connection.execute("PRAGMA temp_store = MEMORY")  # no secrets in files beside
        connection.execute("VACUUM")
        return connection.serialize()


def _memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.text_factory = read_text
    return connection


@contextmanager
def _opened(data: bytes) -> Iterator[sqlite3.Connection]:
    with closing(_memory()) as connection:
        connection.deserialize(data)
        yield connection
