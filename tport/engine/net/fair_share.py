"""Several processes accept from one listener: who has the fewest connections goes first.

Left alone, the kernel wakes them all, and the first to wake is always the same. Here each writes
how many connections it has into memory that all of them see. Who has more than another waits a
moment, so that the other may take a new connection; when it doesn't, it is busy, and is not waited
for.
"""

from __future__ import annotations

import mmap
import os
from struct import Struct
from typing import Final

PAUSE: Final = 0.002  # s; an idle process has accepted within 0.2 ms
_COUNT: Final = Struct("=I")  # aligned, and written by one process alone: never seen half
_AWAY: Final = 2**32 - 1


class FairShare:
    """One process's view of what each has.

    Attributes:
        count: the connections that this process has.
    """

    def __init__(self, descriptor: int, index: int, processes: int) -> None:
        """`descriptor`: of `make_memory`; may be closed after. `index`: which process this is, from 0."""
        self._memory = mmap.mmap(descriptor, processes * _COUNT.size)
        self._index = index
        self._places = range(0, processes * _COUNT.size, _COUNT.size)
        self._takes = False
        self.count = 0

    def begin(self) -> None:
        """Tell the others that this process takes connections."""
        self._takes = True
        self.add(0)

    def end(self) -> None:
        """Tell them that it takes none any more."""
        self._takes = False
        mark_away(self._memory, self._index)

    def add(self, more: int) -> None:
        """Note that so many connections have come; by a negative number, gone."""
        self.count += more
        if self._takes:
            _COUNT.pack_into(self._memory, self._index * _COUNT.size, self.count)

    def is_anothers_turn(self) -> bool:
        """Tell whether a process that takes connections has fewer than this one."""
        memory = self._memory
        return any(_COUNT.unpack_from(memory, place)[0] < self.count for place in self._places)


def make_memory(processes: int) -> int:
    """Return a descriptor of memory for so many processes, of which none takes connections. Linux."""
    descriptor = os.memfd_create("tport-share")
    os.write(descriptor, _COUNT.pack(_AWAY) * processes)
    return descriptor


def mark_away(memory: mmap.mmap, index: int) -> None:
    """Note of a process that it takes no connections: for one that can't say so itself."""
    _COUNT.pack_into(memory, index * _COUNT.size, _AWAY)
