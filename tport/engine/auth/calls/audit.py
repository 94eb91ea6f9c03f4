"""What is asked of the audit log and the log of requests, as `Calls` answers it."""

from __future__ import annotations

from typing import Final

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.errors import InvalidRequest
from tport.engine.types.chain import ChainReport, ChainState
from tport.engine.types.event_query import EventPage, EventQuery, LogName
from tport.engine.types.request_record import RequestRecord

MAX_REQUESTS: Final = 500  # of one call


class AuditCalls(Caller):
    @call
    async def search_events(self, *, query: EventQuery, cursor: str, limit: int) -> EventPage:
        return await self.service.cluster.audit.search(query, cursor=cursor, limit=limit)

    @call
    async def follow_events(self, *, query: EventQuery, cursor: str, limit: int) -> EventPage:
        return await self.service.cluster.audit.follow(query, cursor=cursor, limit=limit)

    @call
    async def check_events(self, *, log: LogName, state: ChainState) -> ChainReport:
        return await self.service.cluster.audit.check(log, state)

    @call
    async def record_requests(self, *, requests: tuple[RequestRecord, ...]) -> None:
        if len(requests) > MAX_REQUESTS:
            raise InvalidRequest(f"{len(requests)} requests at once, at most {MAX_REQUESTS}")
        await self.service.cluster.audit.record_requests(requests, self.name)
