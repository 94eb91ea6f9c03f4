"""The main process's side of workers: starts them, keeps them, and gives them what only it has.

    Workers.run ── for each: start ── serve ── ended? start another, after a while

A worker is a fresh process (a copy of a running one would share its tasks and locks) that inherits
the listening socket. What it asks of auth, and the connections of others to auth, come to this
process by its channel; so do tunnels that are meant for another worker.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, NoReturn

import msgspec
import trio

import tport
from tport.engine.auth.server import AuthServer
from tport.engine.auth.service import AuthService
from tport.engine.config.model import AppService, Config
from tport.engine.defaults import DRAIN, HOST_CERTIFICATE_TTL
from tport.engine.errors import (
    ConfigError,
    ConnectionProblem,
    RemoteProtocolError,
    Unavailable,
    leaves,
)
from tport.engine.metrics.sample import Report, Trouble
from tport.engine.net.fair_share import make_memory, mark_away
from tport.engine.net.streams import PrefixedStream
from tport.engine.net.tcp import TcpStream
from tport.engine.pki.authority import is_current
from tport.engine.pki.contexts import TICKET_KEYS
from tport.engine.signals import RELOADED, Signals
from tport.engine.types.identity import Identity
from tport.engine.types.setting import Setting
from tport.engine.workers.channel import Channel, channel_pair
from tport.engine.workers.measuring import WorkerFigures, WorkersFigures
from tport.engine.workers.messages import (
    Arrived,
    Ask,
    Beginning,
    Failed,
    HandOver,
    Measured,
    Message,
    NewPair,
    Relay,
    Reload,
    Reloaded,
    Serving,
    Stop,
)

logger = logging.getLogger(__name__)

# Safe path: nothing is imported from the folder that we happen to stand in.
COMMAND: Final = (sys.executable, "-P", "-m", "tport.engine.workers.worker")
START_DEADLINE: Final = 60.0  # s for a process to begin, and say something: imports take under 1
SILENCE: Final = 30.0  # s without a sign of life after which one is stuck, and is ended
# s to look whether something came after all: it is this process that may have stood still, stopped by a
# debugger or with its virtual machine, and the worker that was there.
LAST_LOOK: Final = 1.0
END_DEADLINE: Final = 5.0  # s for a process that said goodbye to be gone
LAST_WORK: Final = 10.0  # s after the drain, for the last events
STABLE: Final = 60.0  # s that one must have served for the delays to begin anew after it
LONGEST: Final = 30.0  # s between two tries to start one
RENEWAL: Final = HOST_CERTIFICATE_TTL / 4
LOOK: Final = 2.0  # s between looks at whether a certificate is due; the clock may have been set
MAX_HANDED: Final = 64  # tunnels of one worker on their way to another; agents dial again


OUTDATED: Final = "tport was replaced on disk while it runs: restart it (systemctl restart tport)"


def program_on_disk() -> tuple[int, ...]:
    """Return what tells one installed tport from another: `pip install -U` writes its files anew.

    A frozen one is its program, and has no other file that would be read again.
    """
    is_frozen = getattr(sys, "frozen", False)  # said by PyInstaller
    try:
        status = os.stat(sys.executable if is_frozen else tport.__file__)
    except OSError:  # it is being replaced right now
        return ()
    return status.st_ino, status.st_mtime_ns, status.st_size


def restart_delays() -> Iterator[float]:
    """Yield the wait before each further start, in seconds: none first, then doubling, capped."""
    delay = 0.5
    yield 0.0
    while True:
        yield delay
        delay = min(delay * 2, LONGEST)


@dataclass
class _Worker:
    """One of them, whichever process it is now.

    Attributes:
        proxy_id: of its process.
        channel: to its process; None: there is none.
        serves: it takes connections.
        reloaded: set when it has read its files anew, or has ended.
        failed: what it said of its end.
        handed: tunnels on their way to another.
        is_outdated: it has ended, and what would start now is another version of tport.
    """

    number: int
    figures: WorkerFigures
    proxy_id: str = ""
    channel: Channel | None = None
    serves: bool = False
    reloaded: trio.Event = field(default_factory=trio.Event)
    failed: Failed | None = None
    handed: int = 0
    is_outdated: bool = False

    def begin_anew(self) -> None:
        self.proxy_id, self.failed = str(uuid.uuid4()), None


class Workers:
    """The processes that share the proxy's port."""

    def __init__(
        self,
        config: Config,
        *,
        shown: Sequence[Setting],
        listener: trio.SocketListener,
        http: trio.SocketListener | None,
        service: AuthService,
        server: AuthServer,
        stop: trio.Event,
        signals: Signals,
        command: Sequence[str] = COMMAND,
        delays: Callable[[], Iterator[float]] = restart_delays,
        program: Callable[[], object] = program_on_disk,
    ) -> None:
        """
        Args:
            shown: the settings, for the page that shows them.
            listener, http: the proxy's ports; they are closed when it stops.
            signals: tells when to read files anew.
            command: starts a worker; its number is added.
            delays: makes the waits between starts.
            program: tells which program a process that starts now would run.
        """
        self._config = _for_workers(config)
        self._shown = tuple(shown)
        self._listener = listener
        self._http = http
        self._service = service
        self._server = server
        self._stop = stop
        self._signals = signals
        self._command = tuple(command)
        self._delays = delays
        self._program = program
        self._began_as = program()
        numbers = range(1, config.proxy_service.workers + 1)
        self._workers = [_Worker(n, WorkerFigures(f"worker-{n}")) for n in numbers]
        self._figures = WorkersFigures()
        self._failed = False  # one of them can't serve, at the start
        self._tickets = os.urandom(TICKET_KEYS)
        self._share = make_memory(len(self._workers))
        self._counts = mmap.mmap(self._share, 0)

    async def figures(self) -> Mapping[str, Report]:
        """Return what each worker tells, by its name; that none serves, in a report of its own."""
        told = await self._figures.ask((each.figures, each.channel) for each in self._workers)
        if any(worker.is_outdated for worker in self._workers):
            told = {**told, "workers": Report(troubles=(Trouble("proxy", OUTDATED),))}
        if any(worker.serves for worker in self._workers):
            return told
        trouble = Trouble("proxy", "none of the proxy's workers serves")
        return {**told, "workers": Report(troubles=(trouble,))}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep them until told to stop, and return when all have drained. Started: all serve.

        Raises:
            ConfigError, Unavailable: one of them can't serve, at the start; it says why.
        """
        try:
            async with trio.open_nursery() as background:
                background.start_soon(self._pass_on_reloads)
                background.start_soon(self._close_at_stop)
                async with trio.open_nursery() as keeping:
                    async with trio.open_nursery() as starting:
                        for worker in self._workers:
                            starting.start_soon(keeping.start, self._keep, worker)
                    task_status.started()
                background.cancel_scope.cancel()
        finally:
            self._close_ports()
            self._counts.close()
            os.close(self._share)

    async def _close_at_stop(self) -> None:
        """Close the ports as the workers do: else connections would come, and nobody take them."""
        await self._stop.wait()
        self._close_ports()

    def _close_ports(self) -> None:
        for port in (self._listener, self._http):
            if port is not None:
                port.socket.close()

    async def _pass_on_reloads(self) -> NoReturn:
        while True:
            await self._signals.next_reload()
            asked = []
            for worker in self._workers:
                if worker.channel is not None:
                    worker.reloaded = trio.Event()
                    asked.append(worker.reloaded)
                    with suppress(ConnectionProblem):
                        await worker.channel.send(Reload())
            with trio.move_on_after(RELOADED):
                for reloaded in asked:
                    await reloaded.wait()

    # --- One worker ----------------------------------------------------------------------------

    async def _keep(self, worker: _Worker, *, task_status: trio.TaskStatus[None]) -> None:
        """Have a process for it, one after the other, until told to stop. Started: it serves."""
        delays = self._delays()
        served = False

        def serves() -> None:
            nonlocal served
            worker.serves = True
            if not served:
                served = True
                task_status.started()

        while not self._stop.is_set():  # else the ports are closed
            began = trio.current_time()
            how = await self._live(worker, serves)
            if self._stop.is_set():
                return
            if not served:
                if self._failed:  # by another's error all are cancelled: once is enough
                    await trio.sleep_forever()
                self._failed = True
                raise _as_error(worker, how)
            if trio.current_time() - began >= STABLE:
                delays = self._delays()
            wait = next(delays)
            when = f"in {wait:g} s" if wait else "now"
            if self._program() != self._began_as:
                logger.error("worker %d ended (%s)", worker.number, how)
                await self._stay_away(worker)
                return
            logger.error("worker %d ended (%s); another starts %s", worker.number, how, when)
            with trio.move_on_after(wait):
                await self._stop.wait()

    async def _stay_away(self, worker: _Worker) -> None:
        """Have no process of another version beside those that run; end with the last of these.

        Raises:
            Unavailable: none is left: who supervises this process starts all of them anew.
        """
        worker.is_outdated = True
        if all(each.is_outdated for each in self._workers):
            raise Unavailable(OUTDATED, hint="it is started again by systemd, or by you")
        logger.error("worker %d is not replaced: %s", worker.number, OUTDATED)
        await self._stop.wait()

    async def _live(self, worker: _Worker, serves: Callable[[], None]) -> str:
        """Run one process to its end, and return how that was."""
        worker.begin_anew()
        try:
            ours, theirs = channel_pair()
        except OSError as problem:  # no file descriptor is left
            return f"it can't be started: {problem}"
        made = self._service.cluster.clock()  # of its first certificate, or a moment before
        begin = self._beginning(worker, theirs.fileno())
        channel = worker.channel = Channel(ours)
        self._expect()
        process: trio.Process | None = None
        how = ""
        try:
            with theirs:
                process = await self._start(begin)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell_begin, process, begin)
                nursery.start_soon(self._tell_stop, channel, nursery.cancel_scope)
                nursery.start_soon(self._tell_pairs, channel, worker.proxy_id, made)
                how = await self._listen(worker, channel, process.pid, serves, nursery)
                with trio.move_on_after(0 if how else END_DEADLINE):
                    await process.wait()
                nursery.cancel_scope.cancel()
        except* OSError as problems:  # also of what was done for it: that ends it, and no other
            how = f"it can't be {'served' if process else 'started'}: {next(leaves(problems))}"
        finally:
            worker.serves, worker.channel = False, None
            self._figures.ended.add(worker.figures.take())
            worker.reloaded.set()
            channel.close()
            mark_away(self._counts, worker.number - 1)
            self._expect()
            self._service.presence.forget(worker.proxy_id)
            if process is not None and process.returncode is None:
                process.kill()
                with trio.move_on_after(END_DEADLINE, shield=True):
                    await process.wait()
        if worker.failed is not None:
            return worker.failed.message
        return how or _how(process.returncode if process else None)

    def _expect(self) -> None:
        """Tell auth which proxies live: there are no others than workers."""
        alive = (each.proxy_id for each in self._workers if each.channel is not None)
        self._service.presence.expect(alive)

    def _beginning(self, worker: _Worker, channel: int) -> Beginning:
        return Beginning(
            number=worker.number,
            workers=len(self._workers),
            proxy_id=worker.proxy_id,
            config=self._config,
            shown=self._shown,
            pair=self._service.issue_own_identity("proxy", worker.proxy_id),
            tickets=self._tickets,
            channel=channel,
            listener=self._listener.socket.fileno(),
            http=self._http.socket.fileno() if self._http is not None else None,
            share=self._share,
        )

    async def _start(self, begin: Beginning) -> trio.Process:
        inherited = (begin.channel, begin.listener, begin.http, begin.share)
        return await trio.lowlevel.open_process(
            [*self._command, str(begin.number)],
            stdin=subprocess.PIPE,
            pass_fds=[number for number in inherited if number is not None],
        )

    async def _tell_stop(self, channel: Channel, scope: trio.CancelScope) -> None:
        await self._stop.wait()
        with suppress(ConnectionProblem):
            await channel.send(Stop())
        await trio.sleep(DRAIN + LAST_WORK)
        scope.cancel()

    async def _tell_pairs(self, channel: Channel, proxy_id: str, made: datetime) -> NoReturn:
        """Send it a certificate when the one of `made` is due, and so on."""
        clock = self._service.cluster.clock
        while True:
            await trio.sleep(LOOK)
            if is_current(made, clock(), until=RENEWAL):
                continue
            made = clock()
            pair = self._service.issue_own_identity("proxy", proxy_id)
            with suppress(ConnectionProblem):
                await channel.send(NewPair(pair))

    # --- What a worker says --------------------------------------------------------------------

    async def _listen(
        self,
        worker: _Worker,
        channel: Channel,
        pid: int,
        serves: Callable[[], None],
        nursery: trio.Nursery,
    ) -> str:
        """Do what a worker asks for until its process ends; return what was wrong with it, or ""."""
        patience = START_DEADLINE
        while True:
            came = None
            for wait in (patience, LAST_LOOK):
                with trio.move_on_after(wait):
                    try:
                        came = await channel.receive()
                    except ConnectionProblem:
                        return ""
                    except RemoteProtocolError as problem:
                        return str(problem)
                if came is not None:
                    break
            if came is None:
                return f"no sign of life for {patience:.0f} s"
            message, carried = came
            patience = SILENCE
            match message:
                case Serving():
                    logger.info("worker %d serves, as process %d", worker.number, pid)
                    serves()
                case Reloaded():
                    worker.reloaded.set()
                case Failed():
                    worker.failed = message
                case Measured():
                    worker.figures.hear(message)
                case _ if carried is not None:
                    self._carry(worker, message, carried, nursery)

    def _carry(
        self, worker: _Worker, message: Message, carried: socket.socket, nursery: trio.Nursery
    ) -> None:
        """Have a connection served that came with a message."""
        match message:
            case Ask():
                cluster = self._service.cluster.name
                identity = Identity(kind="proxy", name=worker.proxy_id, cluster=cluster)
                nursery.start_soon(self._server.serve_own, TcpStream(carried), identity)
            case Relay(remote=remote, received=received):
                stream = PrefixedStream(received, TcpStream(carried))
                nursery.start_soon(partial(self._server.serve_connection, stream, remote=remote))
            case HandOver() if worker.handed < MAX_HANDED:
                nursery.start_soon(self._hand_over, worker, message, carried)
            case _:
                carried.close()

    async def _hand_over(self, worker: _Worker, message: HandOver, carried: socket.socket) -> None:
        """Give a tunnel to the worker that it is for; where there is none, back to who took it."""
        worker.handed += 1
        try:
            found = (each for each in self._workers if each.proxy_id == message.proxy_id)
            target = next(found, worker)
            if target.channel is not None:
                arrived = Arrived(message.remote, message.received)
                await target.channel.send(arrived, carried)
        except ConnectionProblem as problem:
            logger.debug("a tunnel was not handed over, its agent dials again: %s", problem)
        finally:
            worker.handed -= 1
            carried.close()


def _for_workers(config: Config) -> Config:
    """Return what a proxy needs of it: no application, and no secret of others."""
    replace = msgspec.structs.replace
    return replace(
        config,
        auth_token=None,
        auth_service=replace(config.auth_service, tokens=()),
        app_service=AppService(enabled=False),
    )


async def _tell_begin(process: trio.Process, begin: Beginning) -> None:
    assert process.stdin is not None
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await process.stdin.send_all(begin.pack())
        await process.stdin.aclose()


def _how(status: int | None) -> str:
    if status is None:
        return "it does not end"
    if status < 0:
        known = {each.value: each.name for each in signal.Signals}  # a real-time one has no name
        return f"killed by {known.get(-status, f'signal {-status}')}"
    return f"exit status {status}"


def _as_error(worker: _Worker, how: str) -> ConfigError | Unavailable:
    if worker.failed is None:
        return Unavailable(f"worker {worker.number} does not start: {how}")
    kind = ConfigError if worker.failed.exit_status == ConfigError.exit_code else Unavailable
    return kind(worker.failed.message, hint=worker.failed.hint)
