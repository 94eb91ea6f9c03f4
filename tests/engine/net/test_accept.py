"""Connections are taken as they come: none is forgotten, and others have their turn in between."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tport.engine.net import accept as accept_module
from tport.engine.net.accept import ACCEPT_BURST, accept
from tport.engine.net.seats import Room, Seat, Seats
from tport.engine.net.tcp import TcpStream

MANY = 3 * ACCEPT_BURST + 1
ROOM = Room(connections=999, per_address=999, strangers=999, strangers_per_address=999)


class Hall:
    """Takes everybody, and counts them."""

    def __init__(self) -> None:
        self.seats = Seats(ROOM)
        self.came = 0
        self.streams = ExitStack()

    def welcome(self, stream: TcpStream, seat: Seat, remote: str) -> None:
        assert remote == "127.0.0.1"
        self.came += 1
        self.streams.callback(stream.close)

    async def until(self, count: int) -> None:
        with trio.fail_after(10):
            while self.came < count:  # noqa: ASYNC110 - the system's doing, of which nobody tells
                await trio.sleep(0.001)


@pytest.fixture
async def listener() -> AsyncIterator[trio.SocketListener]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=2 * MANY)
    async with listener:
        yield listener


def dial(listener: trio.SocketListener, count: int, into: ExitStack) -> None:
    for _ in range(count):
        into.enter_context(socket.create_connection(listener.socket.getsockname()))


async def test_all_that_wait_are_taken_though_they_are_told_of_once(
    listener: trio.SocketListener,
) -> None:
    hall = Hall()
    with ExitStack() as clients, hall.streams:
        dial(listener, MANY, clients)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listener, hall.welcome, hall.seats)
            await hall.until(MANY)
            dial(listener, MANY, clients)
            await hall.until(2 * MANY)
            nursery.cancel_scope.cancel()


async def test_others_have_their_turn_after_each_burst(listener: trio.SocketListener) -> None:
    hall = Hall()
    seen: list[int] = []

    async def look() -> None:
        while hall.came < MANY:
            seen.append(hall.came)
            await trio.lowlevel.checkpoint()

    with ExitStack() as clients, hall.streams:
        dial(listener, MANY, clients)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept, listener, hall.welcome, hall.seats)
                await look()
                nursery.cancel_scope.cancel()

    # One burst at the end of a pass and one at the beginning of the next: trio runs tasks in any order.
    assert max(b - a for a, b in itertools.pairwise(seen)) <= 2 * ACCEPT_BURST


@pytest.mark.parametrize("meets", ["the task", "who is told of them"])
async def test_after_a_failure_those_who_wait_are_taken_nevertheless(
    listener: trio.SocketListener, monkeypatch: pytest.MonkeyPatch, meets: str
) -> None:
    """DOS-09: no descriptor is left for a moment; each that was shed is counted."""
    hall, fails = Hall(), 3

    class Scarce(TcpStream):
        def __init__(self, sock: socket.socket) -> None:
            nonlocal fails
            if fails:
                fails -= 1
                raise OSError(errno.EMFILE, "too many open files")
            super().__init__(sock)

    monkeypatch.setattr(accept_module, "REST", 0.001)
    monkeypatch.setattr(accept_module, "TcpStream", Scarce)
    with ExitStack() as clients, hall.streams:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listener, hall.welcome, hall.seats)
            if meets == "who is told of them":
                await wait_all_tasks_blocked()
            dial(listener, MANY, clients)
            await hall.until(MANY - 3)
            nursery.cancel_scope.cancel()

    assert hall.seats.shed["descriptors"] == 3
