"""A database of an older format brought to the newest: all of it, or nothing.

Who wrote it stands in a table of its own, which no format changes: an older version that can't read the
records still says which one can.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Final

import tport
from tport.engine.errors import TportError
from tport.engine.storage import content
from tport.engine.storage.formats import FORMATS, Formats, brought_forward
from tport.engine.storage.head import read_head, write_head
from tport.engine.storage.mark import Mark

# Databases of 0.1 have none. `backup`: of what was there before, as seen from the database; "": of nothing.
_WRITTEN: Final = (
    "CREATE TABLE IF NOT EXISTS written"
    " (format INTEGER NOT NULL, version TEXT NOT NULL, backup TEXT NOT NULL)"
)


def check_format(connection: sqlite3.Connection, formats: Formats, what: str) -> int:
    """Return the format of a database, 0 if it has none yet.

    Args:
        what: the database in words, for a message.

    Raises:
        TportError: this version doesn't read it.
    """
    [found] = connection.execute("PRAGMA user_version").fetchone()
    if found == 0 or formats.first <= found <= formats.newest:
        return int(found)
    if found < formats.first:
        raise TportError(
            f"{what} has format {found}, of no release; this version of tport knows"
            f" {_range(formats)}",
            hint="start the version of tport that wrote it",
        )
    version, backup = _written(connection, found)
    raise TportError(
        f"{what} has format {found}, written by tport {version or 'of a newer version'}; this one,"
        f" {tport.__version__}, knows {_range(formats)}",
        hint=f"start tport {version or 'of that version'} or a later one; or go back to what was there"
        f" before it came: {backup or 'a backup from then'}, as docs/install.md says (Going back)",
    )


def migrate(connection: sqlite3.Connection, formats: Formats = FORMATS, *, backup: str) -> None:
    """Do each step that is missing, in one transaction; a commit like others, with a mark of its own.

    Args:
        backup: of the database as it is now, as seen from it; "": it has another.

    Raises:
        sqlite3.DatabaseError: it can't be done, and nothing was.
        TportError: a step doesn't understand what is stored, and nothing was done.
    """
    [found] = connection.execute("PRAGMA user_version").fetchone()
    steps = formats.after(found)
    connection.execute("BEGIN IMMEDIATE")
    try:
        head = read_head(connection)
        revision = head.revision + 1
        records = {
            key.decode(): value for key, value in connection.execute("SELECT key, value FROM items")
        }
        for key, value in brought_forward(records, steps).items():
            row = (value, revision, key.encode())
            if value is None:
                connection.execute("DELETE FROM items WHERE key = ?", row[2:])
            elif key in records:
                connection.execute("UPDATE items SET value = ?, revision = ? WHERE key = ?", row)
            else:
                connection.execute(
                    "INSERT INTO items (value, revision, key, expires) VALUES (?, ?, ?, NULL)", row
                )
        write_head(connection, Mark(revision, os.urandom(16)), content.sum_of(connection))
        note_format(connection, found + len(steps), backup)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def note_format(connection: sqlite3.Connection, format_: int, backup: str = "") -> None:
    """Write down that from here on the database has this format, and who brought it there."""
    connection.execute(_WRITTEN)
    connection.execute("INSERT INTO written VALUES (?, ?, ?)", (format_, tport.__version__, backup))
    connection.execute(f"PRAGMA user_version = {format_:d}")


def _written(connection: sqlite3.Connection, format_: int) -> tuple[str, str]:
    """Return which version brought the database to a format, and the backup it made; "", "": not known."""
    try:
        row = connection.execute(
            "SELECT version, backup FROM written WHERE format = ? ORDER BY rowid", (format_,)
        ).fetchone()
    except sqlite3.DatabaseError:  # no such table, or damaged: then that is not known either
        return "", ""
    return (str(row[0]), str(row[1])) if row else ("", "")


def _range(formats: Formats) -> str:
    one = formats.first == formats.newest
    return f"format {formats.first}" if one else f"formats {formats.first} to {formats.newest}"
