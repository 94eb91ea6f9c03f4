"""Which sockets are ready: all of them are asked for at once, and each one's owner is told.

trio waits for one socket with one registration and one task switch, each time: a third of what a
small request costs a proxy. Here a socket is registered once, for as long as it lives, and one
task waits (by trio) until any of them has news. Who is told has no need of a task of its own:
what can be done at once is done by a plain call, and a task is woken where something has to wait.

News come once (edge-triggered): who is told that there is something to read must read until
nothing is left, or remember that there is more.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable
from typing import Final, NoReturn

import trio

logger = logging.getLogger(__name__)

HAS_EPOLL: Final = hasattr(select, "epoll")  # Linux; elsewhere trio waits for each socket
# Sockets told before other tasks have their turn: a millisecond of requests, 15 of handshakes.
BATCH: Final = 64

if HAS_EPOLL:
    READABLE: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
    ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
    WRITABLE: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
    _NEWS: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET

Told = Callable[[int], None]  # is given the events; must not block or raise


class Ready:
    """The sockets of one trio run; see `ready`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._told: dict[int, Told] = {}
        self._ends: list[Callable[[], None]] | None = None  # of the pass; None: there is none now

    def add(self, sock: socket.socket, told: Told) -> None:
        """Tell `told` whenever the socket has news, from what it has now on.

        Raises:
            OSError: it can't be watched: too many are, most likely.
        """
        number = sock.fileno()
        self._epoll.register(number, _NEWS)
        self._told[number] = told

    def forget(self, sock: socket.socket) -> None:
        """To be called right before the socket is closed, which ends its registration."""
        self._told.pop(sock.fileno(), None)

    def disown(self, sock: socket.socket) -> None:
        """To be called when another process has the socket, too: closing it here ends nothing then."""
        self.forget(sock)
        self._epoll.unregister(sock.fileno())

    def at_end(self, call: Callable[[], None]) -> bool:
        """Call this once all are told who are told now; False: nobody is, and it will not be called.

        It must not block or raise.
        """
        if self._ends is None:
            return False
        self._ends.append(call)
        return True

    async def keep(self) -> NoReturn:
        """Tell the news until cancelled."""
        poll, told, number = self._epoll.poll, self._told, self._epoll.fileno()
        try:
            while True:
                await trio.lowlevel.wait_readable(number)
                ends = self._ends = []
                for socket_number, events in poll(0, BATCH):
                    # Of a socket closed in this very batch there is nobody to tell; and news of
                    # one that has its number by now do no harm: they are hints.
                    if (tell := told.get(socket_number)) is None:
                        continue
                    try:
                        tell(events)
                    except Exception:
                        logger.exception("a socket's news were not understood")
                for call in ends:  # and those that they add
                    try:
                        call()
                    except Exception:
                        logger.exception("what sockets' news led to could not be ended")
                self._ends = None
        finally:
            self._epoll.close()


_ready: Final[trio.lowlevel.RunVar[Ready]] = trio.lowlevel.RunVar("ready")


def ready() -> Ready:
    """Return what tells the sockets of this trio run; its task runs as long as trio does."""
    try:
        return _ready.get()
    except LookupError:
        here = Ready()
        _ready.set(here)
        trio.lowlevel.spawn_system_task(here.keep)
        return here
