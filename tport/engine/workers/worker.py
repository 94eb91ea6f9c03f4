"""A worker: one of the processes that share the proxy's port. The main process starts it.

What it is told comes by its standard input and a socket that it inherits; what it asks of auth goes
out by that socket. When the main process is gone, so is auth, and the worker ends at once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, NoReturn

import trio

from tport.engine.api import wire
from tport.engine.api.remote import open_remote_auth
from tport.engine.diag.figures import LoopLag, ProcessFigures
from tport.engine.diag.stalls import Stalls
from tport.engine.errors import ConnectionProblem, TportError, leaves
from tport.engine.garbage import settle
from tport.engine.logs import set_up_logging
from tport.engine.metrics.board import Board
from tport.engine.net.fair_share import FairShare
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream
from tport.engine.proxy.siblings import Arrival
from tport.engine.proxy_role import Ports, Reach, run_proxy_role
from tport.engine.signals import Signals
from tport.engine.workers.channel import Channel
from tport.engine.workers.measuring import measured_messages
from tport.engine.workers.messages import (
    Alive,
    Arrived,
    Ask,
    Beginning,
    Failed,
    HandOver,
    Measure,
    NewPair,
    Relay,
    Reload,
    Reloaded,
    Serving,
    Stop,
)

logger = logging.getLogger(__name__)

BEAT: Final = 5.0  # s between signs of life
LAST_WORDS: Final = 5  # s to end in when the main process is gone; then the system ends us
# Calls of auth at a time, without TLS: more than it lets wait for a password to be hashed, so that no
# other call waits behind those.
MAX_CALLS: Final = 256
MAX_ARRIVED: Final = 64  # connections that wait to be taken over; further ones are closed


def main() -> None:
    """Run this process's worker to its end."""
    # The main process alone obeys the terminal, which signals us all, and asks us to.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        Path("/proc/self/comm").write_text("tport-worker")
    begin = Beginning.unpack(sys.stdin.buffer.read())
    set_up_logging(begin.config.log, worker=begin.number)
    sys.exit(trio.run(run_worker, begin))


def wall_clock() -> datetime:
    return datetime.now(UTC)


async def run_worker(begin: Beginning) -> int:
    """Serve until told to stop, drain, and return the exit status."""
    worker = _Worker(begin)
    return await worker.run()


class _Worker:
    """The proxy of this process, and its side of the channel. It is its own `Siblings`."""

    def __init__(self, begin: Beginning) -> None:
        self._begin = begin
        self._channel = Channel(_inherited(begin.channel))
        self._signals = Signals()
        self._pair = begin.pair
        self._board = Board()
        self._lag = LoopLag()
        self._stalls = Stalls()
        figures = ProcessFigures(self._lag, self._stalls)
        self._board.add("process", figures.figures, figures.troubles)
        self._arrived_in, self._arrived = trio.open_memory_channel[Arrival](MAX_ARRIVED)

    async def run(self) -> int:
        status = 1  # cancelled: the main process is gone
        async with self._stalls.watched(), trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, nursery)
            nursery.start_soon(self._give_signs_of_life)
            nursery.start_soon(self._stop_on_signal)
            if self._begin.config.diag_addr is not None:
                nursery.start_soon(self._lag.keep)
            status = await self._serve()
            nursery.cancel_scope.cancel()
        return status

    async def _serve(self) -> int:
        """Serve until told to stop, and drain; return the exit status."""
        begin = self._begin
        ports = Ports(
            public=_listener(begin.listener),
            http=None if begin.http is None else _listener(begin.http),
            share=FairShare(begin.share, begin.number - 1, begin.workers),
            siblings=self,
            tickets=begin.tickets,
        )
        os.close(begin.share)
        failed: Failed | None = None
        try:
            async with (
                open_remote_auth(
                    self._dial_auth, max_body=wire.MAX_ANSWER, places=MAX_CALLS
                ) as auth,
                trio.open_nursery() as nursery,
            ):
                reach = Reach(
                    proxy_id=begin.proxy_id,
                    auth=auth,
                    own_pair=lambda: self._pair,
                    to_auth=self._relay,
                    board=self._board,
                )
                role = partial(
                    run_proxy_role,
                    begin.config,
                    reach,
                    ports,
                    shown=begin.shown,
                    stop=self._signals.stop,
                    signals=self._signals,
                    clock=wall_clock,
                )
                await nursery.start(role)
                settle()
                await self._channel.send(Serving())
        except* TportError as problems:
            failed = _failed(problems)
        if failed is None:
            return 0
        with suppress(ConnectionProblem):
            await self._channel.send(failed)
        return failed.exit_status

    # --- The channel ---------------------------------------------------------------------------

    async def _listen(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                message, carried = await self._channel.receive()
            except ConnectionProblem:
                logger.warning("the main process is gone: stopping at once")
                signal.alarm(LAST_WORDS)
                nursery.cancel_scope.cancel()
                return
            match message:
                case Stop():
                    self._signals.stop.set()
                case Reload():
                    nursery.start_soon(self._reload)
                case Measure(number=number):
                    nursery.start_soon(self._tell_figures, number)
                case NewPair(pair=pair):
                    self._pair = pair
                case Arrived() if carried is not None:
                    arrival = Arrival(TcpStream(carried), message.remote, message.received)
                    try:
                        self._arrived_in.send_nowait(arrival)
                    except trio.WouldBlock:
                        carried.close()

    async def _give_signs_of_life(self) -> NoReturn:
        while True:
            with suppress(ConnectionProblem):
                await self._channel.send(Alive())
            await trio.sleep(BEAT)

    async def _tell_figures(self, number: int) -> None:
        report = await self._board.report()
        with suppress(ConnectionProblem):
            for message in measured_messages(number, report):
                await self._channel.send(message)

    async def _reload(self) -> None:
        await self._signals.read_anew()
        with suppress(ConnectionProblem):
            await self._channel.send(Reloaded())

    async def _stop_on_signal(self) -> None:
        """Drain on SIGTERM, however often it comes: from an operator, or a system that tells us all."""
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                self._signals.stop.set()

    # --- Connections for others ----------------------------------------------------------------

    async def _dial_auth(self) -> TcpStream:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                await self._channel.send(Ask(), theirs)
        except BaseException:
            ours.close()
            raise
        return TcpStream(ours)

    async def _relay(self, stream: PrefixedStream, remote: str) -> None:
        """Give an agent's connection to auth: see `Surroundings.to_auth`."""
        await self._give(Relay(remote, stream.take_prefix()), stream)

    async def hand_over(self, proxy_id: str, stream: PrefixedStream, remote: str) -> bool:
        if proxy_id in ("", self._begin.proxy_id):
            return False
        await self._give(HandOver(proxy_id, remote, stream.take_prefix()), stream)
        return True

    async def _give(self, message: Relay | HandOver, stream: PrefixedStream) -> None:
        """Send a connection away. It is still the caller's to close."""
        transport = stream.transport
        assert isinstance(transport, TcpStream), "the public port's connections are"
        await self._channel.send(message, transport.socket)
        transport.disown()

    async def next(self) -> Arrival:
        return await self._arrived.receive()


def _inherited(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def _listener(descriptor: int) -> trio.SocketListener:
    return trio.SocketListener(trio.socket.from_stdlib_socket(_inherited(descriptor)))


def _failed(problems: BaseExceptionGroup[TportError]) -> Failed:
    found = list(leaves(problems))
    return Failed(
        message="; ".join(dict.fromkeys(map(str, found))),
        hint=next((each.hint for each in found if each.hint), ""),
        exit_status=max(each.exit_code for each in found),
    )


if __name__ == "__main__":
    main()
