"""What systemd hears, over a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from tport.engine.net.systemd import Supervisor


class Listener:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        """Return what has come since the last time."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["a file", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    name = str(tmp_path / "notify")
    listener = Listener(name if request.param == "a file" else f"@tport-test{name}")
    yield listener
    listener.close()


async def test_each_state_is_told_in_systemds_words(systemd: Listener) -> None:
    environ = {"NOTIFY_SOCKET": systemd.address}
    supervisor = Supervisor.of_environment(environ)

    await supervisor.ready("serving auth")
    await supervisor.reloading()
    await supervisor.stopping("stopping")

    ready, reloading, stopping = systemd.heard()
    assert ready == "READY=1\nSTATUS=serving auth"
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert stopping == "STOPPING=1\nSTATUS=stopping"
    assert environ == {}  # what we start can't speak for us


async def test_signs_of_life_come_twice_an_interval_and_stop_with_the_loop(
    systemd: Listener, autojump_clock: MockClock
) -> None:
    supervisor = Supervisor(systemd.address, watchdog=10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.keep_alive)
        await trio.sleep(29)
        assert systemd.heard() == ["WATCHDOG=1"] * 6
        autojump_clock.jump(100)  # time goes by while the loop stands still
        assert systemd.heard() == []
        await trio.sleep(5)
        assert 1 <= len(systemd.heard()) <= 2  # what was missed isn't made up for
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("environ", "watchdog"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),  # another process is watched
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_that_is_meant_for_us(
    environ: dict[str, str], watchdog: float | None
) -> None:
    assert Supervisor.of_environment({"NOTIFY_SOCKET": "/x", **environ}).watchdog == watchdog


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
async def test_outside_of_systemd_nothing_is_said(address: str) -> None:
    supervisor = Supervisor.of_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})

    await supervisor.ready("serving")
    await supervisor.keep_alive()  # returns: there is nobody


async def test_a_message_that_nobody_takes_is_lost_and_harms_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    await Supervisor(str(tmp_path / "gone")).ready("serving")

    deaf = Listener(str(tmp_path / "deaf"))
    started = trio.current_time()
    for _ in range(1000):  # until the socket is full
        await Supervisor(deaf.address).ready("x" * 1000)
        if trio.current_time() > started:
            break
    else:
        pytest.fail("the socket never got full")
    deaf.close()
