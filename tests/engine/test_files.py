"""A file that was written is there after a power cut, and stays the service's whoever wrote it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certs import Cluster
from tests.fakes import START
from tport.engine.agent.state import AgentState, save_state
from tport.engine.auth.seal_key import open_seal_key
from tport.engine.client.connect import write_private
from tport.engine.files import write_whole
from tport.engine.storage.folder import locked_folder
from tport.engine.storage.mark import Mark, MarkFile

SERVICE = 4321  # a user that nobody is


def save_agent(path: Path) -> None:
    pair = Cluster(now=START).pair("agent")
    state = AgentState(
        host_id="a1",
        key=pair.key,
        certificate=pair.chain,
        authorities=Cluster(now=START).authorities,
        proxy="proxy.test:3080",
        renew_at=START,
        expires=START,
    )
    save_state(path.parent, state)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("any", lambda path: write_whole(path, b"content")),
        ("agent.json", save_agent),  # an older one is taken for a copy, and locked out
        ("factors.key", open_seal_key),  # what is sealed with it outlives a power cut
        ("admin.pem", lambda path: write_private(path, "pem")),
    ],
)
def test_a_power_cut_brings_no_older_file_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], object]
) -> None:
    """The disk hears of the content before the name is moved, and of the name before it is done."""
    path, did = tmp_path / name, list[str]()
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        did.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        real_sync(descriptor)

    def move(source: Path, target: Path) -> Path:
        did.append("name")
        real_replace(source, target)
        return target

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", move)
    write(path)

    assert did == ["content", "name", "folder"]
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_what_an_earlier_try_left_open_to_others_is_closed(tmp_path: Path) -> None:
    left = tmp_path / "key.new"
    left.touch(mode=0o666)
    left.chmod(0o666)

    write_whole(tmp_path / "key", b"secret")

    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def key(path: Path) -> None:
    write_whole(path, b"secret")


def mark(path: Path) -> None:
    MarkFile(path).write(Mark(7, b"m" * 16))


@pytest.mark.parametrize("write", [key, mark])
def test_a_file_that_others_put_in_the_way_gets_nothing(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """OPS-04: they may hold it open, or have another name for it."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.write_bytes(b"theirs")
    (folder / "key.new").hardlink_to(elsewhere)

    with elsewhere.open("rb") as opened:
        write(folder / "key")
        assert opened.read() == b"theirs"

    status = (folder / "key").lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o600, 1)
    assert [each.name for each in folder.iterdir()] == ["key"]


@pytest.mark.parametrize("write", [key, mark])
def test_a_link_that_others_put_in_the_way_leads_nowhere(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    """OPS-04."""
    (tmp_path / "key.new").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match="symbolic"):
        write(tmp_path / "key")
    assert [each.name for each in tmp_path.iterdir()] == ["key.new"]


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@as_root
def test_what_root_makes_in_the_services_folder_is_the_services(tmp_path: Path) -> None:
    """`tport restore` by root: else auth, which runs as another user, can't read what it is to serve."""
    os.chown(tmp_path, SERVICE, SERVICE)
    with locked_folder(tmp_path / "auth"):
        write_whole(tmp_path / "auth" / "tport.db", b"")
        (tmp_path / "auth" / "audit").mkdir()
        write_whole(tmp_path / "auth" / "audit" / "2026-01-31.jsonl", b"")

    owners = {path.stat().st_uid for path in (tmp_path, *tmp_path.rglob("*"))}
    assert owners == {SERVICE}


@as_root
def test_what_the_owner_of_a_folder_could_have_put_there_for_root_to_give_away_stays_roots(
    tmp_path: Path,
) -> None:
    """A link, or another name of a file elsewhere, is no file that was made here."""
    for name in ("linked", "named"):
        (tmp_path / name).touch()
    folder = tmp_path / "data" / "auth"
    folder.mkdir(parents=True)
    os.chown(folder, SERVICE, SERVICE)
    with locked_folder(folder):
        (folder / "link").symlink_to(tmp_path / "linked")
        (folder / "name").hardlink_to(tmp_path / "named")

    assert {(tmp_path / name).stat().st_uid for name in ("linked", "named")} == {0}
    assert (folder / "link").lstat().st_uid == 0


@as_root
def test_what_takes_the_name_of_a_file_while_it_is_looked_at_stays_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's owner may put something else under a name at any moment."""
    (tmp_path / "roots").touch()
    folder = tmp_path / "data" / "auth"
    folder.mkdir(parents=True)
    os.chown(folder, SERVICE, SERVICE)

    swapped = list[bool]()

    def after(look: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def looked(*what: object, **how: object) -> os.stat_result:
            status = look(*what, **how)
            if stat.S_ISREG(status.st_mode) and status.st_ino == looked_at and not swapped:
                swapped.append(True)
                os.unlink(folder / "file")
                os.link(tmp_path / "roots", folder / "file")
            return status

        return looked

    with locked_folder(folder):
        (folder / "file").touch()
        looked_at = (folder / "file").stat().st_ino
        monkeypatch.setattr(os, "stat", after(os.stat))
        monkeypatch.setattr(os, "fstat", after(os.fstat))

    assert swapped
    assert os.lstat(tmp_path / "roots").st_uid == 0


@as_root
def test_a_folder_of_roots_own_stays_roots(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "auth"):
        write_whole(tmp_path / "auth" / "tport.db", b"")

    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {0}
