"""AG-02: a secret is read from where nobody else could have put it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tport.engine.config import secret_file
from tport.engine.config.secret_file import MAX_SECRET, read_pins, read_secret_file
from tport.engine.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("  secret\n")
    path.chmod(0o600)
    return path


def test_the_secret_is_what_stands_in_the_file_without_white_space(file: Path) -> None:
    assert read_secret_file(file) == ("secret", "")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_read_with_a_warning(file: Path, mode: int) -> None:
    file.chmod(mode)
    secret, warning = read_secret_file(file)

    assert secret == "secret"
    assert "chmod 600" in warning


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o660, 0o666])
@pytest.mark.parametrize("any_owner", [False, True])
def test_a_file_that_others_can_write_is_refused(
    file: Path, mode: int, any_owner: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AG-02: a pin or a token of theirs, and an agent joins whom they like."""
    monkeypatch.setattr(secret_file, "_own_group", lambda _: -1)  # the file's is another
    if os.geteuid() == 0:
        os.chown(file, -1, 4711)
    file.chmod(mode)
    with pytest.raises(ConfigError, match="written by others") as told:
        read_secret_file(file, any_owner=any_owner)
    assert f"chmod go-w {file}" in str(told.value)


@pytest.mark.parametrize("mode", [0o660, 0o664])
def test_what_somebody_makes_under_umask_002_is_theirs_alone(file: Path, mode: int) -> None:
    """As `tport tokens add --format=text > /tmp/token` does for users of most distributions."""
    file.chmod(mode)

    assert read_secret_file(file)[0] == "secret"


def test_a_link_is_not_followed(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="link"):
        read_secret_file(link)


def test_a_pipe_does_not_hold_up_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        read_secret_file(tmp_path / "pipe")


def test_a_folder_or_nothing_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="regular file"):
        read_secret_file(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        read_secret_file(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe", b"x" * (MAX_SECRET + 1)])
def test_what_is_no_secret_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="no secret"):
        read_secret_file(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, 12345, -1)
    with pytest.raises(ConfigError, match="another user"):
        read_secret_file(file)


def test_pins_are_read_as_they_stand_and_out_of_files(tmp_path: Path) -> None:
    file = tmp_path / "pins"
    file.write_text("b\nc\n")

    assert read_pins(["a", str(file), "d"]) == ("a", "b", "c", "d")
    assert read_pins([]) == ()
    file.write_text("")
    with pytest.raises(ConfigError, match="is empty"):
        read_pins([str(file)])
