"""The time by which auth judges what has expired: the wall clock, but never earlier than it was before.

A clock that is set back would let ended sessions, codes and tokens live again, and others live longer
than they may. So time stands still instead: for good, when the step is small, as a correction by NTP is,
since the wall catches up; until what could live again is ended, when it is larger (`set_back.py`).
Timers don't ask it: they are trio's, which nobody sets.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta


class SteadyClock:
    """Attributes:
    highest: the latest time that the wall showed since this was made; never lowered.
    """

    def __init__(self, wall: Callable[[], datetime]) -> None:
        self._wall = wall
        self._latest = self.highest = wall()

    def __call__(self) -> datetime:
        now = self._wall()
        if now > self._latest:
            self._latest = now
            self.highest = max(self.highest, now)
        return self._latest

    @property
    def behind(self) -> timedelta:
        """How far the wall is behind the time that this shows: zero, unless it was set back."""
        return self() - self._wall()

    @property
    def set_back(self) -> timedelta:
        """How far the wall is behind what it showed once; not over when this follows it again."""
        self()
        return self.highest - self._wall()

    def wall(self) -> datetime:
        """Return what the wall shows, whatever it showed before."""
        return self._wall()

    def know(self, moment: datetime) -> None:
        """Be no earlier than `moment`, which was seen before this was made."""
        self._latest = max(self(), moment)
        self.highest = max(self.highest, moment)

    def follow(self) -> None:
        """Show what the wall shows from now on, though it is earlier."""
        self._latest = self._wall()
