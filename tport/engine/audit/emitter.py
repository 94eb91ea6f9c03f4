"""Takes audit events from everyone and has one task write them.

Nothing is lost in silence. While the disk refuses, events wait here, and the writing is tried
again each second; once the queue is full, an event waits a little and is then counted, and the
count is the first thing written when the disk is back. Who must not go on without its event
being written uses `record`.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Final, NoReturn
from uuid import uuid4

import trio

from tport.engine.audit.line import encode_line
from tport.engine.audit.log import AuditLog
from tport.engine.audit.sampling import Sampling
from tport.engine.defaults import AUDIT_QUEUE
from tport.engine.errors import Unavailable
from tport.engine.types.event import Event, event

logger = logging.getLogger(__name__)

GROUP: Final = 256  # events written at once
EMIT_DEADLINE: Final = 2.0  # s that an event waits for its place, or `record` for its line
MINUTE: Final = 60.0  # s in which failures are counted together
RETRY: Final = 1.0  # s between tries while the disk refuses
CLOSE_DEADLINE: Final = 2.0  # s for what is still queued at the end


def _why(error: OSError) -> str:
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "its disk is full" if is_full else str(error.strerror)


@dataclass(eq=False, slots=True)
class _Entry:
    """A line on its way. `is_wanted` ends when `record` gave up on it."""

    day: date
    line: bytes
    is_wanted: bool = True
    written: trio.Event = field(default_factory=trio.Event)


class Emitter:
    """The way into an audit log. `trail.open_audit_log` makes and runs it.

    Attributes:
        log: the files.
        lost: how many events were lost since the start.
        sampled: how many failures were counted and not written, since the start.
        problem: why nothing can be written now; "": it can.
    """

    def __init__(self, log: AuditLog, cluster: str, clock: Callable[[], datetime]) -> None:
        self.log = log
        self.lost = 0
        self.sampled = 0
        self._sampling = Sampling()
        self.problem = ""
        self._unreported = 0
        self._cluster = cluster
        self._clock = clock
        self._send, self._receive = trio.open_memory_channel[_Entry](AUDIT_QUEUE)
        self._writing = trio.CancelScope(shield=True)
        self._finished = trio.Event()

    @property
    def waiting(self) -> int:
        """How many events are yet to be written."""
        return self._receive.statistics().current_buffer_used

    async def emit(self, event: Event | Mapping[str, object]) -> None:
        """Queue an event. Never raises for want of room: what finds none in 2 s is counted as lost.

        Of the same failure over and over, only the first times in a minute are written, see
        `sampling`. A caller that is being cancelled still gets its event in, if there is room.
        """
        if isinstance(event, Event) and not self._sampling.admits(event):
            self.sampled += 1
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        await self._queue(self._entry(event))

    async def record(self, event: Event | Mapping[str, object]) -> None:
        """Write an event, and return when its line is in the file.

        Raises:
            Unavailable: not within 2 s; it will not be written later, unless it is right now.
        """
        entry = self._entry(event)
        try:
            with trio.move_on_after(EMIT_DEADLINE), suppress(trio.ClosedResourceError):
                await self._send.send(entry)
                await entry.written.wait()
        finally:
            entry.is_wanted = False
        if not entry.written.is_set():
            raise Unavailable(
                self.problem or "the audit log can't be written within 2 s",
                hint="see whether the disk of the audit log is full",
            )

    async def wait_written(self) -> None:
        """Return once what was emitted before is written, or 2 s passed."""
        last = _Entry(self._clock().astimezone(UTC).date(), b"")
        with trio.move_on_after(EMIT_DEADLINE), suppress(trio.ClosedResourceError):
            await self._send.send(last)
            await last.written.wait()

    async def keep_writing(self) -> None:
        """Write what is queued until `drain`; shielded, so that the events of the end are in it."""
        with self._writing:
            async for first in self._receive:
                group = [first]
                while len(group) < GROUP:
                    try:
                        group.append(self._receive.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                for day, entries in groupby(group, lambda entry: entry.day):
                    await self._write(day, list(entries))
        self._finished.set()

    async def keep_sampling(self) -> NoReturn:
        """Write each minute how many failures were left out of it, until cancelled."""
        while True:
            await trio.sleep(MINUTE)
            for told in self._sampling.next_minute():
                await self._queue(self._entry(told))

    async def drain(self) -> None:
        """Take no more, and return when what is queued is written."""
        for told in self._sampling.next_minute():
            await self._queue(self._entry(told))
        self._send.close()
        await self._finished.wait()

    def stop(self) -> None:
        """Give up what isn't written by now, and say so."""
        if not self._finished.is_set():
            self._writing.cancel()
            waiting = self._receive.statistics().current_buffer_used
            logger.error("audit: closed with events unwritten, %d of them queued", waiting)
        if self._unreported:
            logger.error("audit: closed with %d events lost and not yet counted", self._unreported)

    async def _queue(self, entry: _Entry) -> None:
        queued = False
        try:
            try:
                self._send.send_nowait(entry)
                queued = True
                await trio.lowlevel.cancel_shielded_checkpoint()
            except trio.WouldBlock:
                with trio.move_on_after(EMIT_DEADLINE):
                    await self._send.send(entry)
                    queued = True
        except trio.ClosedResourceError:
            logger.warning("audit: an event came after the log was closed")
        finally:
            if not queued:
                self.lost += 1
                self._unreported += 1

    async def _write(self, day: date, entries: Sequence[_Entry]) -> None:
        is_refused = False
        while True:  # ends by success, or by `stop`
            wanted = [entry for entry in entries if entry.is_wanted]
            lines = [entry.line for entry in wanted if entry.line]
            lost = self._unreported
            if lost:
                lines.insert(0, self._entry(event("audit.lost", count=lost)).line)
            try:
                if lines:
                    await self.log.append(day, lines)
            except OSError as error:
                if not is_refused:
                    logger.warning("audit: can't write to %s: %s", self.log.directory, error)
                is_refused = True
                self.problem = f"the audit log can't be written: {_why(error)}"
                await trio.sleep(RETRY)
                continue
            self.problem = ""
            self._unreported -= lost
            for entry in wanted:
                entry.written.set()
            return

    def _entry(self, event: Event | Mapping[str, object]) -> _Entry:
        now = self._clock()
        line = encode_line(event, uid=str(uuid4()), cluster=self._cluster, now=now)
        return _Entry(now.astimezone(UTC).date(), line)
