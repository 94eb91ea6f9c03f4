"""`tport tokens add` prints a line that puts the token where nobody else on the machine reads it."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.fakes import START
from tport.cli import run
from tport.commands import tokens
from tport.engine.api.answers import NewToken

MADE = NewToken(token="0" * 32, roles=("app",), expires=START, proxy_addr="proxy.test:3080")


@pytest.fixture
def line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The line that is printed, with a folder of the test's for /tmp."""
    monkeypatch.setattr(tokens, "with_cluster", lambda _ctx, _ask: MADE)
    assert run(["tokens", "add"]) == 0
    [found] = re.findall(r"^  (\(umask .*\))    # paste", capsys.readouterr().out, re.MULTILINE)
    assert isinstance(found, str)
    return found.replace("/tmp/", f"{tmp_path}/")


def paste(line: str, shell: str, folder: Path, *, path: str = "/usr/bin:/bin") -> int:
    program = shutil.which(shell)
    assert program is not None
    done = subprocess.run(
        [program, "-c", line],
        input=b"secret\n",
        env={"PATH": path},
        cwd=folder,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return done.returncode


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_token_is_for_its_owner_alone_also_where_a_file_of_before_was_for_all(
    line: str, shell: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("an older one, and longer")
    token.chmod(0o666)

    with token.open() as reader:
        assert paste(line, shell, tmp_path) == 0
        assert "secret" not in reader.read()
    assert token.read_text() == "secret\n"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600

    token.unlink()
    assert paste(line, shell, tmp_path) == 0
    assert stat.S_IMODE(token.stat().st_mode) == 0o600


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_somebody_else_put_there_gets_no_token(
    line: str, shell: str, kind: str, tmp_path: Path
) -> None:
    """In /tmp nobody can remove another's file: so does this `rm`, for whoever runs the tests."""
    bin, token, theirs = tmp_path / "bin", tmp_path / "token", tmp_path / "theirs"
    bin.mkdir()
    bin.joinpath("rm").write_text("#!/bin/sh\nexit 1\n")
    bin.joinpath("rm").chmod(0o700)
    theirs.write_text("")
    theirs.chmod(0o666)
    if kind == "file":
        theirs.rename(token)
    else:
        token.symlink_to(theirs)

    assert paste(line, shell, tmp_path, path=f"{bin}:/usr/bin:/bin") != 0

    assert token.read_text() == ""
