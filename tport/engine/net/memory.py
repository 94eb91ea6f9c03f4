"""How much of the memory that this process may have is in use: by the cgroup that it runs in.

A container and a unit of systemd (`MemoryMax`) set such a limit, and past it the kernel kills. Where
there is none, or on another system, nobody tells.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst, "Memory"; cgroup-v1/memory.rst.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NoReturn, Protocol

import trio

from tport.engine.defaults import MEMORY_FULL, MEMORY_TIGHT
from tport.engine.net.seats import Seats

LOOK: Final = 1.0  # s between two looks
ENDED: Final = 100  # connections that a look ends at the most: some milliseconds
UNLIMITED: Final = 2**60  # bytes; v1 writes no limit as a number near 2**63
_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")


class Usage(Protocol):
    def __call__(self) -> float:
        """Return the part of the memory that is in use, from 0 to 1; what the kernel can drop doesn't count."""
        ...


def memory_usage(cgroups: Path = _CGROUPS, own: Path = _OWN) -> Usage | None:
    """Return what tells how much is in use; None: there is no limit that anybody tells of."""
    for folder, limit_file, used_file, cached in _places(cgroups, own):
        try:
            limit = int((folder / limit_file).read_text())
        except (OSError, ValueError):  # v2 says "max"
            continue
        if 0 < limit < UNLIMITED:
            return _Usage(folder / used_file, folder / "memory.stat", cached, limit)
    return None


def _places(cgroups: Path, own: Path) -> list[tuple[Path, str, str, str]]:
    """Return where the limit may stand: of the process's own group, or as its container sees it."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files = ("memory.max", "memory.current", "inactive_file")
            found += [(cgroups / path.strip("/"), *files), (cgroups, *files)]
        elif controllers == "memory":
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            found += [(cgroups / "memory" / path.strip("/"), *files), (cgroups / "memory", *files)]
    return found


class _Usage:
    def __init__(self, used: Path, stat: Path, cached: str, limit: int) -> None:
        self._used = used
        self._stat = stat
        self._cached = f"{cached} "
        self._limit = limit

    def __call__(self) -> float:
        try:
            used = int(self._used.read_text())
            lines = self._stat.read_text().splitlines()
        except (OSError, ValueError):
            return 0.0
        cached = sum(int(line.split()[1]) for line in lines if line.startswith(self._cached))
        return max(0.0, (used - cached) / self._limit)


async def keep_within_memory(seats: Seats, usage: Usage | None) -> NoReturn:
    """Take strangers only for others when memory is tight, and end those who rest when it is nearly full."""
    while usage is not None:
        part = usage()
        seats.is_tight = part >= MEMORY_TIGHT
        if part >= MEMORY_FULL:
            for _ in range(ENDED):
                if not seats.make_room():
                    break
        await trio.sleep(LOOK)
    await trio.sleep_forever()
    raise AssertionError("unreachable")
