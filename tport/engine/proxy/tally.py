"""What the proxy counts on the request path, where a request's end is appended and nothing else.

The appended ends become counts in batches: when there are FOLD of them, and when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from tport.engine.metrics.catalogue import REQUEST_BOUNDS
from tport.engine.metrics.sample import Histogram, Sample, one

FOLD: Final = 256  # ends in a batch: 0.1 ms
MAX_APPS: Final = 2000  # told apart: as many as agents may offer, and as many that are gone
OTHERS: Final = "(others)"  # no application's name
NONE: Final = "none"  # the class of what its client gave up before it was answered
UPGRADED: Final = 101


class Tally:
    """Takes ends of requests; `samples` tells what they come to.

    Attributes:
        shed: what was turned away or dropped for want of room, by what it was.
    """

    def __init__(self) -> None:
        self.shed: Counter[str] = Counter()
        self._ended: list[tuple[str, int, float, float]] = []
        self._requests: Counter[tuple[str, str]] = Counter()
        self._durations: dict[str, Histogram] = {}
        self._unanswered: Counter[str] = Counter()

    def ended(self, app: str, status: int, began: float, ended: float) -> None:
        """Count a request that has ended; times are trio's."""
        noted = self._ended
        noted.append((app, status, began, ended))
        if len(noted) >= FOLD:
            self._fold()

    def is_full(self, open_: int, most: int) -> bool:
        """Tell whether one more connection is too many; then it counts as shed."""
        if open_ < most:
            return False
        self.shed["connections"] += 1
        return True

    def unanswered(self, why: str) -> None:
        """Count a request that the application did not answer; `why` is a NoAnswerKind."""
        self._unanswered[why] += 1

    def samples(self) -> Iterator[Sample]:
        self._fold()
        for (app, class_), count in self._requests.items():
            yield one("tport_requests_total", count, app, class_)
        for app, durations in self._durations.items():
            yield Sample("tport_request_seconds", durations.values, (app,))
        for why, count in self._unanswered.items():
            yield one("tport_unanswered_total", count, why)
        for what, count in self.shed.items():
            yield one("tport_shed_total", count, what)

    def _fold(self) -> None:
        for named, status, began, ended in self._ended:
            durations = self._durations.get(named)
            app = named
            if durations is None:
                app = named if len(self._durations) < MAX_APPS else OTHERS
                durations = self._durations.setdefault(app, Histogram(REQUEST_BOUNDS))
            self._requests[app, f"{status // 100}xx" if status else NONE] += 1
            if status != UPGRADED:
                durations.observe(ended - began)
        self._ended.clear()
