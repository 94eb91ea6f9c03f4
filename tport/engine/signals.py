"""What the system asks of a running process by signals: to stop, to stop at once, to read its files anew."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from typing import Final

import trio

from tport.engine.net.systemd import Supervisor

logger = logging.getLogger(__name__)

_STOP: Final = (signal.SIGTERM, signal.SIGINT)
# Windows has none; there a restart is the way.
_RELOAD: Final = tuple(
    number for name in ("SIGHUP",) if (number := getattr(signal, name, None)) is not None
)

RELOADED: Final = 10.0  # s after which a reload is over for systemd, whoever still reads
_LOOK: Final = 0.05  # s between looks at whether it is


def forbid_core_dumps() -> None:
    """Have a crash of this process, and of those it starts, leave no core: keys would be in it.

    A limit of 1 byte also stops cores that are piped to a program, which 0 does not: core(5), and
    `do_coredump` in Linux's fs/coredump.c.
    """
    try:
        import resource
    except ImportError:
        return  # Windows
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 1 if most == resource.RLIM_INFINITY else min(1, most)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


class Signals:
    """SIGTERM and SIGINT drain, and cut when they come again; SIGHUP asks for a reload.

    Attributes:
        stop: set by the first signal to stop: what is open may end.
        serving: set by the process once it serves. A stop before that has nothing to drain.
        reload: set, and replaced by a fresh event, on SIGHUP.
        number: the signal that stopped the process; 0: none.
    """

    def __init__(self, supervisor: Supervisor | None = None) -> None:
        """`supervisor`: is told of it all; None: nobody is."""
        self._supervisor = supervisor or Supervisor()
        self._status = "serving"
        self.stop = trio.Event()
        self.serving = trio.Event()
        self.reload = trio.Event()
        self.number = 0

    async def next_reload(self) -> None:
        """Wait for the next SIGHUP."""
        await self.reload.wait()

    async def read_anew(self) -> bool:
        """Ask for a reload, and wait until it is over; False: another was asked for meanwhile.

        It is over once those who read wait for the next one, or after RELOADED s, whoever still
        reads.
        """
        before, self.reload = self.reload, trio.Event()
        asked, readers = self.reload, before.statistics().tasks_waiting
        before.set()
        with trio.move_on_after(RELOADED):
            while asked is self.reload and asked.statistics().tasks_waiting < readers:  # noqa: ASYNC110 - nobody tells who begins to wait
                await trio.sleep(_LOOK)
        return asked is self.reload

    @property
    def exit_status(self) -> int:
        """128 and the signal's number, as shells count it; 0 when no signal came."""
        return 128 + self.number if self.number else 0

    async def obey(
        self,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Obey signals until the second one to stop, which cancels `scope`."""
        with trio.open_signal_receiver(*_STOP, *_RELOAD) as signals:
            task_status.started()
            async with trio.open_nursery() as telling:
                telling.start_soon(self._supervisor.keep_alive)
                async for number in signals:
                    if number in _RELOAD:
                        logger.info("reading certificates and applications anew")
                        is_told = self.serving.is_set()  # a start ends when all serve, not before
                        if is_told:
                            await self._supervisor.reloading()
                        telling.start_soon(self._reload, is_told)
                    elif await self._stop(number):
                        scope.cancel()
                        break
                telling.cancel_scope.cancel()

    async def serves(self, roles: Sequence[str]) -> None:
        """Remember, and tell, that all services serve."""
        self._status = f"serving {', '.join(roles)}"
        self.serving.set()
        if not self.stop.is_set():
            await self._supervisor.ready(self._status)

    async def _stop(self, number: int) -> bool:
        """Begin to stop; tell whether it must be at once."""
        self.number = self.number or number
        if self.stop.is_set() or not self.serving.is_set():
            logger.warning("stopping at once")
            return True
        logger.info("stopping: open requests may end; once more to stop at once")
        self.stop.set()
        await self._supervisor.stopping("stopping: open requests may end")
        return False

    async def _reload(self, is_told: bool) -> None:
        if (
            await self.read_anew() and is_told and not self.stop.is_set()
        ):  # else there is newer news
            await self._supervisor.ready(self._status)
