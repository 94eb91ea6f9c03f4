"""The files of the audit log: one for each UTC day, a JSON object a line, only ever appended to.

A line is with the operating system when `append` returns: it survives the process, and a power
cut may cost the last seconds. Nothing is ever deleted here: how long to keep it is the
operator's to say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import trio

from tport.engine.audit.line import format_time
from tport.engine.errors import InvalidRequest, Unavailable

SEARCH_LIMIT: Final = 10_000  # events a search returns; Teleport's
SEARCHES: Final = 2  # threads that search at once; further searches wait
BLOCK: Final = 64 * 1024  # bytes read at a time, from the end backwards


class AuditLog:
    """A directory of files named YYYY-MM-DD.jsonl, readable by their owner alone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._appends = trio.CapacityLimiter(1)
        self._searches = trio.CapacityLimiter(SEARCHES)

    async def create(self) -> None:
        """Make the directory if it isn't there; Unavailable if that can't be."""
        try:
            await trio.to_thread.run_sync(
                lambda: self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            )
        except OSError as error:
            raise Unavailable(
                f"can't write an audit log in {self.directory}: {error.strerror}"
            ) from error

    async def append(self, day: date, lines: Sequence[bytes]) -> None:
        """Append to the day's file: all lines, or none and OSError."""
        await trio.to_thread.run_sync(
            _append,
            self._path(day),
            b"".join(lines),
            limiter=self._appends,
            abandon_on_cancel=True,  # it is cancelled only when a disk hangs as we close
        )

    async def search(
        self,
        *,
        since: datetime,
        until: datetime,
        types: Sequence[str] | None = None,
        user: str | None = None,
        limit: int = 500,
    ) -> list[dict[str, Any]]:
        """Return the events of a time, the last written first. Lines that are no events are passed over.

        Args:
            since: aware; the first moment that counts.
            until: aware; the first that counts no more.
            types: values of `event` to keep; None or none given: all.
            user: value of `user` to keep; None: all.
            limit: how many to return, 1 to 10000; Teleport's default.

        Raises:
            InvalidRequest: a limit or time that means nothing.
            Unavailable: a file can't be read.
        """
        if not 1 <= limit <= SEARCH_LIMIT:
            raise InvalidRequest(f"a search returns 1 to {SEARCH_LIMIT} events, not {limit}")
        if since.tzinfo is None or until.tzinfo is None:
            raise InvalidRequest("a search needs times with a time zone")

        def search() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = []
            kept = frozenset(types or ())
            for event in self._events(since, until):
                if kept and event.get("event") not in kept:
                    continue
                if user is not None and event.get("user") != user:
                    continue
                found.append(event)
                if len(found) == limit:
                    break
            return found

        try:
            return await trio.to_thread.run_sync(
                search, limiter=self._searches, abandon_on_cancel=True
            )
        except OSError as error:
            raise Unavailable(f"the audit log can't be read: {error.strerror}") from error

    def _path(self, day: date) -> Path:
        return self.directory / f"{day.isoformat()}.jsonl"

    def _events(self, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
        first, end = format_time(since), format_time(until)
        # An event that took its time to reach us lies in the file of the next day.
        names = (
            self._path(since.astimezone(UTC).date()).name,
            self._path(until.astimezone(UTC).date() + timedelta(days=1)).name,
        )
        files = sorted(self.directory.glob("????-??-??.jsonl"), reverse=True)
        for path in files:
            if not names[0] <= path.name <= names[1]:
                continue
            with path.open("rb") as file:
                for line in _lines_backwards(file):
                    try:
                        event = msgspec.json.decode(line)
                    except msgspec.DecodeError:
                        continue  # torn by a crash
                    if isinstance(event, dict) and first <= str(event.get("time")) < end:
                        yield event


def _append(path: Path, data: bytes) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, 0o600)
    try:
        status = os.fstat(fd)
        if status.st_mode & 0o077:
            os.fchmod(fd, 0o600)
        if status.st_size and os.pread(fd, 1, status.st_size - 1) != b"\n":
            data = b"\n" + data  # a crash tore the last line: it shall not spoil this one
        try:
            while data:
                data = data[os.write(fd, data) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(fd, status.st_size)
            raise
    finally:
        os.close(fd)


def _lines_backwards(file: BinaryIO) -> Iterator[bytes]:
    position, rest = file.seek(0, os.SEEK_END), b""
    while position > 0:
        start = max(0, position - BLOCK)
        file.seek(start)
        rest, *lines = (file.read(position - start) + rest).split(b"\n")
        yield from reversed(lines)
        position = start
    yield rest
