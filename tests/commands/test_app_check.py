"""`tport apps check`: `--write` changes the file it read, whatever its folder's owner puts in the way.

From another machine what the agent keeps to itself is not proposed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from tport.commands import app_check
from tport.engine.config import edit
from tport.engine.config.load import load_config
from tport.engine.types.app import KEPT, App, Header, Rewrite
from tport.engine.types.probe import ProbeReport, Proposal

TEXT = "app_service:\n  apps:\n    - name: grafana\n      uri: http://grafana.test\n"
REPORT = ProbeReport(
    app="grafana",
    uri="http://grafana.test",
    public="",
    hostname="",
    findings=(),
    proposal=Proposal(host="grafana.test"),
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = folder / "tport.yaml"
    path.write_text(TEXT)
    path.chmod(0o644)
    return path


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    """A file elsewhere, which only root may read."""
    path = tmp_path / "shadow"
    path.write_text("root")
    path.chmod(0o600)
    return path


def write(file: Path) -> None:
    app_check._write(load_config(file), REPORT)


def test_the_file_has_the_old_ones_mode_and_nothing_is_left_beside_it(file: Path) -> None:
    file.chmod(0o640)
    write(file)

    assert "Host" in file.read_text() != TEXT
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_file_stays_its_owners(file: Path) -> None:
    os.chown(file, 4321, 4322)
    write(file)

    assert (file.stat().st_uid, file.stat().st_gid) == (4321, 4322)


def test_a_link_to_a_file_stays_one(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to(file)
    write(tmp_path / "link.yaml")

    assert (tmp_path / "link.yaml").is_symlink()
    assert file.read_text() != TEXT


@pytest.mark.parametrize("owner", [0, 4321])
def test_a_link_in_place_of_what_is_written_opens_no_other_file_to_anybody(
    file: Path, roots: Path, monkeypatch: pytest.MonkeyPatch, owner: int
) -> None:
    """OPS-04: by root, in a user's folder, it would have given that user what the link leads to."""
    if os.geteuid() == 0:
        os.chown(file, owner, -1)
    before, real_sync = roots.stat(), os.fsync

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        for new in set(file.parent.iterdir()) - {file}:
            new.unlink()
            new.symlink_to(roots)

    monkeypatch.setattr(os, "fsync", sync)
    write(file)

    assert (roots.stat().st_mode, roots.stat().st_uid) == (before.st_mode, before.st_uid)
    assert roots.read_text() == "root"


def test_another_folder_in_the_place_of_the_files_gets_nothing(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-04: as /etc, where a tport.yaml of that user would be root's orders."""
    (tmp_path / "etc").mkdir()
    real = edit.with_proposal

    def edited(text: str, app: str, proposal: Proposal) -> str:
        file.parent.rename(tmp_path / "aside")
        file.parent.symlink_to(tmp_path / "etc")
        return real(text, app, proposal)

    monkeypatch.setattr(edit, "with_proposal", edited)
    write(file)

    assert list((tmp_path / "etc").iterdir()) == []
    assert (tmp_path / "aside" / "tport.yaml").read_text() != TEXT


def test_whoever_is_shown_no_value_is_told_to_leave_the_one_that_is_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Else they would put the words that stand for it into the file."""
    headers = (Header("Authorization", "Basic eA=="),)
    own = App(name="grafana", uri=REPORT.uri, rewrite=Rewrite(headers=headers))
    proposed = replace(REPORT, proposal=Proposal(redirect=("localhost",)))

    app_check._print(proposed, own)
    here = capsys.readouterr()
    app_check._print(proposed, own.as_offered({}))
    there = capsys.readouterr()

    assert "Authorization: Basic eA==" in here.out
    assert KEPT not in here.err
    assert f"Authorization: {KEPT}" in there.out
    assert f"leave in that file what it has where {KEPT} stands here" in there.err
