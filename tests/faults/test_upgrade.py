"""An upgrade that is cut short, or has no room, has changed the stored data wholly or not at all."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import trio

import tport
from tests.commands.test_backup import config
from tests.engine.storage.made_up_formats import (
    AS_NEW,
    AS_OLD,
    ITEMS,
    NEW,
    OLD,
    counted,
    records,
    write_old,
)
from tests.fakes import START
from tests.faults.disk import FILLER, small_disk
from tests.faults.test_kill import PROCESSES
from tests.faults.upgraded_until_killed import POINTS, upgrade
from tport.cli import run
from tport.engine import process as process_module
from tport.engine.api.protocol import AuthAPI
from tport.engine.backup import cluster as cluster_module
from tport.engine.backup.cluster import KEPT_IN, keep_backup
from tport.engine.errors import TportError, Unavailable
from tport.engine.process import open_process
from tport.engine.storage import formats as formats_module
from tport.engine.storage import snapshot as snapshot_module
from tport.engine.storage import sqlite as sqlite_module
from tport.engine.storage.backend import BATCH_LIMIT, Item, Put
from tport.engine.storage.database import Database, Write
from tport.engine.storage.formats import FORMATS, Formats, Step
from tport.engine.storage.snapshot import take_snapshot

FEW, MANY = 5, 60
LONGEST: Final = 0.15  # s within which an upgrade is killed; it takes about as long
ENOUGH_TO_LOOK: Final = 600 * 1024  # bytes, for SQLite's own files; the backup takes 1.6 MB
MORE: Final = 2000  # users whose records change

LATER: Final = Formats(first=FORMATS.first, steps=(Step("a count", counted),))


def cut_short(path: Path, point: str, after: float = 0.0) -> int | None:
    process = PROCESSES.Process(target=upgrade, args=(path, point, after))
    process.start()
    process.join(60)
    status = process.exitcode
    process.close()
    return status


def whole(path: Path, old: dict[str, bytes], new: dict[str, bytes]) -> bool:
    """Return whether the database has the new format; what is in it is all of the one or of the other."""
    snapshot = take_snapshot(path, NEW)
    assert snapshot.complaints == ()
    is_new = snapshot.format == NEW.newest
    assert is_new or snapshot.format == OLD.newest
    expected = new if is_new else old
    assert snapshot.items == len(expected)
    assert {key: snapshot.value(key) for key in expected} == expected
    return is_new


def finished(path: Path, new: dict[str, bytes]) -> None:
    database = Database(path, lambda: keep_backup(path.parent, START, NEW), NEW)
    assert records(database) == new
    database.close()


@pytest.mark.parametrize("point", POINTS)
def test_an_upgrade_that_is_killed_leaves_the_old_format_or_the_new(
    tmp_path: Path, point: str
) -> None:
    path = tmp_path / "auth" / "tport.db"
    write_old(path)
    path.with_name("factors.key").write_bytes(b"sealed")

    assert cut_short(path, point) == -9

    is_new = whole(path, AS_OLD, AS_NEW)
    assert is_new is (point == "committed")
    if not is_new:  # the version before starts as if nothing had been
        database = Database(path, formats=OLD)
        assert records(database) == AS_OLD
        database.close()
    finished(path, AS_NEW)


@pytest.mark.parametrize(
    "kills", [FEW, pytest.param(MANY, marks=[pytest.mark.torture, pytest.mark.timeout(600)])]
)
def test_nor_does_one_that_is_killed_at_any_moment(tmp_path: Path, kills: int) -> None:
    chance = random.Random(7)
    more = [Item(f"/users/{n}", b'{"name": "u%d"}' % n) for n in range(MORE)]
    old = AS_OLD | {item.key: item.value for item in more}
    new = AS_NEW | {item.key: item.value.upper() for item in more}
    new |= {"/counts": str(2 + MORE).encode()}
    for number in range(kills):
        path = tmp_path / str(number) / "auth" / "tport.db"
        write_old(path)
        fill(path, more)
        path.with_name("factors.key").write_bytes(b"sealed")
        cut_short(path, "", chance.uniform(0, LONGEST))
        whole(path, old, new)
        finished(path, new)


def fill(path: Path, items: list[Item]) -> None:
    database = Database(path, formats=OLD)
    for first in range(0, len(items), BATCH_LIMIT):
        puts = tuple(Put(item) for item in items[first : first + BATCH_LIMIT])
        [outcome] = database.commit([Write(puts, START)])
        assert outcome.error is None
    database.close()


def test_ops_02_a_disk_without_room_for_the_backup_leaves_all_as_it_is(tmp_path: Path) -> None:
    """And once there is room, it goes on."""
    noise = random.Random(1)
    large = [Item(f"/x/{n}", b'"%b"' % noise.randbytes(8000).hex().encode()) for n in range(200)]
    new = AS_NEW | {item.key: item.value for item in large}
    with small_disk(tmp_path / "disk", "24m") as disk:
        path = disk.folder / "auth" / "tport.db"
        write_old(path)
        fill(path, large)
        path.with_name("factors.key").write_bytes(b"sealed")
        before = path.read_bytes()
        disk.fill()
        filler = disk.folder / FILLER
        os.truncate(filler, filler.stat().st_size - ENOUGH_TO_LOOK)

        with pytest.raises(Unavailable, match="No space left on device") as refused:
            Database(path, lambda: keep_backup(path.parent, START, NEW), NEW)
        assert "backup before the upgrade can't be written" in str(refused.value)
        assert list(path.with_name(KEPT_IN).iterdir()) == []
        assert path.read_bytes() == before
        Database(path, formats=OLD).close()

        disk.free()
        finished(path, new)


@pytest.fixture
async def upgraded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of a cluster in which alice is, once a version with another format has run."""
    await serve(
        tmp_path, lambda admin: admin.create_user(name="alice", roles=("access",), traits={})
    )
    with monkeypatch.context() as later:
        later.setattr(tport, "__version__", "7.3.0")
        later.setattr(sqlite_module, "Database", partial(Database, formats=LATER))
        later.setattr(process_module, "keep_backup", partial(keep_backup, formats=LATER))
        await serve(
            tmp_path, lambda admin: admin.create_user(name="bob", roles=("access",), traits={})
        )
    return tmp_path


async def serve(data_dir: Path, ask: Callable[[AuthAPI], Awaitable[object]]) -> object:
    """Run auth, do this, and stop."""
    stop = trio.Event()
    async with open_process(config(data_dir), stop) as running:
        assert running.admin is not None
        found = await ask(running.admin)
        stop.set()
    return found


async def names(admin: AuthAPI) -> list[str]:
    return [each.user.name for each in await admin.list_users()]


async def command(data_dir: Path, *args: str) -> int:
    return await trio.to_thread.run_sync(run, ["--data-dir", str(data_dir), *args])


async def test_a_version_that_is_too_old_for_the_data_says_which_is_not_and_how_to_go_back(
    upgraded: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TportError, match=r"written by tport 7\.3\.0"):
        await serve(upgraded, names)

    assert await command(upgraded, "db", "check") == 1
    said = capfd.readouterr().out
    assert f"has format {LATER.newest}, written by tport 7.3.0" in said
    assert f"{KEPT_IN}/before-7.3.0-" in said


async def test_the_backup_leads_back_to_what_was_there_before_the_upgrade(upgraded: Path) -> None:
    """As docs/install.md says: the people of then, and not who came since."""
    later = upgraded / "auth.later"
    (upgraded / "auth").rename(later)
    [backup] = (later / KEPT_IN).iterdir()

    assert await command(upgraded, "restore", str(backup)) == 0

    assert await serve(upgraded, names) == ["alice"]


async def test_a_check_before_the_first_start_says_that_the_format_will_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    await serve(tmp_path, names)
    assert await command(tmp_path, "db", "check") == 0
    printed = capfd.readouterr()
    assert f"format {FORMATS.newest}" in printed.out
    assert "the next start" not in printed.err

    monkeypatch.setattr(snapshot_module, "take_snapshot", partial(take_snapshot, formats=LATER))
    monkeypatch.setattr(formats_module, "FORMATS", LATER)
    assert await command(tmp_path, "db", "check") == 0
    assert f"the next start of auth brings it to format {LATER.newest}" in capfd.readouterr().err


async def test_no_lost_writes_are_accepted_in_a_database_of_an_older_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be forgotten of it is known in the newest format alone."""
    path = tmp_path / "auth" / "tport.db"
    write_old(path)
    path.with_name("tport.db.mark").unlink()
    monkeypatch.setattr(cluster_module, "take_snapshot", partial(take_snapshot, formats=LATER))
    monkeypatch.setattr(cluster_module, "FORMATS", LATER)

    assert await command(tmp_path, "db", "accept-rollback") == 1
    assert take_snapshot(path).items == len(ITEMS)
