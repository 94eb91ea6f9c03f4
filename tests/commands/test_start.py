"""`tport start`: its command line. What it starts is tried for real in tests/e2e."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tport.cli import run

TOKEN = "0123456789abcdef0123456789abcdef"


def test_no_program_that_is_started_inherits_the_token(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """OPS-03: the variable may hold the token itself."""
    monkeypatch.setenv("TPORT_TOKEN_FILE", TOKEN)

    assert run(["start", "--roles=app", "--log-level=none"]) == 2

    subprocess.run(["/usr/bin/env"], check=True)
    told = capfd.readouterr()
    assert "PATH=" in told.out
    assert TOKEN not in told.out + told.err
    assert "TPORT_TOKEN_FILE" not in os.environ


def test_what_the_variable_says_is_what_was_meant_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TPORT_TOKEN_FILE", "/nowhere/at/all")

    agent = ["--roles=app", "--auth-server=tport.test:3080", f"--data-dir={tmp_path}"]
    assert run(["start", *agent, "--app-name=a", "--app-uri=http://localhost:1"]) == 2

    assert "/nowhere/at/all: can't be read" in capsys.readouterr().err
