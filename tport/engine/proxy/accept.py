"""Taking connections from a listener: no more at a time than are meant to be, nor too many at once."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from tport.engine.net.fair_share import PAUSE, FairShare
from tport.engine.net.tcp import TcpStream

logger = logging.getLogger(__name__)

# New connections taken before others get their turn: a handshake is 0.2 ms and more.
ACCEPT_BURST: Final = 16
REST: Final = 0.1  # s after a failure: out of file descriptors, most likely; let some go

Serve = Callable[[TcpStream], Awaitable[None]]


async def accept(
    listener: trio.SocketListener,
    connections: trio.Nursery,
    serve: Serve,
    is_full: Callable[[], bool],
    share: FairShare | None = None,
) -> NoReturn:
    """Start `serve` for each connection, until cancelled. While it `is_full`, close them at once.

    Args:
        share: with the other processes that accept from this listener; None: there are none.
    """
    async with listener:
        with socket.socket(fileno=os.dup(listener.socket.fileno())) as door:
            door.setblocking(False)
            if share is None:
                await _accept(door, connections, serve, is_full)
            await _accept_share(door, connections, serve, is_full, share)


async def _accept(
    door: socket.socket,
    connections: trio.Nursery,
    serve: Serve,
    is_full: Callable[[], bool],
) -> NoReturn:
    while True:
        await trio.lowlevel.wait_readable(door)
        for _ in range(ACCEPT_BURST):
            if (stream := await _next(door)) is None:
                break
            if is_full():
                stream.close()
            else:
                connections.start_soon(serve, stream)


async def _accept_share(
    door: socket.socket,
    connections: trio.Nursery,
    serve: Serve,
    is_full: Callable[[], bool],
    share: FairShare,
) -> NoReturn:
    async def counted(stream: TcpStream) -> None:
        try:
            await serve(stream)
        finally:
            share.add(-1)

    share.begin()
    try:
        while True:
            await trio.lowlevel.wait_readable(door)
            if share.is_anothers_turn():
                await trio.sleep(PAUSE)
            if (stream := await _next(door)) is None:
                continue
            if is_full():
                stream.close()
            else:
                share.add(1)
                connections.start_soon(counted, stream)
    finally:
        share.end()


async def _next(door: socket.socket) -> TcpStream | None:
    """Return a connection; None: there is none, others took it, or it has gone already."""
    accepted: socket.socket | None = None
    try:
        accepted, _ = door.accept()
        return TcpStream(accepted)
    except (BlockingIOError, ConnectionAbortedError):
        return None
    except OSError as problem:
        logger.warning("a connection could not be accepted: %s", problem)
        if accepted is not None:
            accepted.close()
        await trio.sleep(REST)
        return None
