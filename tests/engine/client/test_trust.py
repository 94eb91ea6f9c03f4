"""What trusting the authority takes is told as commands, and done the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tport.engine.client import trust
from tport.engine.client.trust import Step, plan_trust
from tport.engine.errors import AccessDenied, TportError


def step(tmp_path: Path, *argvs: tuple[str, ...], needs_root: bool = False) -> Step:
    return Step("a store", "PEM", tmp_path / "sub" / "ca.crt", argvs, needs_root=needs_root)


def test_doing_it_writes_the_file_and_runs_the_commands(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    step(tmp_path, ("touch", str(mark))).do()

    assert (tmp_path / "sub" / "ca.crt").read_text() == "PEM"
    assert mark.exists()


def test_a_command_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(TportError, match="No such file"):
        step(tmp_path, ("ls", str(tmp_path / "missing"))).do()
    with pytest.raises(TportError):
        step(tmp_path, ("no-such-command",)).do()


def test_what_needs_root_is_told_with_sudo_and_not_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_is_root", lambda: False)
    needs = step(tmp_path, ("update-ca-certificates",), needs_root=True)

    assert all("sudo " in line for line in needs.commands("tport ca export"))
    with pytest.raises(AccessDenied):
        needs.do()
    assert not (tmp_path / "sub").exists()


def test_the_lines_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    odd = Step("x", "PEM", tmp_path / "a b" / "ca.crt", (("touch", "c d"),), needs_root=False)
    make, copy, touch = odd.commands("tport ca export")
    assert make == f"mkdir -p '{tmp_path}/a b'"
    assert copy == f"tport ca export | tee '{tmp_path}/a b/ca.crt' > /dev/null"
    assert touch == "touch 'c d'"


def test_two_clusters_stand_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chromium's store by certutil, where that is installed."""
    certutil = tmp_path / "certutil"
    certutil.write_text("#!/bin/sh\n")
    certutil.chmod(certutil.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    files = {plan_trust(cluster, "PEM")[0].file for cluster in ("a.example.com", "b.example.com")}

    assert len(files) == 2
    assert all(file.is_relative_to(tmp_path) for file in files)
