"""What the SQLite backend promises beyond the map: its writes last, and it knows when they didn't."""

# ruff: noqa: ASYNC240 - nothing else runs on these loops, and the files are small

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import tport.engine.storage.sqlite as sqlite_module
from tests.fakes import START, WallClock
from tport.engine.errors import AlreadyExists, CompareFailed, TportError, Unavailable
from tport.engine.storage import database as database_module
from tport.engine.storage.backend import Item
from tport.engine.storage.database import Database, Outcome, Write, explain
from tport.engine.storage.formats import FORMATS
from tport.engine.storage.sqlite import SqliteBackend, open_sqlite_backend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "state.db"


async def crash(path: Path, to: Path, writes: int = 20) -> Path:
    """Return a copy of the database as a crash would leave it after `writes` acknowledged writes."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        for number in range(writes):
            await backend.create(Item(f"/{number}", b"v" * 100))
        shutil.copytree(path.parent, to)
    return to / path.name


async def count(path: Path) -> int:
    async with open_sqlite_backend(path, WallClock()) as backend:
        return len(await backend.range("/"))


def wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.mark")


async def test_items_outlive_the_process_with_revision_and_expiry(
    path: Path, clock: WallClock
) -> None:
    expires = START + timedelta(minutes=5, microseconds=1)
    async with open_sqlite_backend(path, clock) as backend:
        item = await backend.create(Item("/a", b"1", expires=expires))

    async with open_sqlite_backend(path, clock) as backend:
        assert await backend.get("/a") == item
        assert (await backend.create(Item("/b", b""))).revision == item.revision + 1


async def test_acknowledged_writes_survive_kill_9(path: Path) -> None:
    """R-18: ten kills of a process that writes from eight tasks; nothing acknowledged is lost."""
    acknowledged: list[str] = []
    for number in range(10):
        command = [
            sys.executable,
            "-m",
            "tests.engine.storage.acknowledging",
            str(path),
            str(number),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220 - nothing else runs
            assert process.stdout is not None
            for _ in range(random.randrange(1, 200)):
                acknowledged.append(process.stdout.readline().strip())
            process.kill()
            acknowledged += [line.strip() for line in process.stdout if line.endswith("\n")]

    async with open_sqlite_backend(path, WallClock()) as backend:
        keys = {item.key for item in await backend.range("/")}

    assert len(acknowledged) > 10
    assert not [key for key in acknowledged if not {f"{key}/a", f"{key}/b"} <= keys]
    assert {key[:-1] + "b" for key in keys} == {key for key in keys if key.endswith("b")}


async def test_a_copy_of_a_crash_opens_with_all_it_acknowledged(path: Path, tmp_path: Path) -> None:
    assert await count(await crash(path, tmp_path / "copy")) == 20


async def test_any_flipped_or_cut_byte_of_the_log_is_noticed(path: Path, tmp_path: Path) -> None:
    """OPS-05, R-17: SQLite itself would drop the later half of the commits and call it sound."""
    copy = await crash(path, tmp_path / "copy")
    intact = wal(copy).read_bytes()
    chance = random.Random(5)

    for number in range(100):
        damaged = bytearray(intact)
        at = chance.randrange(len(intact))
        if number % 2:
            damaged[at] ^= 1 << chance.randrange(8)
        else:
            del damaged[at:]
        wal(copy).write_bytes(damaged)
        with pytest.raises(TportError):
            Database(copy)
        assert wal(copy).read_bytes() == damaged, "evidence, and what may be mended, stays"

    wal(copy).write_bytes(intact)
    assert await count(copy) == 20


async def test_a_lost_log_is_noticed_and_the_message_says_what_to_do(
    path: Path, tmp_path: Path
) -> None:
    """OPS-05: deleting the -wal."""
    copy = await crash(path, tmp_path / "copy")
    wal(copy).unlink()

    with pytest.raises(
        TportError, match=r"acknowledged was revision 20.*lost or damaged"
    ) as caught:
        await count(copy)

    assert "tport db accept-rollback" in caught.value.hint
    mark(copy).unlink()
    assert await count(copy) == 0, "nothing was ever in the file itself: it begins anew"


async def test_a_lost_mark_is_noticed_where_there_is_something_to_lose(path: Path) -> None:
    """OPS-05: without it an old copy would pass for the database."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"1"))
    mark(path).unlink()

    with pytest.raises(TportError, match="nothing tells whether writes were lost") as caught:
        await count(path)

    assert "accept-rollback" in caught.value.hint
    assert not mark(path).exists()


async def test_a_restored_old_copy_is_noticed(path: Path) -> None:
    """OPS-05: a day-old database under today's mark, and a missing one."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/locks/mallory", b"1"))
    yesterday = path.read_bytes()
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/locks/eve", b"1"))

    path.write_bytes(yesterday)
    with pytest.raises(TportError, match="ends at revision 1, acknowledged was revision 2"):
        await count(path)

    path.unlink()
    with pytest.raises(TportError, match="ends at revision 0, acknowledged was revision 2"):
        await count(path)


async def test_a_crash_between_commit_and_acknowledgement_is_no_damage(path: Path) -> None:
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"1"))
        before = mark(path).read_bytes()
        await backend.create(Item("/b", b"1"))

    mark(path).write_bytes(before)

    assert await count(path) == 2


async def test_a_damaged_mark_is_named(path: Path) -> None:
    assert await count(path) == 0
    mark(path).write_bytes(b"\0" * 70)

    with pytest.raises(TportError, match=r"state\.db\.mark is damaged"):
        await count(path)


async def test_a_damaged_file_is_refused(path: Path) -> None:
    await crash(path, path.parent.parent / "unused", writes=200)
    data = bytearray(path.read_bytes())
    data[4096:8192] = os.urandom(4096)
    path.write_bytes(data)
    with pytest.raises(TportError, match=r"damaged|malformed"):
        await count(path)

    path.write_bytes(b"not a database, but longer than a header is" * 100)
    with pytest.raises(TportError, match="not a database"):
        await count(path)


async def test_a_database_of_a_newer_version_is_left_alone(path: Path) -> None:
    assert await count(path) == 0
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMATS.newest + 1}")
    before = path.read_bytes()

    with pytest.raises(TportError, match=f"has format {FORMATS.newest + 1}"):
        await count(path)

    assert path.read_bytes() == before


async def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")

    with pytest.raises(TportError, match="another program"):
        await count(path)


async def test_a_second_process_is_told_who_has_it_open(path: Path) -> None:
    async with open_sqlite_backend(path, WallClock()):
        with pytest.raises(Unavailable, match=rf"in use by process {os.getpid()}"):
            await count(path)

    assert await count(path) == 0


async def test_every_file_is_its_owners_alone(path: Path) -> None:
    """OPS-04: under umask 022, which SQLite would follow; a wider file is narrowed."""
    old = os.umask(0o022)
    try:
        async with open_sqlite_backend(path, WallClock()) as backend:
            await backend.create(Item("/a", b"1"))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            assert set(modes.values()) == {0o600}
            assert {"state.db", "state.db-wal", "state.db.lock", "state.db.mark"} <= set(modes)
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        path.chmod(0o644)
        assert await count(path) == 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(old)


def test_the_first_reads_open_nothing_more(path: Path) -> None:
    """A process may be out of descriptors by then, or be watched for what it leaves open."""
    path.parent.mkdir()
    with closing(Database(path)) as database:
        before = len(os.listdir("/proc/self/fd"))

        for reader in database.readers:
            database_module.get(reader, "/")

        assert len(os.listdir("/proc/self/fd")) == before


async def test_a_database_that_is_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere.db")

    with pytest.raises(Unavailable):
        await count(path)


async def test_a_disk_that_takes_no_more_is_said_and_forgotten_when_it_does(path: Path) -> None:
    """R-15: mutations fail with words, reads go on, and recovery takes no restart."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"1"))
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (wal(path).stat().st_size, limits[1]))
        try:
            with pytest.raises(Unavailable, match="storage"):
                await backend.create(Item("/b", bytes(100_000)))
            assert (await backend.get("/a")).value == b"1"
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        await backend.create(Item("/b", b"2"))

    assert await count(path) == 2


async def test_a_locked_database_fails_writes_in_time_and_serves_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-11: another program holds the write lock."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT", 0.05)
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"1"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="held by another program"):
                await backend.create(Item("/b", b"1"))
            assert (await backend.get("/a")).value == b"1"
            other.execute("ROLLBACK")
        await backend.create(Item("/b", b"1"))


async def test_a_write_whose_mark_fails_is_not_acknowledged_and_the_next_one_mends_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"1"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(Unavailable, match="Input/output error"):
                await backend.create(Item("/b", b"1"))
            with pytest.raises(Unavailable):
                await backend.create(Item("/c", b"1"))
        await backend.create(Item("/d", b"1"))

    assert await count(path) == 3  # /b is there: its writer was told only that it can't know


def test_a_full_database_is_explained() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("PRAGMA max_page_count = 3")
        with pytest.raises(sqlite3.OperationalError) as caught:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")

    assert str(explain(caught.value)) == "storage is full"


class SlowDatabase(Database):
    """A database whose commits wait until they are let through, and are counted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Semaphore(0)
        self.groups: list[int] = []

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        self.groups.append(len(writes))
        assert self.gate.acquire(timeout=10)
        return super().commit(writes)


async def test_writes_queued_together_share_a_transaction_and_keep_their_own_outcomes(
    path: Path, clock: WallClock
) -> None:
    with closing(SlowDatabase(path)) as database:
        backend = SqliteBackend(database, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.keep_writing)
            async with trio.open_nursery() as callers:
                callers.start_soon(backend.create, Item("/first", b""))
                await wait_all_tasks_blocked()
                for number in range(100):
                    callers.start_soon(backend.create, Item(f"/{number}", b""))
                await wait_all_tasks_blocked()
                database.gate.release(10)
                with pytest.raises(CompareFailed):
                    await backend.compare_and_swap(Item("/0", b"", revision=10_000))
            assert len(await backend.range("/")) == 101
            nursery.cancel_scope.cancel()

    assert database.groups[0] == 1
    assert len(database.groups) <= 3


async def test_a_write_that_cannot_be_done_is_answered_and_the_next_one_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a write brings, and nobody thought of, it must not end auth."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        with monkeypatch.context() as patch:
            patch.setattr("tport.engine.storage.database._microseconds", lambda _: 2**64)
            with pytest.raises(Unavailable):
                await backend.put(Item("/a", b"", expires=START + timedelta(1)))
        await backend.put(Item("/b", b""))
        assert [item.key for item in await backend.range("/")] == ["/b"]


async def test_an_expiry_that_no_time_is_can_be_read(path: Path) -> None:
    """0.1 took one, and could read no record of its kind any more."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tport.engine.storage.database._microseconds", lambda _: 2**62)
            await backend.put(Item("/a", b"", expires=START + timedelta(1)))
        [item] = await backend.range("/")
        assert item.is_live(START)
        await backend.put(item)
        await backend.delete("/a")


async def test_a_queued_write_whose_caller_left_is_never_begun(
    path: Path, clock: WallClock
) -> None:
    with closing(SlowDatabase(path)) as database:
        backend = SqliteBackend(database, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.keep_writing)
            nursery.start_soon(backend.create, Item("/first", b""))
            await wait_all_tasks_blocked()
            with trio.CancelScope() as leaving:
                async with trio.open_nursery() as callers:
                    callers.start_soon(backend.create, Item("/left", b""))
                    await wait_all_tasks_blocked()
                    leaving.cancel()
            database.gate.release(10)
            await backend.create(Item("/after", b""))
            assert [item.key for item in await backend.range("/")] == ["/after", "/first"]
            nursery.cancel_scope.cancel()


async def test_a_disk_that_hangs_is_unavailable_after_the_deadline(
    path: Path, clock: WallClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "WRITE_DEADLINE", 0.05)
    with closing(SlowDatabase(path)) as database:
        backend = SqliteBackend(database, clock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backend.keep_writing)
            with pytest.raises(Unavailable, match="didn't confirm"):
                await backend.create(Item("/a", b""))
            database.gate.release(10)
            nursery.cancel_scope.cancel()


async def test_a_write_that_fails_is_trouble_until_one_succeeds_and_a_refused_one_is_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For `/readyz` and the figures."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b""))
        with pytest.raises(CompareFailed):
            await backend.compare_and_swap(Item("/a", b"", revision=99))
        assert not backend.troubles()
        full = Unavailable("storage is full")
        with monkeypatch.context() as patched:
            patched.setattr(Database, "commit", lambda _, writes: [Outcome(error=full)])
            with pytest.raises(Unavailable):
                await backend.create(Item("/b", b""))
        with pytest.raises(CompareFailed):  # judged by what is there: nothing was written
            await backend.compare_and_swap(Item("/a", b"", revision=99))
        with pytest.raises(AlreadyExists):
            await backend.create(Item("/a", b""))
        assert [trouble.why for trouble in backend.troubles()] == ["storage is full"]
        await backend.create(Item("/b", b""))
        assert not backend.troubles()
        assert await backend.count("/") == 2

        told = {(s.name, s.labels): s.values for s in await backend.figures()}

    assert sum(told["tport_storage_failures_total", ()]) == 1
    assert sum(told["tport_storage_seconds", ("write",)][:-1]) == 6
