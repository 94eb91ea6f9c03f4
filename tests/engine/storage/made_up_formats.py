"""Formats that no version has, for tests: two steps on from the first one of a release."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from tests.fakes import START
from tport.engine.storage.backend import Item, Put
from tport.engine.storage.database import Database, Write, get_range
from tport.engine.storage.formats import FORMATS, Changes, Formats, Records, Step


def shouted(records: Records) -> Changes:
    """Users are written in capitals, and those without a name are gone."""
    users = {key: json.loads(value) for key, value in records.items() if key.startswith("/users/")}
    return {
        key: json.dumps({"NAME": user["name"].upper()}).encode() if user["name"] else None
        for key, user in users.items()
    }


def counted(records: Records) -> Changes:
    """A record more says how many users there are."""
    return {"/counts": str(sum(key.startswith("/users/") for key in records)).encode()}


OLD: Final = Formats(first=FORMATS.first)
NEW: Final = Formats(
    first=FORMATS.first, steps=(Step("users in capitals", shouted), Step("a count", counted))
)
SOON: Final = START + timedelta(hours=1)
ITEMS: Final[Sequence[Item]] = (
    Item("/users/a", b'{"name": "alice"}', SOON),
    Item("/users/b", b'{"name": "bob"}'),
    Item("/users/c", b'{"name": ""}'),
    Item("/tokens/t", b'{"hash": "x"}'),
)
AS_OLD: Final = {item.key: item.value for item in ITEMS}
AS_NEW: Final = {
    "/counts": b"2",
    "/tokens/t": b'{"hash": "x"}',
    "/users/a": b'{"NAME": "ALICE"}',
    "/users/b": b'{"NAME": "BOB"}',
}


def write_old(path: Path, items: Sequence[Item] = ITEMS) -> None:
    """Make a database of the older format, a commit for each item."""
    database = Database(path, formats=OLD)
    for item in items:
        [outcome] = database.commit([Write((Put(item),), START)])
        assert outcome.error is None
    database.close()


def records(database: Database) -> dict[str, bytes]:
    found = get_range(database.readers[0], "/", START, None)
    return {item.key: item.value for item in found}
