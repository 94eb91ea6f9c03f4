"""What systemd hears of signals. What they do to services is tested with the services."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.engine.net.test_systemd import Listener
from tport.engine.net.systemd import Supervisor
from tport.engine.signals import RELOADED, Signals


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify"))
    yield listener
    listener.close()


def firsts(messages: list[str]) -> list[str]:
    return [message.splitlines()[0] for message in messages]


async def test_a_reload_is_over_when_the_slowest_reader_waits_again(
    systemd: Listener, autojump_clock: MockClock
) -> None:
    signals = Signals(Supervisor(systemd.address))

    async def reader(takes: float) -> None:
        while True:
            await signals.reload.wait()
            await trio.sleep(takes)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader, 1)
        nursery.start_soon(reader, 4)
        await nursery.start(signals.obey, nursery.cancel_scope)
        await signals.serves(["auth", "proxy"])
        assert systemd.heard() == ["READY=1\nSTATUS=serving auth, proxy"]

        os.kill(os.getpid(), signal.SIGHUP)
        await trio.sleep(3)
        assert firsts(systemd.heard()) == ["RELOADING=1"]
        await trio.sleep(2)
        assert firsts(systemd.heard()) == ["READY=1"]
        nursery.cancel_scope.cancel()


async def test_a_reader_that_hangs_does_not_keep_systemd_waiting(
    systemd: Listener, autojump_clock: MockClock
) -> None:
    signals = Signals(Supervisor(systemd.address))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals.reload.wait)
        await nursery.start(signals.obey, nursery.cancel_scope)
        await signals.serves(["app"])
        assert firsts(systemd.heard()) == ["READY=1"]
        await wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.sleep(RELOADED - 1)
        assert firsts(systemd.heard()) == ["RELOADING=1"]
        await trio.sleep(2)
        assert firsts(systemd.heard()) == ["READY=1"]
        nursery.cancel_scope.cancel()


async def test_a_reload_during_the_start_does_not_make_it_ready(
    systemd: Listener, autojump_clock: MockClock
) -> None:
    """What orders itself after tport would find nobody there."""
    signals = Signals(Supervisor(systemd.address))

    async with trio.open_nursery() as nursery:
        await nursery.start(signals.obey, nursery.cancel_scope)
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.sleep(RELOADED + 1)
        assert systemd.heard() == []
        await signals.serves(["app"])
        assert firsts(systemd.heard()) == ["READY=1"]
        nursery.cancel_scope.cancel()


async def test_stopping_is_told_once_and_the_last_word(
    systemd: Listener, autojump_clock: MockClock
) -> None:
    signals = Signals(Supervisor(systemd.address))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(signals.reload.wait)
        await nursery.start(signals.obey, nursery.cancel_scope)
        await signals.serves(["app"])
        await wait_all_tasks_blocked()
        os.kill(os.getpid(), signal.SIGHUP)
        await trio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep(RELOADED + 1)
        assert firsts(systemd.heard()) == ["READY=1", "RELOADING=1", "STOPPING=1"]
        os.kill(os.getpid(), signal.SIGTERM)
        await trio.sleep(60)  # the second one cuts

    assert nursery.cancel_scope.cancelled_caught
    assert systemd.heard() == []
    assert signals.exit_status == 128 + signal.SIGTERM
