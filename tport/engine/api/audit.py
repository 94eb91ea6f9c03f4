"""What auth wrote down: searched, followed, checked; and the requests that proxies tell of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.callers import ADMIN, PROXY, Rule
from tport.engine.types.chain import ChainReport, ChainState
from tport.engine.types.event_query import EventPage, EventQuery, LogName
from tport.engine.types.request_record import RequestRecord


class AuditAPI(Protocol):
    async def search_events(self, *, query: EventQuery, cursor: str, limit: int) -> EventPage:
        """Return events, the newest first; fewer than `limit` when the search takes long.

        Args:
            cursor: of the page before; "": the newest.

        Raises:
            InvalidRequest: a limit (1 to 10000), time or cursor that means nothing.
        """
        ...

    async def follow_events(self, *, query: EventQuery, cursor: str, limit: int) -> EventPage:
        """Return what was written behind `cursor`, the oldest first; waits up to 5 s for it.

        Args:
            cursor: of the call before; "": from now on, and nothing yet.

        Raises:
            InvalidRequest: as `search_events`.
        """
        ...

    async def check_events(self, *, log: LogName, state: ChainState) -> ChainReport:
        """Check a part of a log's chain, from `state` on: for some seconds, or to its end."""
        ...

    async def record_requests(self, *, requests: tuple[RequestRecord, ...]) -> None:
        """Write requests into their log; the proxy's identity is added to each.

        Raises:
            InvalidRequest: too many at once.
            Unavailable: they can't be written; none of them was.
        """
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "search_events": ADMIN,
    "follow_events": ADMIN,
    "check_events": ADMIN,
    "record_requests": PROXY,
}

RULES: Final[Mapping[str, Rule]] = {
    "search_events": ("event", "list"),
    "follow_events": ("event", "list"),
    "check_events": ("event", "list"),
}
