"""What the proxy counts on the request path, where a request's end is appended and nothing else.

The appended ends become counts in batches: when there are FOLD of them, and when somebody asks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
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
        self._apps: dict[str, _App] = {}
        self._unanswered: Counter[str] = Counter()

    def ended(self, app: str, status: int, began: float, ended: float) -> None:
        """Count a request that has ended; times are trio's."""
        noted = self._ended
        noted.append((app, status, began, ended))
        if len(noted) >= FOLD:
            self._fold()

    def unanswered(self, why: str) -> None:
        """Count a request that the application did not answer; `why` is a NoAnswerKind."""
        self._unanswered[why] += 1

    def samples(self) -> Iterator[Sample]:
        self._fold()
        for name, app in self._apps.items():
            yield from app.samples(name)
        for why, count in self._unanswered.items():
            yield one("tport_unanswered_total", count, why)
        for what, count in self.shed.items():
            yield one("tport_shed_total", count, what)

    def _fold(self) -> None:
        apps = self._apps
        for name, status, began, ended in self._ended:
            app = apps.get(name) or self._begun(name)
            app.statuses[status] += 1
            if status != UPGRADED:
                app.durations.observe(ended - began)
        self._ended.clear()

    def _begun(self, name: str) -> _App:
        """Return where an application is counted that has no place yet."""
        return self._apps.setdefault(name if len(self._apps) < MAX_APPS else OTHERS, _App())


class _App:
    """What is counted of one application: its answers by status, and how long they took."""

    __slots__ = ("durations", "statuses")

    def __init__(self) -> None:
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.durations = Histogram(REQUEST_BOUNDS)

    def samples(self, name: str) -> Iterator[Sample]:
        classes: Counter[str] = Counter()
        for status, count in self.statuses.items():
            classes[f"{status // 100}xx" if status else NONE] += count
        for class_, count in classes.items():
            yield one("tport_requests_total", count, name, class_)
        yield Sample("tport_request_seconds", self.durations.values, (name,))
