"""The operator's program for dns-01: how it is called, and what is said when it fails."""

from __future__ import annotations

import logging
import os
import signal
import tracemalloc
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tport.engine.pki.acme import dns_value
from tport.engine.proxy.acme_dns import DnsHook, HookFailed
from tport.engine.types.acme import Challenge

CHALLENGE = Challenge(name="a.test", kind="dns-01", token="t", key_authorization="t.k")


def hook(folder: Path, script: str) -> DnsHook:
    program = folder / "hook"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return DnsHook(program)


async def test_it_is_told_the_record_and_its_value_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPORT_TOKEN_FILE", "/a/secret/place")
    program = hook(tmp_path, f'echo "$*" > {tmp_path}/args; env > {tmp_path}/env; cat')

    await program.present(CHALLENGE)

    args = (tmp_path / "args").read_text().split()
    assert args == ["present", "_acme-challenge.a.test", dns_value("t.k")]
    names = {line.partition("=")[0] for line in (tmp_path / "env").read_text().splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "PWD", "SHLVL", "_", "OLDPWD"}


async def test_what_it_says_is_told_when_it_fails(tmp_path: Path) -> None:
    program = hook(tmp_path, r'printf "zone is \033[31mlocked\n" >&2; exit 3')

    with pytest.raises(
        HookFailed, match=r"failed with 3 to present _acme-challenge\.a\.test: zone"
    ):
        await program.present(CHALLENGE)
    with pytest.raises(HookFailed) as failure:
        await program.present(CHALLENGE)
    assert str(failure.value).isprintable()


async def test_one_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(HookFailed, match=r"nowhere can't be run: No such file"):
        await DnsHook(tmp_path / "nowhere").present(CHALLENGE)


async def test_one_that_hangs_is_ended(tmp_path: Path, autojump_clock: MockClock) -> None:
    program = hook(tmp_path, "exec sleep 600")
    with pytest.raises(HookFailed, match="took over 300 s"):
        await program.present(CHALLENGE)


async def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    """Such as an agent for its keys, which holds on to stderr."""
    program = hook(tmp_path, f"sleep 30 & echo $! > {tmp_path}/pid; exit 0")
    try:
        with trio.fail_after(10):
            await program.present(CHALLENGE)
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


async def test_of_one_that_says_much_the_end_is_kept(tmp_path: Path) -> None:
    """It may run for minutes; what it prints must not add up to all the memory there is."""
    lines = "yes 'not yet' | head -c 20000000"
    program = hook(tmp_path, f"{lines}; {lines} >&2; echo 'the zone is locked' >&2; exit 1")
    tracemalloc.start()
    try:
        with pytest.raises(HookFailed, match=r"not yet the zone is locked$"):
            await program.present(CHALLENGE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2_000_000


async def test_a_cleanup_that_fails_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await hook(tmp_path, "exit 1").cleanup(CHALLENGE)
    assert "to cleanup _acme-challenge.a.test" in caplog.text
