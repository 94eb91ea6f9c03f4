"""Taking connections from a listener: not too many at once, and each only where there is a seat for it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

import trio

from tport.engine.net.fair_share import PAUSE, FairShare
from tport.engine.net.ready import ready
from tport.engine.net.seats import Seat, Seats
from tport.engine.net.tcp import TcpStream
from tport.engine.net.waiter import Waiter

logger = logging.getLogger(__name__)

# New connections taken before others get their turn: a handshake is 0.2 ms and more.
ACCEPT_BURST: Final = 16
REST: Final = 0.1  # s after a failure: out of file descriptors, most likely; let some go
TELL_EVERY: Final = 60.0  # s between two warnings of that

# Serves a connection without waiting: it, its seat, the IP address it is from.
Welcome = Callable[[TcpStream, Seat, str], None]


async def accept(
    listener: trio.SocketListener,
    welcome: Welcome,
    seats: Seats,
    share: FairShare | None = None,
) -> NoReturn:
    """Welcome each connection, until cancelled; who serves it gives the seat up at its end.

    A connection for which there is no seat is closed at once.

    Args:
        share: with the other processes that accept from this listener; None: there are none.
    """
    async with listener:
        with socket.socket(fileno=os.dup(listener.socket.fileno())) as door:
            door.setblocking(False)
            arrivals = _Arrivals(door, seats)
            if share is None:
                await _accept(arrivals, welcome)
            await _accept_share(arrivals, welcome, share)


async def _accept(arrivals: _Arrivals, welcome: Welcome) -> NoReturn:
    """Welcome who comes by plain calls; a task is needed where others are to have their turn."""
    turn = Waiter()
    is_resting = False
    failed: OSError | None = None

    def come() -> bool:
        """Welcome who is there; tell whether more may be."""
        for _ in range(ACCEPT_BURST):
            try:
                arrival = arrivals.next()
            except BlockingIOError:
                return False
            if arrival is not None:
                welcome(*arrival)
        return True

    def told(_: int) -> None:
        nonlocal failed
        if is_resting or failed is not None:
            return  # the task goes on from there
        try:
            if not come():
                return
        except OSError as problem:
            failed = problem
        turn.wake()

    ready().add(arrivals.door, told)
    try:
        while True:
            is_more = True
            if failed is None:
                try:
                    is_more = come()
                except OSError as problem:
                    failed = problem
            if failed is not None:
                is_resting = True
                await arrivals.rest(failed)
                is_resting, failed = False, None
            if is_more:
                await trio.lowlevel.checkpoint()
            else:
                await turn.wait()
    finally:
        ready().forget(arrivals.door)


async def _accept_share(arrivals: _Arrivals, welcome: Welcome, share: FairShare) -> NoReturn:
    share.begin()
    try:
        while True:
            await trio.lowlevel.wait_readable(arrivals.door)
            if share.is_anothers_turn():
                await trio.sleep(PAUSE)
            try:
                arrival = arrivals.next()
            except BlockingIOError:
                continue  # another process has it
            except OSError as problem:
                await arrivals.rest(problem)
                continue
            if arrival is not None:
                share.add(1)
                _, seat, _ = arrival
                seat.on_left = partial(share.add, -1)
                welcome(*arrival)
    finally:
        share.end()


class _Arrivals:
    """What comes in at a door, seated."""

    def __init__(self, door: socket.socket, seats: Seats) -> None:
        self.door = door
        self._seats = seats
        self._silent_until = 0.0  # trio's time; the same warning each 0.1 s fills disks

    def next(self) -> tuple[TcpStream, Seat, str] | None:
        """Return a connection; None: the one that was there has no seat, or has gone.

        Raises:
            BlockingIOError: none is there.
            OSError: it can't be taken: rest.
        """
        try:
            accepted, address = self.door.accept()
        except ConnectionAbortedError:
            return None
        remote = str(address[0]).removeprefix("::ffff:")
        if (seat := self._seats.take(remote)) is None:
            accepted.close()
            return None
        try:
            return TcpStream(accepted), seat, remote
        except OSError:
            accepted.close()
            seat.leave()
            raise

    async def rest(self, problem: OSError) -> None:
        """Let connections go that rest: what is lacking is file descriptors, most likely."""
        self._seats.shed["descriptors"] += 1
        for _ in range(ACCEPT_BURST):
            if not self._seats.make_room():
                break
        if trio.current_time() >= self._silent_until:
            self._silent_until = trio.current_time() + TELL_EVERY
            logger.warning("connections could not be accepted: %s", problem)
        await trio.sleep(REST)
