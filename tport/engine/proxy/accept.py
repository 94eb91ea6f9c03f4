"""Taking connections from a listener: no more at a time than are meant to be, nor too many at once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import trio

from tport.engine.net.tcp import TcpStream, direct

logger = logging.getLogger(__name__)

# New connections taken before others get their turn: a handshake is 0.35 ms.
ACCEPT_BURST: Final = 16


async def accept(
    listener: trio.SocketListener,
    connections: trio.Nursery,
    serve: Callable[[TcpStream], Awaitable[None]],
    is_full: Callable[[], bool],
) -> NoReturn:
    """Start `serve` for each connection, until cancelled. While it `is_full`, close them at once."""
    async with listener:
        burst = 0
        while True:
            try:
                stream = await listener.accept()
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
