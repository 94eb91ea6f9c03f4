"""Taking connections from a listener: no more at a time than are meant to be, nor too many at once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from tport.engine.net.fair_share import PAUSE, FairShare
from tport.engine.net.tcp import TcpStream, direct

logger = logging.getLogger(__name__)

# New connections taken before others get their turn: a handshake is 0.35 ms.
ACCEPT_BURST: Final = 16

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
    if share is not None:
        await _accept_share(listener, connections, serve, is_full, share)
    await _accept(listener, connections, serve, is_full, listener.accept)


async def _accept_share(
    listener: trio.SocketListener,
    connections: trio.Nursery,
    serve: Serve,
    is_full: Callable[[], bool],
    share: FairShare,
) -> NoReturn:
    async def counted(stream: TcpStream) -> None:
        share.add(1)
        try:
            await serve(stream)
        finally:
            share.add(-1)

    async def in_turn() -> trio.SocketStream:
        while True:
            await trio.lowlevel.wait_readable(listener.socket)
            if share.is_anothers_turn():
                await trio.sleep(PAUSE)
            with trio.move_on_after(PAUSE):  # it may be taken by now
                return await listener.accept()

    share.begin()
    try:
        await _accept(listener, connections, counted, is_full, in_turn)
    finally:
        share.end()


async def _accept(
    listener: trio.SocketListener,
    connections: trio.Nursery,
    serve: Serve,
    is_full: Callable[[], bool],
    next_stream: Callable[[], Awaitable[trio.SocketStream]],
) -> NoReturn:
    async with listener:
        burst = 0
        while True:
            try:
                stream = await next_stream()
            except OSError as problem:
                logger.warning("a connection could not be accepted: %s", problem)
                await trio.sleep(0.1)  # out of file descriptors, most likely: let some go
                continue
            if is_full():
                await trio.aclose_forcefully(stream)
                continue
            connections.start_soon(serve, direct(stream))
            burst += 1
            if burst >= ACCEPT_BURST:
                burst = 0
                await trio.lowlevel.checkpoint()
