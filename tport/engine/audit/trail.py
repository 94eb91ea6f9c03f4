"""All that auth writes down: the audit log, and beside it the log of requests.

    <directory>/audit/2026-01-31.jsonl       what happened
    <directory>/requests/2026-01-31.jsonl    each request that went to an application

Both are chained, searched and checked alike. They differ in what a full disk means: what must
leave a trace in the audit log is not done then, while requests go on, and wait with the proxy.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import trio

from tport.engine.audit.emitter import CLOSE_DEADLINE, Emitter
from tport.engine.audit.line import encode_line
from tport.engine.audit.log import AuditLog
from tport.engine.audit.requests import request_line
from tport.engine.errors import Unavailable
from tport.engine.types.chain import ChainReport, ChainState
from tport.engine.types.event import Event, event
from tport.engine.types.event_query import EventPage, EventQuery, LogName
from tport.engine.types.request_record import RequestRecord

logger = logging.getLogger(__name__)

RETENTION_INTERVAL: Final = 3600.0  # s between looks for files that are too old

Clock = Callable[[], datetime]


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How many days each log is kept, today not counted; None: for ever."""

    audit: int | None = None
    requests: int | None = None


@asynccontextmanager
async def open_audit_log(
    directory: Path, cluster: str, clock: Clock, retention: Retention = Retention()
) -> AsyncIterator[Trail]:
    """Open the logs in `directory`; on leaving, what is queued is written first.

    Args:
        cluster: written to each event as `cluster_name`.
        clock: returns the aware time of an event that brings none.

    Raises:
        Unavailable: the directory can't be made.
    """
    logs: dict[LogName, AuditLog] = {
        "audit": AuditLog(directory / "audit"),
        "requests": AuditLog(directory / "requests"),
    }
    for log in logs.values():
        await log.create()
    trail = Trail(logs, cluster, clock, retention)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trail.emitter.keep_writing)
        try:
            await trail.tell_damage()
            nursery.start_soon(trail.keep_retention)
            nursery.start_soon(trail.emitter.keep_sampling)
            yield trail
        finally:
            with trio.move_on_after(CLOSE_DEADLINE, shield=True):
                await trail.emitter.drain()
            trail.emitter.stop()
            nursery.cancel_scope.cancel()


class Trail:
    """The two logs, open. `open_audit_log` makes and runs it."""

    def __init__(
        self,
        logs: dict[LogName, AuditLog],
        cluster: str,
        clock: Clock,
        retention: Retention = Retention(),
    ) -> None:
        self.emitter = Emitter(logs["audit"], cluster, clock)
        self._logs = logs
        self._cluster = cluster
        self._clock = clock
        self._retention = retention

    @property
    def lost(self) -> int:
        """How many events were lost since the start."""
        return self.emitter.lost

    async def emit(self, event: Event | Mapping[str, object]) -> None:
        """See `Emitter.emit`."""
        await self.emitter.emit(event)

    async def record(self, event: Event | Mapping[str, object]) -> None:
        """See `Emitter.record`."""
        await self.emitter.record(event)

    async def record_requests(self, records: Sequence[RequestRecord], origin: str) -> None:
        """Write requests, and return when their lines are in the file.

        Args:
            origin: the id of the proxy that carried them.

        Raises:
            Unavailable: they can't be written: none of them is.
        """
        lines = [request_line(record, origin, self._cluster) for record in records]
        try:
            await self._logs["requests"].append(self._today(), lines)
        except OSError as problem:
            raise Unavailable(f"the log of requests can't be written: {problem.strerror}") from None

    async def search(self, query: EventQuery, *, cursor: str, limit: int) -> EventPage:
        """See `AuditLog.search`; what was emitted before is found."""
        if query.log == "audit" and not cursor:
            await self.emitter.wait_written()
        return await self._logs[query.log].search(query, cursor=cursor, limit=limit)

    async def follow(self, query: EventQuery, *, cursor: str, limit: int) -> EventPage:
        """See `AuditLog.follow`."""
        return await self._logs[query.log].follow(query, cursor=cursor, limit=limit)

    async def check(self, log: LogName, state: ChainState) -> ChainReport:
        """See `AuditLog.check`."""
        return await self._logs[log].check(state)

    async def tell_damage(self) -> None:
        """Write down what was wrong with the ends of the chains when they were opened."""
        for name, log in self._logs.items():
            if log.damage:
                logger.error("%s: see tport audit verify", log.damage)
                await self.emit(event("audit.damaged", log=name, error=log.damage))

    async def keep_retention(self) -> NoReturn:
        """Remove files that are older than they are to be kept, each hour, until cancelled."""
        elapsed = 0.0
        while True:
            for name in self._logs:
                days = getattr(self._retention, name)
                if days is None:
                    continue
                try:
                    await self.remove_expired(name, days, elapsed)
                except Unavailable as problem:
                    logger.warning("%s; tried again in an hour", problem)
            await trio.sleep(RETENTION_INTERVAL)
            elapsed = RETENTION_INTERVAL

    async def remove_expired(self, name: LogName, days: int, elapsed: float = 0.0) -> None:
        """Remove a log's files from before so many days, once it is written into it that they go.

        A clock that has jumped ahead is not believed at once: see `trusted_day`.

        Args:
            elapsed: s since the last call.
        """
        log = self._logs[name]
        today = await log.trusted_day(self._today(), elapsed)
        names, through = await log.expired(today - timedelta(days=days))
        if not names:
            return
        told = event("audit.removed", log=name, files=names, through=through)
        if name == "audit":
            await self.record(told)
        else:
            now = self._clock()
            line = encode_line(told, uid=f"removed-{through}", cluster=self._cluster, now=now)
            try:
                await log.append(self._today(), [line])
            except OSError as problem:
                raise Unavailable(f"retention can't be written: {problem.strerror}") from None
        await log.remove(names)
        logger.info("%s: %d files were kept long enough and are removed", name, len(names))

    def _today(self) -> date:
        return self._clock().astimezone(UTC).date()
