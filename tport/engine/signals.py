"""What the system asks of a running process by signals: to stop, to stop at once, to read its files anew."""

from __future__ import annotations

import logging
import signal
from typing import Final

import trio

logger = logging.getLogger(__name__)

_STOP: Final = (signal.SIGTERM, signal.SIGINT)
# Windows has none; there a restart is the way.
_RELOAD: Final = tuple(
    number for name in ("SIGHUP",) if (number := getattr(signal, name, None)) is not None
)


class Signals:
    """SIGTERM and SIGINT drain, and cut when they come again; SIGHUP asks for a reload.

    Attributes:
        stop: set by the first signal to stop: what is open may end.
        serving: set by the process once it serves. A stop before that has nothing to drain.
        reload: set, and replaced by a fresh event, on SIGHUP.
        number: the signal that stopped the process; 0: none.
    """

    def __init__(self) -> None:
        self.stop = trio.Event()
        self.serving = trio.Event()
        self.reload = trio.Event()
        self.number = 0

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
            async for number in signals:
                if number in _RELOAD:
                    logger.info("reading certificates and applications anew")
                    self.reload.set()
                    self.reload = trio.Event()
                    continue
                self.number = self.number or number
                if self.stop.is_set() or not self.serving.is_set():
                    logger.warning("stopping at once")
                    scope.cancel()
                    return
                logger.info("stopping: open requests may end; once more to stop at once")
                self.stop.set()
