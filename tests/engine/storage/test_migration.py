"""A database of an older format is brought to the newest in one piece, and one of a newer is left alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import tport
from tests.engine.storage.made_up_formats import (
    AS_NEW,
    AS_OLD,
    ITEMS,
    NEW,
    OLD,
    SOON,
    records,
    write_old,
)
from tests.fakes import START
from tport.engine.errors import TportError, Unavailable
from tport.engine.storage.backend import Put
from tport.engine.storage.database import Database, Write, get
from tport.engine.storage.formats import Formats, Step
from tport.engine.storage.mark import MarkFile
from tport.engine.storage.snapshot import Forgetting, judge, put_in_place, take_snapshot

KEPT = "backups/before.tar.gz"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "auth" / "tport.db"
    write_old(path)
    return path


def no_backup() -> str:
    raise AssertionError("nothing is to be brought forward")


def bring_forward(path: Path) -> Database:
    return Database(path, lambda: KEPT, NEW)


def test_what_an_older_version_wrote_is_brought_forward_and_written_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = bring_forward(path)

    assert records(database) == AS_NEW
    item = get(database.readers[0], "/users/a")
    assert item is not None
    assert item.expires == SOON  # a value that changes keeps its end
    assert item.revision == len(ITEMS) + 1
    [outcome] = database.commit([Write((Put(ITEMS[-1]),), START)])
    assert outcome.error is None
    database.close()
    assert f"from format {OLD.newest} to {NEW.newest}" in caplog.text
    assert str(path.parent / KEPT) in caplog.text

    snapshot = take_snapshot(path, NEW)
    assert (snapshot.complaints, snapshot.format) == ((), NEW.newest)
    database = Database(path, no_backup, NEW)  # it is done once
    assert records(database) == AS_NEW
    database.close()


def test_the_backup_is_made_before_anything_changes(path: Path) -> None:
    seen: list[dict[str, bytes]] = []

    def keep() -> str:
        snapshot = take_snapshot(path, OLD)
        seen.append({key: snapshot.value(key) or b"" for key in AS_OLD})
        return KEPT

    Database(path, keep, NEW).close()

    assert seen == [AS_OLD]


def test_a_backup_that_can_not_be_made_leaves_all_as_it_is(path: Path) -> None:
    def keep() -> str:
        raise Unavailable("no room")

    files = (path, path.with_name(f"{path.name}.mark"))
    before = [file.read_bytes() for file in files]
    for bad in (keep, None):
        with pytest.raises(TportError):
            Database(path, bad, NEW)

    assert [file.read_bytes() for file in files] == before
    database = Database(path, no_backup, OLD)  # the version before starts as ever
    assert records(database) == AS_OLD
    database.close()


def test_a_step_that_fails_leaves_the_format_before(path: Path) -> None:
    def fail(_: object) -> dict[str, bytes | None]:
        raise ValueError("what is this")

    failing = Formats(first=NEW.first, steps=(*NEW.steps, Step("the third", fail)))
    with pytest.raises(TportError, match="the third: ValueError"):
        Database(path, lambda: KEPT, failing)

    assert take_snapshot(path, OLD).complaints == ()
    database = Database(path, no_backup, OLD)
    assert records(database) == AS_OLD
    database.close()


def test_a_newer_format_is_left_alone_and_says_which_version_reads_it_and_how_to_go_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tport, "__version__", "7.3.0")
    bring_forward(path).close()
    monkeypatch.setattr(tport, "__version__", "7.2.1")
    before = path.read_bytes()

    for read in (lambda: Database(path, no_backup, OLD), lambda: take_snapshot(path, OLD)):
        with pytest.raises(TportError) as refused:
            read()
        said = str(refused.value)
        assert f"format {NEW.newest}, written by tport 7.3.0; this one, 7.2.1, knows" in said
        assert "start tport 7.3.0 or a later one" in refused.value.hint
        assert KEPT in refused.value.hint

    assert path.read_bytes() == before


def test_one_that_was_new_in_a_newer_version_says_so_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tport, "__version__", "7.3.0")
    path = tmp_path / "tport.db"
    Database(path, formats=NEW).close()

    with pytest.raises(TportError, match=r"written by tport 7\.3\.0") as refused:
        Database(path, formats=OLD)
    assert "a backup from then" in refused.value.hint


def test_a_database_of_0_1_which_has_no_word_on_who_wrote_it_is_read(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE written")

    Database(path, no_backup, OLD).close()
    database = bring_forward(path)
    assert records(database) == AS_NEW
    database.close()

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE written")
    with pytest.raises(TportError, match="written by tport of a newer version"):
        Database(path, no_backup, OLD)


def test_a_format_of_no_release_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")

    with pytest.raises(TportError, match="has format 1, of no release"):
        bring_forward(path)


def test_a_mark_that_could_not_be_written_after_it_is_written_at_the_next_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError(5, "the disk fails")

        broken.setattr(MarkFile, "write", fail)
        with pytest.raises(Unavailable):
            bring_forward(path)

    database = Database(path, no_backup, NEW)
    assert records(database) == AS_NEW
    database.close()


def test_a_damaged_database_is_told_and_not_brought_forward(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE items SET value = '{}' WHERE key = ?", (b"/users/a",))
        connection.commit()

    with pytest.raises(TportError, match="not as it was written"):
        Database(path, no_backup, NEW)


def test_a_copy_of_an_older_format_is_restored_in_the_newest(path: Path, tmp_path: Path) -> None:
    data = take_snapshot(path, OLD).data
    assert judge(data, formats=NEW).format == OLD.newest
    to = tmp_path / "restored" / "tport.db"
    to.parent.mkdir()

    left_out = put_in_place(to, data, Forgetting(without=("/tokens/",)), NEW)

    assert left_out == 1
    database = Database(to, no_backup, NEW)
    assert records(database) == {key: AS_NEW[key] for key in AS_NEW if key != "/tokens/t"}
    database.close()
