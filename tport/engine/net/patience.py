"""How long something may take that has no task which could wait: one sleeper for all of them.

A cancel scope around each wait costs 5 µs and a task besides. Here those who may take equally long stand
in one line, the oldest first, and one task sleeps until the first of all lines is late. To begin anew is
to go to the end of the line.
"""

from __future__ import annotations

import logging
import math
from itertools import takewhile
from typing import Final, NoReturn, Protocol

import trio

from tport.engine.net.waiter import Waiter

logger = logging.getLogger(__name__)


class Timed(Protocol):
    """What may take so long and no longer."""

    def late(self) -> None:
        """Be told that its time is over. It must not block; what it raises is logged."""


class Patience:
    """Those that may take equally long; made by `patience`."""

    def __init__(self, seconds: float, keeper: _Keeper) -> None:
        self._seconds = seconds
        self._keeper = keeper
        self._until: dict[Timed, float] = {}  # trio's time; in the order of their deadlines

    def __len__(self) -> int:
        return len(self._until)

    def begin(self, this: Timed, now: float | None = None) -> None:
        """Give it its time, from now on; again, if it has some already.

        `now`: trio's time, where it is known.
        """
        self._until.pop(this, None)
        self._until[this] = until = self._seconds + (trio.current_time() if now is None else now)
        self._keeper.wake_by(until)

    def end(self, this: Timed) -> None:
        """Have it told nothing any more."""
        self._until.pop(this, None)

    def first(self) -> float:
        """Return when the oldest will be late; infinite: there is none."""
        return next(iter(self._until.values()), math.inf)

    def tell(self) -> None:
        """Tell all that are late by now."""
        now = trio.current_time()
        # Looked at in one go: a dict steps over all that were taken from its front, each time anew.
        late = list(takewhile(lambda item: item[1] <= now, self._until.items()))
        for this, until in late:
            if self._until.get(this) != until:
                continue  # the end of another was its own, or a new beginning
            del self._until[this]
            try:
                this.late()
            except Exception:
                logger.exception("what was late could not be ended")


class _Keeper:
    """The lines of one trio run, and the task that sleeps for them."""

    def __init__(self) -> None:
        self.lines: dict[float, Patience] = {}
        self._waiter = Waiter()
        self._sleeps_until = -math.inf  # it is awake

    def wake_by(self, until: float) -> None:
        if until < self._sleeps_until:
            self._sleeps_until = -math.inf
            self._waiter.wake()

    async def keep(self) -> NoReturn:
        while True:
            self._sleeps_until = min(
                (line.first() for line in self.lines.values()), default=math.inf
            )
            with trio.CancelScope(deadline=self._sleeps_until):
                await self._waiter.wait()
            self._sleeps_until = -math.inf
            for line in tuple(self.lines.values()):
                line.tell()


_keeper: Final[trio.lowlevel.RunVar[_Keeper]] = trio.lowlevel.RunVar("patience")


def patience(seconds: float) -> Patience:
    """Return the line of this trio run for what may take so long; to be called with few numbers."""
    try:
        keeper = _keeper.get()
    except LookupError:
        keeper = _Keeper()
        _keeper.set(keeper)
        trio.lowlevel.spawn_system_task(keeper.keep)
    if seconds not in keeper.lines:
        keeper.lines[seconds] = Patience(seconds, keeper)
    return keeper.lines[seconds]
