"""CPU time and memory of trees of processes, from /proc."""

from __future__ import annotations

import os
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
    return sum(sum(map(int, fields[11:15])) * _TICK for pid in pids if (fields := _stat(pid)))


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


def _stat(pid: int) -> list[str]:
    """Return the fields behind the name: state, parent, ...; [] when it is no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
