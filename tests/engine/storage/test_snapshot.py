"""A copy is the database as it was at one commit, and what is wrong with it is found."""

# ruff: noqa: ASYNC240 - nothing else runs on these loops, and the files are small

from __future__ import annotations

import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
import trio

from tests.fakes import WallClock
from tport.engine.errors import NotFound, TportError
from tport.engine.storage import database
from tport.engine.storage.backend import Delete, Item, Put
from tport.engine.storage.database import connect
from tport.engine.storage.snapshot import (
    Forgetting,
    go_on_with,
    is_in_use,
    judge,
    put_in_place,
    take_snapshot,
)
from tport.engine.storage.sqlite import open_sqlite_backend


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "state.db"


async def some(path: Path, count: int = 20) -> None:
    async with open_sqlite_backend(path, WallClock()) as backend:
        for number in range(count):
            await backend.create(Item(f"/things/{number}", b'{"is": "a thing"}' * 1))


async def keys(path: Path) -> list[str]:
    async with open_sqlite_backend(path, WallClock()) as backend:
        return [item.key for item in await backend.range("/")]


async def test_a_copy_that_is_taken_while_others_write_is_one_moment(path: Path) -> None:
    """Each write changes two records alike; no copy has them different, and none is complained of."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"0"))

        begun = trio.Event()

        async def write() -> None:
            for number in range(1, 10_000):
                value = str(number).encode()
                await backend.batch([Put(Item("/a", value)), Put(Item("/b", value))])
                begun.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await begun.wait()
            for _ in range(10):
                copy = await trio.to_thread.run_sync(take_snapshot, path)
                assert copy.complaints == ()
                assert copy.value("/a") == copy.value("/b") != b"0"
            nursery.cancel_scope.cancel()


async def test_whether_somebody_has_it_open_is_told(path: Path) -> None:
    assert not is_in_use(path)
    async with open_sqlite_backend(path, WallClock()):
        assert is_in_use(path)
    assert not is_in_use(path)


async def test_reading_changes_nothing(path: Path, tmp_path: Path) -> None:
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"1"))
        shutil.copytree(path.parent, tmp_path / "crashed")  # a log that isn't folded in is there
    crashed = tmp_path / "crashed" / path.name
    before = {file: file.read_bytes() for file in (crashed, crashed.with_name("state.db-wal"))}

    assert take_snapshot(crashed).value("/a") == b"1"
    assert {file: file.read_bytes() for file in before} == before


async def change_secrets(path: Path) -> None:
    """Store some, which are then changed or deleted; nobody asked for either of them to be kept."""
    async with open_sqlite_backend(path, WallClock()) as backend:
        for number in range(200):
            await backend.create(Item(f"/things/{number}", b'{"password": "%s"}' % (SECRET * 20)))
        for number in range(100):
            await backend.put(Item(f"/things/{number}", b'{"password": ""}'))
        for number in range(100, 200):
            await backend.delete(f"/things/{number}")


SECRET = b"of nobody now "


async def test_what_was_changed_or_deleted_is_in_the_file_no_more(path: Path) -> None:
    """Debian's SQLite sees to that by itself, others don't."""
    await change_secrets(path)

    assert SECRET not in path.read_bytes()


async def test_what_0_1_changed_or_deleted_is_in_no_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.1 had SQLite leave it in free pages."""

    def connect_as_0_1(path: Path, mode: str) -> sqlite3.Connection:
        connection = connect(path, mode)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    with monkeypatch.context() as before:
        before.setattr(database, "connect", connect_as_0_1)
        await change_secrets(path)
    assert SECRET in path.read_bytes()

    copy = take_snapshot(path)

    assert SECRET not in copy.data
    assert (copy.items, copy.complaints) == (100, ())
    assert judge(copy.data).complaints == ()
    assert copy.value("/things/99") == b'{"password": ""}'


async def test_a_lost_log_is_told(path: Path, tmp_path: Path) -> None:
    async with open_sqlite_backend(path, WallClock()) as backend:
        for number in range(5):
            await backend.create(Item(f"/{number}", b"1"))
        shutil.copytree(path.parent, tmp_path / "crashed")
    crashed = tmp_path / "crashed" / path.name
    assert take_snapshot(crashed).complaints == ()
    data = bytearray(crashed.with_name("state.db-wal").read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    crashed.with_name("state.db-wal").write_bytes(data)

    [complaint] = take_snapshot(crashed).complaints

    assert complaint.startswith("writes were lost: it ends at revision ")
    assert complaint.endswith("acknowledged was 5")


async def test_a_damaged_page_is_told_or_the_file_is_refused(path: Path) -> None:
    await some(path, 500)
    whole = path.read_bytes()
    assert len(whole) > 8 * 4096
    for page in range(1, len(whole) // 4096):
        data = bytearray(whole)
        data[page * 4096 : page * 4096 + 64] = b"\xff" * 64
        path.write_bytes(data)
        try:
            complaints = take_snapshot(path).complaints
        except TportError:
            continue
        assert complaints, page


async def test_a_record_that_is_not_what_auth_writes_is_named(path: Path) -> None:
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/things/good", b"{}"))
        await backend.create(Item("/things/bad", b'{"cut": "of'))

    assert take_snapshot(path).complaints == ("what is stored at /things/bad can't be read",)


async def test_what_is_put_in_place_opens_with_a_mark_of_its_own_and_without_what_is_left_out(
    path: Path, tmp_path: Path
) -> None:
    await some(path, 3)
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/sessions/1", b'"a secret of then"'))
    copy = take_snapshot(path)
    other = tmp_path / "other" / "state.db"
    other.parent.mkdir()
    for suffix in ("-wal", "-shm", ".mark"):
        other.with_name(other.name + suffix).write_bytes(b"of a database that is gone")

    assert put_in_place(other, copy.data, Forgetting(without=["/sessions/"])) == 1

    assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert b"a secret of then" not in other.read_bytes()
    assert take_snapshot(other).complaints == ()
    assert await keys(other) == ["/things/0", "/things/1", "/things/2"]
    async with open_sqlite_backend(other, WallClock()) as backend:
        [written] = [await backend.create(Item("/new", b"1"))]
        assert written.revision > copy.revision + 1
        await backend.batch([Delete("/new")])


def test_what_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        take_snapshot(tmp_path / "none")
    (tmp_path / "text").write_text("a text of some length, and no database at all" * 100)
    with pytest.raises(TportError):
        take_snapshot(tmp_path / "text")


def test_a_copy_that_is_newer_than_the_mark_is_good_only_while_others_write(tmp_path: Path) -> None:
    from tport.engine.storage.mark import Mark

    trio.run(some, tmp_path / "state.db", 5)
    copy = take_snapshot(tmp_path / "state.db")
    old, newer = Mark(2, bytes(16)), Mark(9, bytes(16))

    assert judge(copy.data, mark=old, in_use=True).complaints == ()
    assert judge(copy.data, mark=old).complaints
    assert judge(copy.data, mark=newer, in_use=True).complaints


async def test_a_database_whose_log_was_all_of_it_is_told_to_be_empty(
    path: Path, tmp_path: Path
) -> None:
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/a", b"1"))
        shutil.copytree(path.parent, tmp_path / "crashed")
    tmp_path.joinpath("crashed", "state.db-wal").unlink()

    with pytest.raises(TportError, match="writes were lost: it is empty, and revision 1"):
        take_snapshot(tmp_path / "crashed" / path.name)


@pytest.mark.parametrize("harm", ["lost log", "no mark", "damaged mark", "changed record"])
async def test_what_is_gone_on_with_opens_again_without_what_is_left_out(
    path: Path, tmp_path: Path, harm: str
) -> None:
    """OPS-05: above the revision that was acknowledged, so that nobody takes the next writes for old ones."""
    await some(path, 30)
    async with open_sqlite_backend(path, WallClock()) as backend:
        await backend.create(Item("/sessions/1", b'"a secret of then"'))
        await backend.create(Item("/factors/1", b"1"))
    async with open_sqlite_backend(path, WallClock()) as backend:
        for number in range(5):
            await backend.create(Item(f"/later/{number}", b"1"))
        shutil.copytree(path.parent, tmp_path / "copy")
    copy = tmp_path / "copy" / path.name
    mark = copy.with_name("state.db.mark")
    match harm:
        case "lost log":
            copy.with_name("state.db-wal").unlink()
        case "no mark":
            mark.unlink()
        case "damaged mark":
            mark.write_bytes(b"no mark")
        case "changed record":
            change_a_record(copy)
    assert take_snapshot(copy).complaints
    with pytest.raises(TportError):
        await keys(copy)

    forgetting = Forgetting(
        without=["/sessions/"], changed={"/factors/": lambda value: value + b"0"}
    )
    assert go_on_with(copy, forgetting) == 1

    assert take_snapshot(copy).complaints == ()
    assert "/sessions/1" not in await keys(copy)
    assert b"a secret of then" not in copy.read_bytes()
    async with open_sqlite_backend(copy, WallClock()) as backend:
        assert (await backend.get("/factors/1")).value == b"10"
        assert (await backend.create(Item("/new", b"1"))).revision > 37


def change_a_record(path: Path) -> None:
    """Change one bit of a value, in the file itself; SQLite calls it sound."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    at = data.index(b'{"is": "a thing"}') + 2
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_one_bit_of_a_record_is_noticed_though_sqlite_calls_it_sound(path: Path) -> None:
    """OPS-05, R-17."""
    await some(path)
    change_a_record(path)

    with pytest.raises(TportError, match="a record is not as it was written"):
        await keys(path)
    assert take_snapshot(path).complaints == ("damaged: a record is not as it was written",)
