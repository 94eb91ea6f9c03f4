"""What is put aside before a database changes its format: whole, for its owner alone, few of them."""

from __future__ import annotations

import errno
import io
import stat
from datetime import timedelta
from pathlib import Path

import pytest

import tport
from tests.engine.storage.made_up_formats import AS_OLD, ITEMS, NEW, OLD, write_old
from tests.fakes import START
from tport.engine.backup import cluster as cluster_module
from tport.engine.backup.archive import unpack_backup
from tport.engine.backup.cluster import KEPT, KEPT_IN, keep_backup, restore_backup
from tport.engine.errors import TportError, Unavailable
from tport.engine.storage.backend import Item
from tport.engine.storage.database import Database
from tport.engine.storage.snapshot import judge

MINUTE = timedelta(minutes=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "auth"
    cluster = Item("/cluster", b'{"name": "main", "of": "another format"}')
    write_old(folder / "tport.db", [*ITEMS, cluster])
    (folder / "factors.key").write_bytes(b"sealed")
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_a_backup_like_others_named_by_version_and_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tport, "__version__", "7.3.0")

    name = keep_backup(folder, START, NEW)

    assert name == f"{KEPT_IN}/before-7.3.0-{START:%Y%m%dT%H%M%SZ}.tar.gz"
    assert (mode(folder / name), mode(folder / KEPT_IN)) == (0o600, 0o700)
    manifest, files = unpack_backup((folder / name).read_bytes())
    assert files["auth/factors.key"] == b"sealed"
    snapshot = judge(files["auth/tport.db"], formats=OLD)
    assert (snapshot.complaints, snapshot.format) == ((), OLD.newest)
    assert {key: snapshot.value(key) for key in AS_OLD} == AS_OLD
    assert manifest.cluster == "main"


def test_an_upgrade_leaves_the_file_that_its_message_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tport, "__version__", "7.3.0")
    Database(folder / "tport.db", lambda: keep_backup(folder, START, NEW), NEW).close()

    with pytest.raises(TportError) as refused:
        Database(folder / "tport.db", formats=OLD)
    named = next(word for word in refused.value.hint.split() if word.startswith(KEPT_IN))
    data = (folder / named.rstrip(",")).read_bytes()

    # And it leads back: by the version before, whose newest format is the one in it.
    old = folder.rename(folder.with_name("auth.new"))
    restored = restore_backup(folder.parent, io.BytesIO(data), START, keep_tokens=False)
    assert restored.manifest.revision == len(ITEMS) + 1
    Database(folder / "tport.db", formats=OLD).close()
    assert old.exists()


def test_one_is_kept_for_each_of_the_last_versions(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts that come no further than the backup push none of an earlier upgrade out."""
    now = START
    for version in ("7.9.0", "7.10.0", "7.11.0", "7.12.0"):
        monkeypatch.setattr(tport, "__version__", version)
        for _ in range(KEPT + 2):
            now += MINUTE
            keep_backup(folder, now, NEW)

    kept = sorted(file.name for file in (folder / KEPT_IN).iterdir())
    assert [name.split("-")[1] for name in kept] == ["7.10.0", "7.11.0", "7.12.0"]
    assert kept[-1].endswith(f"{now:%Y%m%dT%H%M%SZ}.tar.gz")


def test_what_is_of_somebody_else_in_the_folder_stays(folder: Path) -> None:
    (folder / KEPT_IN).mkdir()
    theirs = folder / KEPT_IN / "mine.tar.gz"
    theirs.write_bytes(b"x")
    for number in range(KEPT + 2):
        keep_backup(folder, START + number * MINUTE, NEW)

    assert theirs.read_bytes() == b"x"


def test_without_room_nothing_is_left_of_it_and_the_message_says_how_much_it_takes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep_backup(folder, START, NEW)

    def half(path: Path, content: bytes) -> None:
        path.with_name(f"{path.name}.new").write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cluster_module, "write_whole", half)
    with pytest.raises(Unavailable, match="No space left") as refused:
        keep_backup(folder, START + MINUTE, NEW)

    assert "MB; nothing was changed" in refused.value.hint
    assert [file.name for file in (folder / KEPT_IN).iterdir()] == [Path(kept).name]


def test_one_that_fails_is_said_once_more_at_the_next_start(folder: Path) -> None:
    (folder / "factors.key").unlink()

    for _ in range(2):
        with pytest.raises(Unavailable, match=r"factors\.key can't be read"):
            keep_backup(folder, START, NEW)
    assert not (folder / KEPT_IN).exists()
