"""CPU time and memory of trees of processes, from the kernel."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TICK: Final = 1.0 / os.sysconf("SC_CLK_TCK")  # s


def tree(roots: Iterable[int]) -> set[int]:
    """Return the processes `roots` and all below them that live now."""
    children = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children[int(fields[1])].append(int(folder.name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children[pid]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return what these processes have used, with their children that ended, in user and system mode."""
    return sum(map(_used, pids))


def memory(pids: Iterable[int]) -> int:
    """Return the bytes that these processes hold, what they share counted once (PSS)."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        except OSError:
            continue  # it ended
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total * 1024


def _used(pid: int) -> float:
    """Return the seconds of one process: to the nanosecond, of its children to a tick."""
    fields = _stat(pid)
    if not fields:
        return 0.0
    try:
        own = time.clock_gettime((~pid << 3) | 2)  # its CPU clock; see clock_getcpuclockid(3)
    except OSError:
        return 0.0  # it ended
    return own + sum(map(int, fields[13:15])) * _TICK


def _stat(pid: int) -> list[str]:
    """Return the fields behind the name: state, parent, ...; [] when it is no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
