"""The sum over all records: what tells that one of them is not as it was written.

SQLite checks its log and how pages hang together, and no byte of a record: one flipped bit may make
a lock another user's, and `integrity_check` says ok. So the head of the database holds the sum of
a hash of every record, changed with each write by what the write takes away and adds, at the price of
two hashes; opening the database, or a copy of it, adds all up.

It finds what failed, and no forger: who can write the database can write the sum.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from struct import Struct
from typing import Any, Final

SIZE: Final = 32  # bytes of a sum
EMPTY: Final = bytes(SIZE)  # of no records
_MODULUS: Final = 1 << (8 * SIZE)
# Lengths and what is no bytes first, so that no two records hash the same bytes: of the key, whether it
# expires, when, the revision.
_FIRST: Final = Struct(">I?qQ")


def add(sum_: bytes, row: Any) -> bytes:
    """Return the sum with one more record: a row of key, value, expires, revision."""
    return _moved(sum_, _hash(row))


def take(sum_: bytes, row: Any) -> bytes:
    """Return the sum without a record that is in it."""
    return _moved(sum_, -_hash(row))


def sum_of(connection: sqlite3.Connection) -> bytes:
    """Add up every record that is there; reads all of them."""
    total = 0
    for row in connection.execute("SELECT key, value, expires, revision FROM items"):
        total += _hash(row)
    return (total % _MODULUS).to_bytes(SIZE)


def _moved(sum_: bytes, by: int) -> bytes:
    return ((int.from_bytes(sum_) + by) % _MODULUS).to_bytes(SIZE)


def _hash(row: Any) -> int:
    key, value, expires, revision = row
    try:
        first = _FIRST.pack(len(key), expires is not None, expires or 0, revision)
        data = b"".join((first, key, value))
    except (
        struct.error,
        TypeError,
    ):  # of no types that were written: a bit of the row's header fell
        data = repr(row).encode()
    return int.from_bytes(hashlib.sha256(data).digest())
