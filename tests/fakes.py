"""Stand-ins that tests share: small real things, not mocks."""

from __future__ import annotations

from datetime import UTC, datetime

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


class WallClock:
    """A wall clock that moves when a test moves it: `clock.now += timedelta(minutes=5)`."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now
