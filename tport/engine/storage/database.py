"""The SQLite file of a backend: opening it safely, committing groups of writes, reading.

Everything here blocks and is called from threads: `commit` by one at a time, the reads by any
number, each on a connection of its own.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tport.engine.defaults import LATEST
from tport.engine.errors import TportError, Unavailable
from tport.engine.files import sync_directory
from tport.engine.storage import content
from tport.engine.storage.backend import Change, Deleted, Expire, Item, Operation, Put, decide
from tport.engine.storage.formats import FORMATS, Formats
from tport.engine.storage.head import Head, judge_mark, read_head, write_head
from tport.engine.storage.mark import Mark, MarkFile
from tport.engine.storage.migration import check_format, migrate, note_format

logger = logging.getLogger(__name__)

BUSY_TIMEOUT: Final = 4.0  # s that another process may hold the file; below sqlite.WRITE_DEADLINE
READERS: Final = 2  # connections for reading; each serves one thread at a time
WAL_KEPT: Final = 64 * 1024 * 1024  # bytes of log kept on disk after a burst

# Keys are blobs: compared byte by byte, which is the order of the promise.
SCHEMA: Final = """
CREATE TABLE items (
    key BLOB NOT NULL PRIMARY KEY,
    value BLOB NOT NULL,
    expires INTEGER,  -- microseconds since 1970, UTC
    revision INTEGER NOT NULL
);
CREATE INDEX items_by_expiry ON items (expires) WHERE expires IS NOT NULL;
-- One row: the last commit, the mark of the one before it, and the sum of all items.
CREATE TABLE head (
    revision INTEGER NOT NULL, mark BLOB NOT NULL, previous BLOB NOT NULL, content BLOB NOT NULL
);
INSERT INTO head VALUES (0, randomblob(16), randomblob(16), zeroblob(32));
"""

ROW: Final = "SELECT key, value, expires, revision FROM items"
CHANGED: Final = "a record is not as it was written"
_FREE: Final = "free space where the data directory is"
_RESTORE: Final = "see what is left: tport db check; to begin again from a backup: tport restore"
_GO_ON: Final = (
    "put the newest copy of it back together with its -wal and .mark; or begin again from a backup: tport"
    " restore; or go on with what is left: tport db accept-rollback"
)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
ROOM: Final = 256 * 1024  # bytes that SQLite may need beside a database to open it
LOOKED_AT: Final = 0.2  # s for which a lock may be held by who only looks whether it is
MICROSECOND: Final = timedelta(microseconds=1)


# Puts the database aside as it is, and returns the file's name as seen from its folder; raises TportError.
KeepBackup = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Write:
    """Operations that are done together or not at all, asked for at `now`."""

    operations: Sequence[Operation | Expire]
    now: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a write: the changes that are durable, one for each operation, or why not.

    Both, if it is durable but can't be acknowledged.
    """

    changes: list[Change | None] = field(default_factory=list)
    error: TportError | None = None


class Database:
    """An open database file, ours alone. `readers` are connections for whoever reads."""

    def __init__(
        self, path: Path, keep: KeepBackup | None = None, formats: Formats = FORMATS
    ) -> None:
        """Open or create the file, with its lock and its mark beside it.

        One of an older format is brought forward, after `keep` has put a backup aside: in one
        transaction, so that a crash leaves the old format or the new.

        Args:
            keep: makes the backup and returns its name; None: what would need one is refused.

        Raises:
            Unavailable: another process has it open, or the disk fails.
            TportError: it is damaged, behind its mark, no database of ours, or too new for us.
        """
        self.path = path
        self._formats = formats
        self._keep = keep
        self._marks = MarkFile(path.with_name(f"{path.name}.mark"))
        try:
            self._lock = _lock(path)
        except OSError as error:
            raise Unavailable(f"can't open the database {path}: {error.strerror}") from error
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._release()
            if _is_full(
                path, error
            ):  # SQLite needs room beside the file, and says that the disk fails
                raise Unavailable(
                    f"can't open the database {path}: its disk is full",
                    hint="free some space and start again: nothing is lost",
                ) from error
            raise TportError(
                f"can't open the database {path}: {error}",
                hint=_RESTORE,
            ) from error
        except OSError as error:
            self._release()
            raise Unavailable(f"can't open the database {path}: {error.strerror}") from error
        except BaseException:
            self._release()
            raise

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """Do all writes in one transaction, so that they share one wait for the disk.

        Each has an outcome of its own: what one may not do never touches another. That takes
        no savepoint, since a write is judged whole before its first row is touched. Only a
        failure of the database itself befalls them all.
        """
        connection = self._writer
        outcomes: list[Outcome] = []
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")  # it failed last time, when the disk did
            connection.execute("BEGIN IMMEDIATE")
            head = read_head(connection)
            if head.mark != self._acknowledged.token:
                # Its mark failed: no step beyond before it is made.
                self._acknowledge(Mark(head.revision, head.mark))
            revision, total = head.revision, head.content
            for write in writes:
                try:
                    changes = _judge(connection, write, revision + 1)
                except TportError as error:
                    outcomes.append(Outcome(error=error))
                    continue
                if any(changes):
                    revision += 1
                    total = _apply(connection, changes, total)
                outcomes.append(Outcome(changes))
            if revision == head.revision:
                connection.execute("ROLLBACK")
                return outcomes
            mark = Mark(revision, os.urandom(16))
            write_head(connection, mark, total)
            connection.execute("COMMIT")
        except Exception as error:  # also what nobody thought of: one write must not end all
            with suppress(sqlite3.DatabaseError):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            known = isinstance(error, sqlite3.DatabaseError | OSError)
            logger.warning("storage: no write to %s: %s", self.path, error, exc_info=not known)
            return [Outcome(error=explain(error)) for _ in writes]
        try:
            self._acknowledge(mark)
        except OSError as error:
            logger.warning("storage: can't write %s: %s", self._marks.path, error)
            return [
                Outcome(outcome.changes, outcome.error or explain(error)) for outcome in outcomes
            ]
        return outcomes

    def close(self) -> None:
        """Fold the log into the file and let go of it."""
        for reader in self.readers:
            reader.close()
        self._writer.close()
        self._release()

    def _open(self) -> None:
        # Look first through a connection that can't write: one that can would on closing fold
        # what is left of a damaged log into the file, and end any hope of mending it.
        with closing(connect(self.path, "ro")) as reader:
            found = _check_sound(reader, self.path, self._formats)
            head = read_head(reader) if found else Head(0, b"", b"", content.EMPTY)
        complaint = judge_mark(self._marks.read(), head)
        if complaint:
            raise TportError(
                f"the database {self.path} isn't as it was last written: {complaint}", hint=_GO_ON
            )
        is_old = 0 < found < self._formats.newest
        backup = self._kept_backup(found) if is_old else ""

        self._writer = connect(self.path, "rw")
        try:
            [mode] = self._writer.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise TportError(
                    f"can't keep a write-ahead log for {self.path}",
                    hint="the data directory must be on a local disk",
                )
            self._writer.execute("PRAGMA synchronous = FULL")
            self._writer.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
            if not found:
                self._writer.executescript(f"BEGIN IMMEDIATE; {SCHEMA}")
                note_format(self._writer, self._formats.newest)
                self._writer.execute("COMMIT")
                sync_directory(self.path.parent)
            if is_old:
                migrate(self._writer, self._formats, backup=backup)
                logger.warning(
                    "the database was brought from format %d to %d; as it was before: %s",
                    found,
                    self._formats.newest,
                    self.path.parent / backup,
                )
            head = read_head(self._writer)
            self._acknowledge(Mark(head.revision, head.mark))
            self.readers = [connect(self.path, "ro") for _ in range(READERS)]
            for reader in self.readers:
                read_head(reader)  # opens the log, for which there may be no descriptor later
        except BaseException:
            self._writer.close()
            raise

    def _kept_backup(self, found: int) -> str:
        if self._keep is None:
            raise TportError(
                f"the database {self.path} has format {found}, and is brought to"
                f" {self._formats.newest} when auth starts",
                hint="start auth first: it makes a backup before",
            )
        return self._keep()

    def _acknowledge(self, mark: Mark) -> None:
        self._marks.write(mark)
        self._acknowledged = mark

    def _release(self) -> None:
        self._marks.close()
        os.close(self._lock)


def get(connection: sqlite3.Connection, key: str) -> Item | None:
    """Return the item stored at `key`, expired or not."""
    row = connection.execute(f"{ROW} WHERE key = ?", (key.encode(),)).fetchone()
    return None if row is None else _item(row)


def count(connection: sqlite3.Connection, prefix: str) -> int:
    """Return how many items are under `prefix`, expired or not; the index alone is read."""
    first = prefix.encode()
    [number] = connection.execute(
        "SELECT count(*) FROM items WHERE key >= ? AND key < ?", (first, first + b"\xff")
    ).fetchone()
    return int(number)


def get_range(
    connection: sqlite3.Connection, prefix: str, now: datetime, limit: int | None
) -> list[Item]:
    """Return the live items under `prefix`, in key order."""
    first = prefix.encode()
    rows = connection.execute(
        f"{ROW} WHERE key >= ? AND key < ?"
        " AND (expires IS NULL OR expires > ?) ORDER BY key LIMIT ?",
        # UTF-8 never ends in 0xff, so that its last byte can always be raised by one.
        (
            first,
            first[:-1] + bytes([first[-1] + 1]),
            _microseconds(now),
            -1 if limit is None else limit,
        ),
    )
    return [_item(row) for row in rows]


def expired_keys(connection: sqlite3.Connection, now: datetime, limit: int) -> list[str]:
    """Return keys whose items expired, the longest expired first."""
    rows = connection.execute(
        "SELECT key FROM items WHERE expires <= ? ORDER BY expires LIMIT ?",
        (_microseconds(now), limit),
    )
    return [key.decode() for (key,) in rows]


def explain(error: Exception) -> Unavailable:
    """Say in words for anyone, without paths, why storage can't answer."""
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Unavailable("storage is full", hint=_FREE)
        return Unavailable(f"storage can't be written: {error.strerror}")
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the low byte is the primary code
        case sqlite3.SQLITE_FULL:
            words, hint = "storage is full", _FREE
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            words, hint = "storage is held by another program", "close what has the database open"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            words, hint = "storage can't be written", "see who owns the data directory"
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            words, hint = "storage is damaged", "stop, and restore the database from a backup"
        case sqlite3.SQLITE_IOERR:
            words, hint = "the disk of the storage fails", "see the system's log"
        case _:
            words, hint = "storage can't answer now", "see the log"
    return Unavailable(words, hint=hint)


def _is_full(path: Path, error: sqlite3.DatabaseError) -> bool:
    """Tell whether opening failed for want of room, and not by what is in the file."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return False
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < ROOM


def _hold(lock: int) -> None:
    """Take the lock, or raise BlockingIOError.

    `is_in_use` holds it for an instant when it looks: what holds it for longer is another process.
    """
    until = time.monotonic() + LOOKED_AT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(LOOKED_AT / 20)
        else:
            return


def _lock(path: Path) -> int:
    """Create what is missing, for its owner only, and return the lock, held."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    lock = os.open(path.with_name(f"{path.name}.lock"), flags, 0o600)
    try:
        try:
            _hold(lock)
        except BlockingIOError:
            holder = os.read(lock, 32).decode("ascii", "replace").strip()
            raise Unavailable(
                f"the database {path} is in use by process {holder or 'unknown'}",
                hint="stop that process first: a database serves one auth service",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        # SQLite would make the file readable by all, and gives -wal and -shm the file's mode.
        # Closing this descriptor is safe only now: it drops any lock SQLite has in the process.
        os.close(os.open(path, flags, 0o600))
        for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            with suppress(FileNotFoundError):
                file.chmod(0o600)
    except BaseException:
        os.close(lock)
        raise
    return lock


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open the file: `mode` is "ro" or "rw"."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.text_factory = read_text
    if mode == "rw":
        # Zeros where a record was: else a secret that was changed stays in the file. Costs no time to speak of.
        connection.execute("PRAGMA secure_delete = ON")
    return connection


def read_text(data: bytes) -> str:
    """Return a text of SQLite's.

    Records are no texts. One fallen bit makes one of any bytes: its sum tells that, not a failure to read it.
    """
    return data.decode("utf-8", "surrogateescape")


def _check_sound(connection: sqlite3.Connection, path: Path, formats: Formats) -> int:
    """Return its format, 0 if it is new; raise TportError if it isn't one of ours, and whole."""
    version = check_format(connection, formats, f"the database {path}")
    # Not `quick_check`: an index that lacks an entry hides a record from whoever asks for it by name.
    [result] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if result != "ok":
        raise TportError(f"the database {path} is damaged: {result}", hint=_RESTORE)
    if version == 0 and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise TportError(f"the database {path} belongs to another program")
    if version != 0 and content.sum_of(connection) != read_head(connection).content:
        raise TportError(f"the database {path} is damaged: {CHANGED}", hint=_GO_ON)
    return version


def _judge(connection: sqlite3.Connection, write: Write, revision: int) -> list[Change | None]:
    return [
        decide(operation, get(connection, operation.key), revision=revision, now=write.now)
        for operation in write.operations
    ]


def _apply(connection: sqlite3.Connection, changes: Sequence[Change | None], total: bytes) -> bytes:
    """Make these changes, and return the sum of all records after them; before them it is `total`."""
    for change in changes:
        if change is None:
            continue
        key = change.key.encode()
        if (old := connection.execute(f"{ROW} WHERE key = ?", (key,)).fetchone()) is not None:
            total = content.take(total, old)
        match change:
            case Put(item):
                expires = None if item.expires is None else _microseconds(item.expires)
                row = (key, item.value, expires, item.revision)
                connection.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", row)
                total = content.add(total, row)
            case Deleted():
                connection.execute("DELETE FROM items WHERE key = ?", (key,))
    return total


def _item(row: Any) -> Item:
    key, value, expires, revision = row
    return Item(
        key.decode(),
        value,
        None if expires is None else EPOCH + min(expires, _LATEST) * MICROSECOND,
        revision,
    )


def _microseconds(time: datetime) -> int:
    return (time - EPOCH) // MICROSECOND


_LATEST: Final = _microseconds(LATEST)  # 0.1 took later ones, which are no datetime
