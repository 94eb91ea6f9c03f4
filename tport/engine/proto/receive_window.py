"""How many bytes a peer may send on one stream, and when that number grows.

Credit is given back once half a window has been read. A window doubles when half of it was
read within about one round trip and the reader never lagged: then the window, and not the
reader or the line, is what holds the stream back. A stream that its window holds back gets
half of it per round trip at least, however its bytes bunch.

On a short line it is the two processes that hold each other back: one sleeps until the other has
given credit, several times in a millisecond. There a window grows while nobody else asks for
anything, and shrinks as soon as somebody does, who would wait behind all that is under way.
"""

from __future__ import annotations

import math
from typing import Final

from tport.engine.defaults import INITIAL_WINDOW, MAX_WINDOW, WINDOW_BUDGET

SLACK: Final = 1.5  # round trips that count as about one: `rtt` is the shortest seen, not the usual
NEAR: Final = 0.001  # s; a shorter line would do with the initial window, which carries 262 MB/s
NEAR_GROWTH: Final = 3 * INITIAL_WINDOW  # bytes of all windows of a process: for one stream, 1 MiB
QUIET: Final = 0.25  # s without a new stream after which nobody else seems to ask


class WindowBudget:
    """What all the windows of a process may grow by, together.

    Attributes:
        left, near_left: bytes, on long lines and on short ones.
        opened: the monotonic time when a stream was opened last.
    """

    def __init__(self, limit: int = WINDOW_BUDGET) -> None:
        self.left = limit
        self.near_left = NEAR_GROWTH
        self.opened = -math.inf

    def take(self, size: int) -> bool:
        """Take `size` bytes if that many are left, and say whether they were."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give_back(self, size: int) -> None:
        self.left += size


class ReceiveWindow:
    """One stream's.  size = credit the peer holds + bytes unread + bytes read but not yet granted."""

    __slots__ = ("_budget", "_grown", "_lagged", "_near", "_read", "_since", "_unread", "credit",
                 "size")  # fmt: skip

    def __init__(self, budget: WindowBudget, *, now: float) -> None:
        self.size = INITIAL_WINDOW
        self.credit = INITIAL_WINDOW  # bytes the peer may still begin to send
        self._budget = budget
        budget.opened = now
        self._grown = 0
        self._near = 0  # of it on a short line
        self._unread = 0
        self._read = 0
        self._lagged = False
        self._since = now

    def arrived(self, size: int) -> None:
        """Note that `size` bytes came and wait for the reader."""
        self._unread += size
        if self._unread >= self.size >> 1:
            self._lagged = True

    def consume(self, size: int) -> bool:
        """Note that the reader took `size` bytes; tell whether credit is to be granted now."""
        self._unread -= size
        self._read += size
        return self._read >= self.size >> 1

    def grant(self, *, now: float, rtt: float | None) -> int:
        """Return the credit to grant.

        Args:
            now: a monotonic time in seconds.
            rtt: the round trip in seconds; None, if not yet known, lets nothing grow.
        """
        grant = self._read
        if rtt is not None:
            grant += self._far(now, rtt) if rtt > NEAR else self._close_by(now)
        self.credit += grant
        self._read = 0
        self._since = now
        self._lagged = self._unread >= self.size >> 1
        return grant

    def _far(self, now: float, rtt: float) -> int:
        """Return what the window grew by, on a line of that length."""
        if self._lagged or now - self._since > rtt * SLACK:
            return 0
        growth = min(self.size, MAX_WINDOW - self.size)
        if not growth or not self._budget.take(growth):
            return 0
        self._grown += growth
        self.size += growth
        return growth

    def _close_by(self, now: float) -> int:
        """Return what the window grew by on a short line; below 0, it shrank by what was read."""
        growth = 0
        if now - self._budget.opened < QUIET:
            growth = -min(self._near, self._read)
        elif not self._lagged and now - self._since <= NEAR * SLACK:
            growth = self.size if self.size <= self._budget.near_left else 0
        self._near += growth
        self._budget.near_left -= growth
        self.size += growth
        return growth

    def release(self) -> None:
        """Give the growth back: nothing is held for this stream any more. Twice is once."""
        if self._grown or self._near:
            self._budget.give_back(self._grown)
            self._budget.near_left += self._near
            self._grown = self._near = 0
