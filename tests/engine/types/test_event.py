"""Audit events are written as readers of logs expect it."""

from collections import Counter
from datetime import datetime, timedelta, timezone

from tport.engine.types.event import CODES, event


def test_moments_are_rfc_3339_in_utc_to_the_second() -> None:
    moment = datetime(2026, 1, 31, 12, 0, 1, 5, tzinfo=timezone(timedelta(hours=1)))

    made = event("user.unlocked", name="alice", until=moment)

    assert made.fields == {"name": "alice", "until": "2026-01-31T11:00:01Z"}


def test_each_event_has_a_code_of_its_own() -> None:
    """Alarms and searches go by codes: one that two events have tells neither."""
    assert [code for code, count in Counter(CODES.values()).items() if count > 1] == []
