"""R-17, OPS-05: whatever happens to the files of the database, auth doesn't start on less than was acknowledged."""

from __future__ import annotations

import logging
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.fakes import WallClock
from tests.figures import Hold
from tport.engine.errors import TportError
from tport.engine.storage.backend import Delete, Item, Put
from tport.engine.storage.database import Database, get
from tport.engine.storage.snapshot import take_snapshot
from tport.engine.storage.sqlite import SqliteBackend, open_sqlite_backend

logger = logging.getLogger(__name__)

NAME: Final = "tport.db"
Content = Mapping[str, tuple[bytes, int]]  # key → value and revision


class Places:
    """A database's folder at three moments: yesterday, after a crash just now, and closed well."""

    def __init__(self, folder: Path) -> None:
        self.yesterday, self.crashed, self.closed = (
            folder / name for name in ("yesterday", "crashed", "closed")
        )
        self.content: dict[Path, Content] = {}

    async def make(self, live: Path) -> None:
        chance = random.Random(1)
        async with open_sqlite_backend(live / NAME, WallClock()) as backend:
            await write(backend, chance, 60)
        shutil.copytree(live, self.yesterday)
        async with open_sqlite_backend(live / NAME, WallClock()) as backend:
            await write(backend, chance, 60)
            for number in range(10):
                await backend.batch([Delete(f"/things/{number}")])
            shutil.copytree(live, self.crashed)
        shutil.copytree(live, self.closed)
        for place in (self.crashed, self.closed):
            copy = place.with_name("read")
            shutil.copytree(place, copy)
            found = read(copy / NAME)
            assert found is not None
            self.content[place] = found
            shutil.rmtree(copy)


async def write(backend: SqliteBackend, chance: random.Random, commits: int) -> None:
    """Write records of the sizes that auth's have, some of them anew; one fills pages of its own."""
    for number in range(commits):
        value = b'"%s"' % chance.randbytes(chance.choice((20, 200, 900))).hex().encode()
        await backend.batch(
            [
                Put(Item(f"/things/{number}", value)),
                Put(Item(f"/locks/{chance.randrange(10**9)}", value[:50])),
            ]
        )
    await backend.put(Item("/big", b'"%s"' % chance.randbytes(15_000).hex().encode()))


def read(path: Path) -> Content | None:
    """Return all that a database holds, asked for record by record; None: it doesn't open."""
    try:
        database = Database(path)
    except TportError:
        return None
    with closing(database):
        [reader, *_] = database.readers
        keys = [key.decode() for (key,) in reader.execute("SELECT key FROM items NOT INDEXED")]
        found = {key: get(reader, key) for key in keys}
        return {
            key: (item.value, item.revision) if item is not None else (b"", 0)
            for key, item in found.items()
        }


# --- What happens to files ---------------------------------------------------------------------------

Harm = Callable[[Path, Places, random.Random], None]


def flip(suffix: str) -> Harm:
    def harm(folder: Path, _: Places, chance: random.Random) -> None:
        path = folder / f"{NAME}{suffix}"
        data = bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)

    return harm


def cut(suffix: str) -> Harm:
    def harm(folder: Path, _: Places, chance: random.Random) -> None:
        path = folder / f"{NAME}{suffix}"
        path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])

    return harm


def overwrite(suffix: str) -> Harm:
    """What a disk does that loses a sector."""

    def harm(folder: Path, _: Places, chance: random.Random) -> None:
        path = folder / f"{NAME}{suffix}"
        data = bytearray(path.read_bytes())
        at = chance.randrange(len(data) // 512) * 512
        data[at : at + 512] = bytes(512) if chance.random() < 0.5 else chance.randbytes(512)
        path.write_bytes(data[: path.stat().st_size])

    return harm


def delete(suffix: str) -> Harm:
    def harm(folder: Path, _: Places, __: random.Random) -> None:
        (folder / f"{NAME}{suffix}").unlink()

    return harm


def stale(*suffixes: str) -> Harm:
    """Yesterday's file in the place of today's."""

    def harm(folder: Path, places: Places, _: random.Random) -> None:
        for suffix in suffixes:
            old = places.yesterday / f"{NAME}{suffix}"
            if old.exists():
                shutil.copy(old, folder)
            else:
                (folder / old.name).unlink(missing_ok=True)

    return harm


CRASHED: Final[Mapping[str, Harm]] = {
    "log: a bit": flip("-wal"),
    "log: a sector": overwrite("-wal"),
    "log: cut": cut("-wal"),
    "log: gone": delete("-wal"),
    "file: a bit, with a log": flip(""),
    "file: yesterday's, with a log": stale(""),
    "file and log: yesterday's": stale("", "-wal"),
    "index of the log: a bit": flip("-shm"),
}
CLOSED: Final[Mapping[str, Harm]] = {
    "file: a bit": flip(""),
    "file: a sector": overwrite(""),
    "file: cut": cut(""),
    "file: gone": delete(""),
    "file: yesterday's": stale(""),
    "mark: a bit": flip(".mark"),
    "mark: cut": cut(".mark"),
    "mark: gone": delete(".mark"),
    "mark: yesterday's": stale(".mark"),
}
FEW, MANY = 20, 200
OFTEN: Final = ("file: a bit", "file: a sector", "log: a bit", "log: a sector", "log: cut")


@pytest.mark.parametrize(
    "count", [FEW, pytest.param(MANY, marks=[pytest.mark.torture, pytest.mark.timeout(300)])]
)
async def test_every_corruption_that_changes_anything_is_noticed_at_start_and_by_db_check(
    tmp_path: Path, hold: Hold, count: int
) -> None:
    """R-17, OPS-05: bits, sectors, cuts, deletions and stale copies of each file. SQLite alone calls most of it sound.

    A bit may fall where it changes nothing: into free space, or under a page that the log has anew.
    Such a database opens with every record that it had.
    """
    places = Places(tmp_path)
    await places.make(tmp_path / "live")
    seed = random.SystemRandom().getrandbits(32)
    logger.info(f"seed {seed}")  # pytest shows it where this fails
    chance = random.Random(seed)
    harms = [*CRASHED, *CLOSED]
    while len(harms) < count:
        harms.append(chance.choice(OFTEN))
    verdicts: Counter[str] = Counter()
    missed = []

    for number, name in enumerate(harms):
        place = places.crashed if name in CRASHED else places.closed
        folder = tmp_path / "harmed"
        shutil.copytree(place, folder)
        {**CRASHED, **CLOSED}[name](folder, places, chance)
        checked = complains(folder / NAME)
        found = read(folder / NAME)
        if found is None:
            verdicts["noticed"] += 1
            assert checked, f"{name}: db check calls well what auth doesn't open"
        elif found == places.content[place]:
            verdicts["nothing changed"] += 1
        else:
            missed.append((number, name, len(found)))
        shutil.rmtree(folder)

    long = count == MANY
    if long:
        hold("R-17 corruptions that changed nothing", verdicts["nothing changed"])
    share = 100 * verdicts["noticed"] / (verdicts["noticed"] + len(missed))
    hold(f"R-17 of {count} corruptions, noticed where anything changed", share, "%", at_least=100)
    assert not missed
    assert verdicts["noticed"] >= count // 2, verdicts


def complains(path: Path) -> bool:
    """Tell whether `tport db check` finds anything."""
    try:
        return bool(take_snapshot(path).complaints)
    except TportError:
        return True
