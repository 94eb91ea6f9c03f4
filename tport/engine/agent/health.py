"""Whether an application answers: decided by what requests met, and connections between them.

A connection proves less than an answer, so it says nothing of an application that takes
connections and has never given an answer that makes sense. Of one that has, a request that fails
may be that request's own fault: what failed is remembered, and connections decide.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime
from typing import Final

from tport.engine.defaults import HEALTH_INTERVAL
from tport.engine.types.health import MAX_WORDS, AppHealth

CONFIRM: Final = 2.0  # s from a failure to the look that confirms it, or finds it was a restart
APART: Final = 1.0  # s; what fails closer to the first failure than this is the same failure
SPREAD: Final = 0.1  # part of the interval by which applications' looks differ: they never march

Clock = Callable[[], datetime]


class Health:
    """One application as its agent sees it. `now` is seconds of a clock that is never set.

    Attributes:
        up: None: not known yet. Down after two failures in a row, up after one success.
        silent_since: since when it has given no answer, whatever connections say; None: it did.
        has_answered: it has given an answer that makes sense.
    """

    def __init__(self, clock: Clock, *, jitter: Callable[[], float] = random.random) -> None:
        """`clock`: asked for the time of day only when something changes, or fails."""
        self.up: bool | None = None
        self.silent_since: datetime | None = None
        self.has_answered = False
        self._clock = clock
        self._interval = HEALTH_INTERVAL * (1 + SPREAD * (2 * jitter() - 1))
        self._since = clock()
        self._cause = ""
        self._advice = ""
        self._failed: datetime | None = None
        self._failing: tuple[float, datetime] | None = None  # the first of the failures in a row
        self._is_unanswered = False  # a request that it took was the last to be decided
        self._next_look = -float("inf")

    @property
    def told(self) -> AppHealth | None:
        """What there is to tell; None: nothing is known yet."""
        if self.up is None:
            return None
        return AppHealth(
            up=self.up,
            since=self._since,
            cause=self._cause,
            advice=self._advice,
            failed=self._failed,
        )

    def is_due(self, now: float) -> bool:
        """Tell whether it should be looked at: nothing was learnt of it for an interval."""
        return now >= self._next_look

    def answered(self, status: int, now: float) -> None:
        """A request was answered, by plain HTTP. 400 is no proof: so some servers refuse that."""
        if status == 400 and not self.has_answered:
            return
        self.has_answered = True
        self._is_unanswered = False
        self._succeeded(now)

    def connected(self, now: float) -> None:
        """It took a connection, in TLS where it should."""
        if self._is_unanswered and not self.has_answered:
            self._next_look = now + self._interval
        else:
            self._succeeded(now)

    def unreachable(self, cause: str, hint: str, now: float) -> None:
        """It could not be connected to."""
        self._note(cause, hint)
        self._count(now)

    def unanswered(self, cause: str, hint: str, now: float) -> None:
        """It took a request and gave no answer, or nonsense, or took too long."""
        self._is_unanswered = True
        self._note(cause, hint)
        if not self.has_answered:
            self._count(now)

    def _succeeded(self, now: float) -> None:
        self._failing = None
        self._next_look = now + self._interval
        if not self._is_unanswered:
            self.silent_since = None
        if not self.up:
            self.up, self._since = True, self._clock()

    def _note(self, cause: str, hint: str) -> None:
        at = self._clock()
        self.silent_since = self.silent_since or at
        if self.up is not False or cause[:MAX_WORDS] != self._cause:
            self._cause, self._failed = cause[:MAX_WORDS], at
            self._advice = as_sentences(hint)[:MAX_WORDS]

    def _count(self, now: float) -> None:
        if self._failing is None:
            self._failing = (now, self._clock())
        first, at = self._failing
        if self.up is not False and now - first >= APART:
            self.up, self._since = False, at
        self._next_look = now + (self._interval if self.up is False else CONFIRM)


def as_sentences(hint: str) -> str:
    """Write what follows `hint:` on a command line as people read it on a page."""
    end = "" if hint[-1:] in ("?", "", ".") else "."
    return hint[:1].upper() + hint[1:] + end
