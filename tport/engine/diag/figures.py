"""What a process knows of itself as such: memory, descriptors, time; and whether its loop keeps up."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import trio

import tport
from tport.engine.diag.stalls import Stalls
from tport.engine.logs import LogFile, Repeats
from tport.engine.metrics.sample import Sample, Trouble, one

LOOK: Final = 1.0  # s between two looks at whether the loop keeps up
LOOKS: Final = 60  # looks that the longest lag is told of
FEW_DESCRIPTORS: Final = 0.9  # of the limit; past it, connections will soon be turned away
_BEGAN: Final = time.time()
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_PROC: Final = Path("/proc/self")


class LoopLag:
    """How late the loop is: who asked to go on at a moment goes on so many seconds after it."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque([0.0], maxlen=LOOKS)

    @property
    def longest(self) -> float:
        """Seconds, of the last LOOKS looks."""
        return max(self._lags)

    async def keep(self) -> NoReturn:
        """Look each LOOK seconds, until cancelled."""
        while True:
            due = trio.current_time() + LOOK
            await trio.sleep_until(due)
            self._lags.append(trio.current_time() - due)


class ProcessFigures:
    """The figures of this process, for its board."""

    def __init__(self, lag: LoopLag, stalls: Stalls, data_dir: Path | None = None) -> None:
        """`data_dir`: whose disk is looked at; None: none."""
        self._lag = lag
        self._stalls = stalls
        self._data_dir = data_dir

    async def figures(self) -> Iterable[Sample]:
        return list(self._figures())

    def _figures(self) -> Iterator[Sample]:
        yield one("tport_build_info", 1, tport.__version__, platform.python_version())
        yield one("tport_loop_lag_seconds", self._lag.longest)
        yield one("tport_loop_stalls_total", self._stalls.count)
        yield one("tport_tasks", trio.lowlevel.current_statistics().tasks_living)
        yield one("tport_shed_total", LogFile.lost, "log")
        yield one("tport_shed_total", Repeats.left_out, "log-repeats")
        yield one("process_cpu_seconds_total", time.process_time())
        yield one("process_start_time_seconds", _BEGAN)
        with suppress(OSError, IndexError, ValueError):  # elsewhere than on Linux
            resident = int((_PROC / "statm").read_text().split()[1])
            yield one("process_resident_memory_bytes", resident * _PAGE)
        if (descriptors := _descriptors()) is not None:
            yield one("process_open_fds", descriptors[0])
            yield one("process_max_fds", descriptors[1])
        if self._data_dir is not None:
            with suppress(OSError):
                yield one("tport_data_free_bytes", shutil.disk_usage(self._data_dir).free)

    def troubles(self) -> Iterator[Trouble]:
        if (descriptors := _descriptors()) is not None:
            open_, most = descriptors
            if open_ > FEW_DESCRIPTORS * most:
                yield Trouble("process", f"{open_} of {most} file descriptors are in use")


def _descriptors() -> tuple[int, int] | None:
    """Return how many are open, and the most that may be; None: this system doesn't tell."""
    try:
        import resource

        folder = _PROC / "fd"
        count = folder.stat().st_size or len(os.listdir(folder))  # the size is since Linux 6.2
        return count, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except (ImportError, OSError):
        return None
