"""How many bytes a peer may send on one stream, and when that number grows.

Credit is given back once half a window has been read. A window doubles when half of it was
read within about one round trip and the reader never lagged: then the window, and not the
reader or the line, is what holds the stream back. A stream that its window holds back gets
half of it per round trip at least, however its bytes bunch.
"""

from __future__ import annotations

from typing import Final

from tport.engine.defaults import INITIAL_WINDOW, MAX_WINDOW, WINDOW_BUDGET

SLACK: Final = 1.5  # round trips that count as about one: `rtt` is the shortest seen, not the usual
NEAR: Final = 0.001  # s; on a shorter line the initial window carries 262 MB/s and does


class WindowBudget:
    """What all the windows of a process may grow by, together."""

    def __init__(self, limit: int = WINDOW_BUDGET) -> None:
        self.left = limit

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

    __slots__ = ("_budget", "_grown", "_lagged", "_read", "_since", "_unread", "credit", "size")

    def __init__(self, budget: WindowBudget, *, now: float) -> None:
        self.size = INITIAL_WINDOW
        self.credit = INITIAL_WINDOW  # bytes the peer may still begin to send
        self._budget = budget
        self._grown = 0
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
        needs_more = rtt is not None and rtt > NEAR and now - self._since <= rtt * SLACK
        if needs_more and not self._lagged:
            growth = min(self.size, MAX_WINDOW - self.size)
            if growth and self._budget.take(growth):
                self._grown += growth
                self.size += growth
                grant += growth
        self.credit += grant
        self._read = 0
        self._since = now
        self._lagged = self._unread >= self.size >> 1
        return grant

    def release(self) -> None:
        """Give the growth back: nothing is held for this stream any more. Twice is once."""
        if self._grown:
            self._budget.give_back(self._grown)
            self._grown = 0
