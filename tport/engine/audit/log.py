"""The files of a log: one for each UTC day, a JSON object a line, only ever appended to.

A line is with the operating system when `append` returns: it survives the process, and a power
cut may cost the last seconds. Each line holds the hash of the one before it: see `chain`. What is
deleted, whole files alone, is what `remove` was told to: how long to keep them is the operator's
to say.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import trio

from tport.engine.audit import check, search
from tport.engine.audit.chain import MAX_LOOSE, START, link_line, read_link, read_mark, write_mark
from tport.engine.audit.files import (
    MARK,
    day_of,
    lines_backwards,
    list_days,
    mark_mixed,
    name_of,
    remove_day,
)
from tport.engine.audit.trusted_day import HOLD, TrustedDay, read_trusted, write_trusted
from tport.engine.errors import InvalidRequest, Unavailable
from tport.engine.types.chain import ChainReport, ChainState, Link
from tport.engine.types.event_query import EventPage, EventQuery

logger = logging.getLogger(__name__)

T = TypeVar("T")

SEARCHES: Final = 2  # threads that search at once; further searches wait
LOOK_BACK: Final = 10_000  # lines in which the last that holds a link is looked for
FOLLOW_WAIT: Final = 5.0  # s that one call waits for news; callers give up after 10
GATHER: Final = 0.25  # s in which more news may come along


class AuditLog:
    """A directory of files named YYYY-MM-DD.jsonl, readable by their owner alone.

    Attributes:
        damage: what was wrong with the end of the chain when it was opened; "": nothing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.damage = ""
        self._last = START
        self._newest = ""  # file
        self._grown = trio.Event()
        self._judging = trio.Lock()  # what day it is
        self._appends = trio.CapacityLimiter(1)
        self._searches = trio.CapacityLimiter(SEARCHES)

    async def create(self) -> None:
        """Make the directory if it isn't there, and find the end of the chain.

        Raises:
            Unavailable: it can't be made or read.
        """
        try:
            await trio.to_thread.run_sync(self._open)
        except OSError as error:
            raise Unavailable(
                f"can't write an audit log in {self.directory}: {error.strerror}"
            ) from error

    async def append(self, day: date, lines: Sequence[bytes]) -> None:
        """Append to the day's file: all lines, or none and OSError."""
        await trio.to_thread.run_sync(
            self._append,
            day,
            lines,
            limiter=self._appends,
            abandon_on_cancel=True,  # it is cancelled only when a disk hangs as we close
        )
        self._grown.set()
        self._grown = trio.Event()

    async def search(self, query: EventQuery, *, cursor: str = "", limit: int = 500) -> EventPage:
        """Return events, the last written first. Lines that are no events are passed over.

        Args:
            cursor: of the page before; "": the newest.
            limit: how many to return, 1 to 10000; fewer come when the search takes long.

        Raises:
            InvalidRequest: a limit, time or cursor that means nothing.
            Unavailable: a file can't be read.
        """
        search.check_query(query, cursor, limit)
        return await self._read(partial(search.search_back, self.directory, query, cursor, limit))

    async def follow(self, query: EventQuery, *, cursor: str, limit: int = 500) -> EventPage:
        """Return what was written behind `cursor`, the oldest first; wait up to 5 s for it.

        `cursor` "": from now on; the page is empty, and its cursor is where to follow from. Raises
        as `search` does.
        """
        search.check_query(query, cursor, limit)
        if not cursor:
            return EventPage(
                events=(), cursor=await self._read(partial(search.end_of, self.directory))
            )
        until = trio.current_time() + FOLLOW_WAIT
        while True:
            grown, began = self._grown, trio.current_time()
            page = await self._read(partial(search.search_on, self.directory, query, cursor, limit))
            now = trio.current_time()
            # A search that took its whole time has more to read: there is nothing to wait for.
            if page.events or now >= until or now - began >= search.PAGE_TIME:
                return page
            cursor = page.cursor
            with trio.move_on_at(until):
                await grown.wait()
                await trio.sleep(GATHER)

    async def check(self, state: ChainState) -> ChainReport:
        """Check a part of the chain, from `state` on.

        Raises:
            InvalidRequest: a state that no check was ever in.
            Unavailable: a file can't be read.
        """
        if state.offset < 0 or len(state.loose) > MAX_LOOSE:
            raise InvalidRequest("this is no state of a check")
        findings, is_all = await self._read(partial(check.check_files, self.directory, state))
        if not is_all:
            return ChainReport(findings=tuple(findings), state=state, is_done=False)
        # Nobody writes now: what comes next is the end. Whose turn it is to read comes first: who
        # has to write waits for that alone, and not for others' searches.
        async with self._searches, self._appends:
            ask = partial(check.finish, self.directory, state, self._last)
            report = await self._in_thread(ask, trio.CapacityLimiter(1))
        return ChainReport(
            findings=(*findings, *report.findings), state=state, is_done=report.is_done
        )

    async def trusted_day(self, wall: date, elapsed: float) -> date:
        """Return by which day files may be too old, when the wall shows `wall`: see `trusted_day`.

        Args:
            elapsed: s since this was asked the last time.
        """

        def look() -> TrustedDay:
            known = read_trusted(self.directory)
            if known is None:  # it was never asked: what was written last is all that is known
                names = list_days(self.directory)
                known = TrustedDay(day_of(names[-1]) if names else wall)
            trusted = known.seen(wall, elapsed)
            write_trusted(self.directory, trusted)
            if trusted.day != wall and not known.held:
                logger.warning(
                    "%s: the clock shows %s, and was last seen on %s; what is too old by it is kept"
                    " until it has shown so for %d days",
                    self.directory,
                    wall,
                    trusted.day,
                    HOLD.days,
                )
            return trusted

        async with self._judging:
            return (await self._read(look)).day

    async def expired(self, before: date) -> tuple[list[str], int]:
        """Return the files of earlier days, and the number of the last line in them (0: unchained).

        The newest file is never among them: it holds the end of the chain.
        """

        def look() -> tuple[list[str], int]:
            names = [name for name in list_days(self.directory)[:-1] if name < name_of(before)]
            return names, max((self._last_link(name).number for name in names), default=0)

        return await self._read(look)

    async def remove(self, names: Sequence[str]) -> None:
        """Delete these files of `expired`; one that is gone already is fine."""

        def remove() -> None:
            for name in names:
                remove_day(self.directory, name)

        try:
            await trio.to_thread.run_sync(remove, limiter=self._searches)
        except OSError as error:
            raise Unavailable(f"an old log can't be removed: {error.strerror}") from error

    async def _read(self, ask: Callable[[], T]) -> T:
        return await self._in_thread(ask, self._searches)

    async def _in_thread(self, ask: Callable[[], T], limiter: trio.CapacityLimiter) -> T:
        try:
            return await trio.to_thread.run_sync(ask, limiter=limiter, abandon_on_cancel=True)
        except OSError as error:
            raise Unavailable(f"the audit log can't be read: {error.strerror}") from error

    # --- In a thread ---------------------------------------------------------------------------

    def _open(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        last, names = START, list_days(self.directory)
        self._newest = names[-1] if names else ""
        for name in reversed(names[-2:]):  # one may hold a torn line alone
            if (last := self._last_link(name)) != START:
                break
        path = self.directory / MARK
        mark = read_mark(path.read_bytes()) if path.exists() else None
        self._last = last
        if mark is None or mark.number < last.number:
            return  # none yet; or a crash came between a line and its mark
        self._last = mark  # what follows then shows for ever that something is missing
        if mark != last:
            self.damage = (
                f"{self.directory}: the last line is number {last.number} of the chain and not as"
                f" written; number {mark.number} was the last"
            )

    def _last_link(self, name: str) -> Link:
        with (self.directory / name).open("rb") as file:
            for count, (_, line) in enumerate(lines_backwards(file)):
                if (found := read_link(line)) is not None:
                    return found[0]
                if count == LOOK_BACK:
                    break
        return START

    def _append(self, day: date, lines: Sequence[bytes]) -> None:
        linked, last = [], self._last
        for line in lines:
            whole, last = link_line(line, last)
            linked.append(whole)
        _append(self.directory / self._file_for(day), b"".join(linked))
        self._last = last
        with suppress(OSError):  # it is behind then, as after a crash
            _write_mark(self.directory / MARK, write_mark(last))

    def _file_for(self, day: date) -> str:
        """Return the file that a day's lines go to: never one before the newest.

        Files are read in the order of their names, and so is the chain. After the clock was ahead
        there is one of a day that is yet to come: it takes all until then, and says that it does.
        """
        name = name_of(day)
        if name >= self._newest:
            self._newest = name
        elif name_of(day + timedelta(days=1)) < self._newest:
            mark_mixed(self.directory, self._newest)
        return self._newest


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


def _write_mark(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(fd, data, 0)
    finally:
        os.close(fd)
