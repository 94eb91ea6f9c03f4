"""Requests on their way to auth's log of them: noted on the request path, sent by a task of its own.

Noting appends a tuple and no more: nothing is formatted, nobody is woken and nothing waited for.
While auth can't be reached REQUEST_LOG_QUEUE of them wait; what comes then is counted, and the count becomes
an event of the audit log.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NoReturn

import msgspec
import trio

from tport.engine.api.events import EventQueue
from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import REQUEST_LOG_QUEUE
from tport.engine.errors import AccessDenied, InvalidRequest, TportError
from tport.engine.net.exchange import Exchange
from tport.engine.proto.fields import Headers
from tport.engine.proto.head import Block
from tport.engine.proto.head import RequestHead as HttpHead
from tport.engine.types.request_record import RequestRecord
from tport.engine.types.session import AppSession

logger = logging.getLogger(__name__)

BATCH: Final = 200  # in one call: 1 ms of the loop's time
INTERVAL: Final = 0.25  # s from the first request of a batch until it is sent
RETRY: Final = 1.0  # s between two tries
# Requests that wait as they came, with up to 64 KiB each. Of further ones the target and the user agent are cut
# at MAX_TOLD bytes, so that large heads fill no memory while auth is away.
WHOLE: Final = 500
MAX_TOLD: Final = 2048

Clock = Callable[[], datetime]


class Served(msgspec.Struct, frozen=True, gc=False):
    """What the request path notes of a request when it ends; times are trio's."""

    method: bytes
    target: bytes
    user_agent: str
    session: AppSession
    request_id: str
    remote: str
    began: float
    ended: float
    status: int
    received: int
    sent: int
    error: str


class RequestLog:
    """Takes requests from the request path; `keep` sends them.

    Attributes:
        lost: how many found no room, since the start.
    """

    def __init__(
        self, auth: AuthAPI, events: EventQueue, clock: Clock, *, include_query: bool
    ) -> None:
        self._auth = auth
        self._events = events
        self._clock = clock
        self._include_query = include_query
        self._served: deque[Served] = deque()
        self._come = trio.Event()
        self._lost = 0  # and not told of yet
        self.lost = 0
        self._sending = trio.Lock()  # `keep` sends, and at the end who closes

    def note(
        self,
        exchange: Exchange,
        session: AppSession,
        request_id: str,
        remote: str,
        span: tuple[float, float],
        error: str,
    ) -> None:
        """Note a request that has ended. Never waits.

        Args:
            span: trio's times when it began and ended.
            error: why the application did not answer; "": it did.
        """
        served = self._served
        if len(served) >= REQUEST_LOG_QUEUE:
            self._lost += 1
            self.lost += 1
            return
        request = exchange.request
        most = None if len(served) < WHOLE else MAX_TOLD
        served.append(
            Served(
                request.method,
                request.target[:most],
                _user_agent(request)[:most],
                session,
                request_id,
                remote,
                *span,
                exchange.status,
                exchange.received,
                exchange.sent,
                error,
            )
        )
        if len(served) == 1:
            self._come.set()

    @property
    def waiting(self) -> int:
        """How many are yet to be sent."""
        return len(self._served)

    async def keep(self) -> NoReturn:
        """Send what was noted, in order, until cancelled."""
        while True:
            await self._come.wait()
            await trio.sleep(INTERVAL)
            await self.send()

    async def send(self) -> None:
        """Send all that is noted now."""
        async with self._sending:
            while self._served:
                if self._lost:
                    self._events.put("audit.lost", count=self._lost, log="requests")
                    self._lost = 0
                await self._send(min(BATCH, len(self._served)))
            self._come = trio.Event()

    async def _send(self, count: int) -> None:
        """Send the first so many, as often as it takes; what auth refuses is dropped, and said."""
        behind = timedelta(seconds=trio.current_time())
        origin = self._clock() - behind  # the wall clock at trio's 0
        batch = tuple([self._record(served, origin) for served in islice(self._served, count)])
        while True:
            try:
                await self._auth.record_requests(requests=batch)
                break
            except (AccessDenied, InvalidRequest) as refusal:
                logger.warning("auth refused %d requests for its log: %s", count, refusal)
                break
            except TportError as problem:
                logger.warning("%d requests wait to be logged: %s", len(self._served), problem)
                await trio.sleep(RETRY)
        for _ in range(count):
            self._served.popleft()

    def _record(self, served: Served, origin: datetime) -> RequestRecord:
        session = served.session
        path, _, query = served.target.partition(b"?")
        return RequestRecord(
            time=origin + timedelta(seconds=served.ended),
            duration=round((served.ended - served.began) * 1000, 3),
            request_id=served.request_id,
            user=session.user,
            session=session.id,
            app=session.app,
            host=session.host,
            method=served.method.decode("latin-1"),
            path=path.decode("latin-1"),
            query=query.decode("latin-1") if self._include_query else "",
            status=served.status,
            bytes_in=served.received,
            bytes_out=served.sent,
            remote=served.remote,
            user_agent=served.user_agent,
            error=served.error,
        )


def _user_agent(request: HttpHead) -> str:
    """Return what calls itself so; found out once for headers that came before, in the same bytes."""
    headers = request.headers
    if not isinstance(headers, Block):
        return _find_user_agent(headers)
    if (known := headers.notes.get(_user_agent)) is None:
        known = headers.notes[_user_agent] = _find_user_agent(headers)
    return str(known)


def _find_user_agent(headers: Headers) -> str:
    for name, value in headers:
        if name == b"user-agent":
            return value.decode("utf-8", "replace")
    return ""
