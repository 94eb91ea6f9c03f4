"""Searching a log: the newest first, or what comes after a place. For a thread: it reads files.

A search ends at its limit, at the bytes or the time that one may take, and says where to go on:
a cursor names a file and a byte in it, and stays right, since files only grow.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from tport.engine.audit.files import is_mixed, lines_backwards, list_days, name_of
from tport.engine.audit.line import format_time
from tport.engine.errors import InvalidRequest
from tport.engine.types.event_query import EventPage, EventQuery

SEARCH_LIMIT: Final = 10_000  # events a search returns; Teleport's
PAGE_BYTES: Final = 4 << 20  # of the lines in one answer: a call's answer has at most 16 MiB
PAGE_TIME: Final = 2.0  # s that one search reads
LOOK_AT_CLOCK: Final = 256  # lines between two looks at the clock
MAX_WORDS: Final = 16  # of a free text

_CURSOR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}):([0-9]{1,15})")


def check_query(query: EventQuery, cursor: str, limit: int) -> None:
    """Raise InvalidRequest when a question can't be meant."""
    if not 1 <= limit <= SEARCH_LIMIT:
        raise InvalidRequest(f"a search returns 1 to {SEARCH_LIMIT} events, not {limit}")
    for moment in (query.since, query.until):
        if moment is not None and moment.tzinfo is None:
            raise InvalidRequest("a search needs times with a time zone")
        try:
            _ = moment and moment.astimezone(UTC)
        except OverflowError:
            raise InvalidRequest("a search needs times of the years 1 to 9999, in UTC") from None
    if len(query.text.split()) > MAX_WORDS:
        raise InvalidRequest(f"a search looks for at most {MAX_WORDS} words")
    if cursor and not _CURSOR.fullmatch(cursor):
        raise InvalidRequest("this is no cursor of a search")


def search_back(directory: Path, query: EventQuery, cursor: str, limit: int) -> EventPage:
    """Return events, the last written first; `cursor`: of the page before, or ""."""
    start_day, start = _place(cursor)
    oldest, newest = _days(query)
    budget = _Budget(limit)
    keep = Filter(query)
    for name in reversed(list_days(directory)):
        if name < oldest or (start_day and name > start_day):
            continue
        if name > newest and not is_mixed(directory, name):
            continue
        try:
            file = (directory / name).open("rb")
        except FileNotFoundError:
            continue  # retention was quicker
        with file:
            end = start if name == start_day else None
            for offset, line in lines_backwards(file, end):
                event = keep(line)
                if event is not None:
                    budget.take(event, line)
                if budget.is_spent():
                    return budget.page(_cursor(name, offset))
    return budget.page("")


def search_on(directory: Path, query: EventQuery, cursor: str, limit: int) -> EventPage:
    """Return what was written behind `cursor`, the oldest first; the answer's cursor is never ""."""
    day, start = _place(cursor)
    budget = _Budget(limit)
    keep = Filter(query)
    for name in list_days(directory):
        if name < day:
            continue
        if name > day:
            day, start = name, 0
        for line in _lines_after(directory / name, start):
            start += len(line)
            event = keep(line)
            if event is not None:
                budget.take(event, line)
            if budget.is_spent():
                return budget.page(_cursor(day, start))
    return budget.page(_cursor(day, start))


def end_of(directory: Path) -> str:
    """Return the cursor behind which all lies that is written from now on."""
    days = list_days(directory)
    if not days:
        return "0001-01-01:0"
    return _cursor(days[-1], (directory / days[-1]).stat().st_size)


class Filter:
    """Which events a query wants."""

    def __init__(self, query: EventQuery) -> None:
        self._query = query
        self._types = frozenset(query.types)
        self._words = query.text.casefold().split()
        self._since = format_time(query.since) if query.since else ""
        self._until = format_time(query.until) if query.until else "~"  # behind every time

    def __call__(self, line: bytes) -> dict[str, Any] | None:
        """Return the event in a line; None: there is none, as after a crash, or it isn't wanted."""
        if not line.strip():
            return None
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not isinstance(event, dict) or not isinstance(event.get("time"), str):
            return None
        if not self._since <= event["time"] < self._until:
            return None
        if self._types and event.get("event") not in self._types:
            return None
        query = self._query
        if query.user and event.get("user") != query.user:
            return None
        if query.app and event.get("app_name") != query.app:
            return None
        if self._words:
            text = "\n".join(_texts(event)).casefold()
            if not all(word in text for word in self._words):
                return None
        return event


class _Budget:
    """What one page may cost, and what it has."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes = 0
        self._lines = 0
        self._until = time.monotonic() + PAGE_TIME
        self._events: list[dict[str, Any]] = []

    def take(self, event: dict[str, Any], line: bytes) -> None:
        self._events.append(event)
        self._bytes += len(line)

    def is_spent(self) -> bool:
        """Tell, after each line, whether the page ends here."""
        if len(self._events) >= self._limit or self._bytes >= PAGE_BYTES:
            return True
        self._lines += 1
        return self._lines % LOOK_AT_CLOCK == 0 and time.monotonic() > self._until

    def page(self, cursor: str) -> EventPage:
        return EventPage(events=tuple(self._events), cursor=cursor)


def _texts(value: Any) -> Iterator[str]:
    """Yield all values in an event, as people read them; the chain's are nobody's words."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key != "prev":
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    else:
        yield str(value)


def _days(query: EventQuery) -> tuple[str, str]:
    """Return the names of the first and the last file that may hold an event of the time asked for."""
    oldest = name_of(query.since.astimezone(UTC).date()) if query.since else ""
    if query.until is None or query.until.year >= datetime.max.year:
        return oldest, "~"
    # An event that took its time to reach us lies in the file of the next day.
    return oldest, name_of(query.until.astimezone(UTC).date() + timedelta(days=1))


def _place(cursor: str) -> tuple[str, int]:
    found = _CURSOR.fullmatch(cursor)
    return (f"{found[1]}.jsonl", int(found[2])) if found else ("", 0)


def _cursor(name: str, offset: int) -> str:
    return f"{name.removesuffix('.jsonl')}:{offset}"


def _lines_after(path: Path, start: int) -> Iterator[bytes]:
    """Yield the whole lines of a file from a byte on, with their newlines."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(start)
        for line in file:
            if line.endswith(b"\n"):
                yield line
