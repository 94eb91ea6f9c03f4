"""OPS-06: a file that names programs, keys and secrets is changed, and where it holds one read, by nobody else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tport.engine.config.load import load_config
from tport.engine.errors import ConfigError

SECRET = "0123456789abcdef" * 2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir(mode=0o755)
    path = folder / "tport.yaml"
    path.write_text("proxy_service: {enabled: yes}\n")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o664])
def test_a_file_that_others_may_only_read_is_taken(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert load_config(file).notes == ()


@pytest.mark.parametrize("mode", [0o602, 0o646, 0o666])
def test_a_file_that_everybody_may_write_is_refused(file: Path, mode: int) -> None:
    """OPS-06: `commands` and `dns_hook` of theirs would run with what tport may."""
    file.chmod(mode)
    with pytest.raises(ConfigError, match="written by others") as told:
        load_config(file)
    assert str(told.value).startswith(f"{file}: ")
    assert told.value.hint.endswith(f"chmod o-w {file}")


@pytest.mark.parametrize("by_link", [False, True])
def test_a_file_that_everybody_may_replace_is_refused(file: Path, by_link: bool) -> None:
    """OPS-06."""
    named = file
    if by_link:
        named = file.parent.parent / "link.yaml"
        named.symlink_to(file)
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="replaced by others") as told:
        load_config(named)
    assert told.value.hint.endswith(f"chmod o-w {file.parent}")


def test_a_link_that_everybody_may_replace_is_refused(file: Path, tmp_path: Path) -> None:
    """OPS-06."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o777)
    (theirs / "link.yaml").symlink_to(file)
    with pytest.raises(ConfigError, match="replaced by others"):
        load_config(theirs / "link.yaml")


def test_ones_own_file_where_nobody_may_replace_what_is_anothers_is_taken(file: Path) -> None:
    """As in /tmp."""
    file.parent.chmod(0o1777)
    load_config(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_where_everybody_may_put_one_is_refused(file: Path) -> None:
    file.parent.chmod(0o1777)
    os.chown(file, 12345, -1)
    with pytest.raises(ConfigError, match="replaced by others") as told:
        load_config(file)
    assert told.value.hint.endswith(": move it where only you may write, or chown it")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_nobody_is_told_to_close_a_folder_that_is_anothers(file: Path) -> None:
    file.parent.chmod(0o777)
    os.chown(file.parent, 12345, -1)
    with pytest.raises(ConfigError, match="replaced by others") as told:
        load_config(file)
    assert told.value.hint.endswith(": move it where only you may write")


def test_where_nothing_can_be_written_modes_say_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Volumes of containers: read only, and some open to everybody by their modes."""

    class Mount(NamedTuple):
        f_flag: int

    file.chmod(0o666)
    file.parent.chmod(0o777)
    monkeypatch.setattr(os, "statvfs", lambda _: Mount(os.ST_RDONLY))
    load_config(file)


def test_what_is_no_file_is_read_as_before(tmp_path: Path) -> None:
    """`tport start --config=<(make-it)`: nobody else can write into that."""
    reading, writing = os.pipe()
    os.write(writing, b"proxy_service: {enabled: yes}\n")
    os.close(writing)
    try:
        assert load_config(Path(f"/dev/fd/{reading}")).proxy_service.enabled
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        (f"tport: {{auth_token: {SECRET}}}", "tport.auth_token"),
        (f"auth_service: {{tokens: ['app:{SECRET}']}}", "auth_service.tokens"),
        (
            "proxy_service: {acme: {enabled: yes, email: a@b.test,"
            " eab: {kid: k, hmac: c2l4dGVlbiBieXRlcy4uLg}}}",
            "proxy_service.acme.eab.hmac",
        ),
        (
            "app_service: {enabled: yes, apps: [{name: a, uri: 'http://a.test',"
            " rewrite: {headers: ['Authorization: Basic YWxpY2U6c2VjcmV0']}}]}",
            "app_service.apps",
        ),
        (
            "app_service: {enabled: yes, apps: [{name: a, uri: 'http://a.test',"
            " rewrite: {headers: ['X-Auth: YWxpY2U-{{external.team}}']}}]}",
            "app_service.apps",
        ),
    ],
)
def test_a_secret_that_everybody_may_read_is_told_of(file: Path, text: str, setting: str) -> None:
    file.write_text(text)
    *others, note = load_config(file).notes
    assert setting in note
    assert f"chmod o-r {file}" in note
    assert SECRET not in note
    assert "YWxp" not in note

    file.chmod(0o640)
    assert load_config(file).notes == tuple(others)


@pytest.mark.parametrize(
    "text",
    [
        "tport: {auth_token: /etc/tport/token}",
        "auth_service: {tokens: ['app:/etc/tport/token']}",
        "app_service: {enabled: yes, apps: [{name: a, uri: 'http://a.test',"
        " rewrite: {headers: ['Host: b.test', 'X-Env: prod', 'X-Auth-User: {{internal.logins}}',"
        " 'Authorization: Bearer {{internal.jwt}}']}}]}",
    ],
)
def test_what_is_no_secret_may_be_read_by_everybody(file: Path, text: str) -> None:
    file.write_text(text)
    assert load_config(file).notes == ()
