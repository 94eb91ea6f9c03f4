"""Where a database ends: its last commit, and whether that is the one its mark names."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from tport.engine.storage.mark import Mark


class Head(NamedTuple):
    """Where the database stands: the last commit's revision and mark, the mark of the one before, and
    the sum of all records (see `content`).
    """

    revision: int
    mark: bytes
    previous: bytes
    content: bytes


def judge_mark(mark: Mark | None, head: Head) -> str:
    """Say what is wrong with where the database ends; "": it ends where its mark says.

    Args:
        mark: the last write that was acknowledged; None: nothing tells.
    """
    if mark is None:
        return (
            f"its .mark is missing, so that nothing tells whether writes were lost: it ends at revision"
            f" {head.revision}"
            if head.revision
            else ""
        )
    if (mark.token, mark.revision) == (head.mark, head.revision):
        return ""
    # The commit before the last is good too: killed between commit and acknowledgement.
    if mark.token == head.previous and mark.revision < head.revision:
        return ""
    return (
        f"it ends at revision {head.revision}, acknowledged was revision {mark.revision}. Its log (-wal)"
        " was lost or damaged, or an old copy of a file took its place"
    )


def read_head(connection: sqlite3.Connection) -> Head:
    """Return where the database stands, or raise sqlite3.DatabaseError."""
    row = connection.execute("SELECT revision, mark, previous, content FROM head").fetchone()
    if row is None or [type(each) for each in row] != [int, bytes, bytes, bytes]:
        raise sqlite3.DatabaseError("what says where it ends can't be read")
    return Head(*row)


def write_head(connection: sqlite3.Connection, mark: Mark, total: bytes) -> None:
    """Make `mark` the last commit, with this sum of all records."""
    connection.execute(
        "UPDATE head SET revision = ?, mark = ?, previous = mark, content = ?",
        (mark.revision, mark.token, total),
    )
