"""Names that auth lets not be ordered now: why, until when, and of which the log tells. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from tport.engine.access.limits import AddressLimiter
from tport.engine.errors import LimitExceeded

MAX_WAITS: Final = 1000  # names of which it is known why they wait; agents can say ever new ones
TOLD: Final = 60  # of which the log tells at once, and
TOLD_PER_MINUTE: Final = 6  # then


@dataclass(frozen=True, slots=True)
class Wait:
    """Why auth lets a name not be ordered, and until when; and whether the log tells of it already."""

    problem: str
    until: datetime
    told: bool


class Waits:
    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._waits: dict[str, Wait] = {}
        self._told = AddressLimiter(clock, per_minute=TOLD_PER_MINUTE, burst=TOLD)

    def of(self, name: str) -> Wait | None:
        """Return why a name waits, if it does; None too once it may be ordered, until somebody opens it."""
        wait = self._waits.get(name)
        return wait if wait is not None and self._clock() < wait.until else None

    def remember(self, name: str, why: LimitExceeded) -> Wait | None:
        """Keep why a name waits.

        Returns:
            What to tell of it; None where that was told already, though each visit asks again, or where
            too many names wait to tell of each now: it is told at a later visit.
        """
        known = self.of(name)
        self._waits.pop(name, None)
        if len(self._waits) >= MAX_WAITS:
            del self._waits[next(iter(self._waits))]
        problem = str(why).removeprefix(f"{name}: ")
        until = self._clock() + timedelta(seconds=why.retry_after)
        is_news = known is None or known.problem != problem or not known.told
        tells = is_news and self._may_tell()
        wait = self._waits[name] = Wait(problem, until, told=tells or not is_news)
        return wait if tells else None

    def _may_tell(self) -> bool:
        try:
            self._told.check("")
        except LimitExceeded:
            return False
        self._told.take("")
        return True

    def forget(self, name: str) -> None:
        """Know nothing of a name: it is being ordered."""
        self._waits.pop(name, None)

    def clear(self) -> None:
        """Tell anew of what waits on: the operator has it tried."""
        self._waits.clear()
