"""Audit events on their way to auth: handed over without waiting, sent in batches by one task."""

from __future__ import annotations

import logging
import random
from typing import Final, NoReturn

import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.defaults import EVENT_QUEUE, FRESH
from tport.engine.errors import AccessDenied, InvalidRequest, OutOfTime, TportError
from tport.engine.types.event import Event, event

logger = logging.getLogger(__name__)

BATCH: Final = 64  # events in one call
RETRY: Final = 1.0  # s, the most before the first further try to send; doubled up to FRESH


class EventQueue:
    """Takes events from the request path; `keep` sends them.

    Attributes:
        lost: how many found no room, since the start.
    """

    def __init__(self, auth: AuthAPI) -> None:
        self._auth = auth
        self._events, self._waiting = trio.open_memory_channel[Event](EVENT_QUEUE)
        self._lost = 0  # and not told of yet
        self.lost = 0
        self._unsent = 0  # handed over and neither sent nor refused yet
        self._all_sent = trio.Event()

    def put(self, type_: str, **fields: object) -> None:
        """Hand over an event of a type of `types.event.CODES`. Never waits.

        When EVENT_QUEUE of them wait, it is counted as lost, and an `audit.lost` tells how many.
        """
        try:
            self._events.send_nowait(event(type_, **fields))
        except trio.WouldBlock:
            self._lost += 1
            self.lost += 1
        else:
            self._unsent += 1

    @property
    def waiting(self) -> int:
        """How many are yet to be sent."""
        return self._unsent

    async def wait_sent(self) -> None:
        """Wait until all that was handed over has gone to auth. `keep` must be running."""
        while self._unsent:
            await self._all_sent.wait()

    async def keep(self) -> NoReturn:
        """Send what was handed over, in order, until cancelled.

        What auth refuses is logged and dropped: sent again it would be refused again, and hold
        up all that follows.
        """
        while True:
            batch = [await self._waiting.receive()]
            try:
                while len(batch) < BATCH:
                    batch.append(self._waiting.receive_nowait())
            except trio.WouldBlock:
                pass
            taken = len(batch)
            if self._lost:
                batch.append(event("audit.lost", count=self._lost))
                self._lost = 0
            if not await self._send(tuple(batch)):
                for one in batch:  # only the one that auth can't take is dropped
                    if not await self._send((one,)):
                        logger.error("auth refused the audit event %s; it is dropped", one.type)
            self._unsent -= taken
            if not self._unsent:
                self._all_sent.set()
                self._all_sent = trio.Event()

    async def _send(self, batch: tuple[Event, ...]) -> bool:
        """Send, as often as it takes; tell whether auth took it. Of many failures the first is told."""
        most = RETRY
        while True:
            try:
                await self._auth.emit(events=batch)
            except TportError as problem:
                for_good = isinstance(problem, AccessDenied | InvalidRequest)
                if for_good and not isinstance(problem, OutOfTime):
                    logger.warning("auth refused %d audit events: %s", len(batch), problem)
                    return False
                level = logging.WARNING if most == RETRY else logging.DEBUG
                logger.log(level, "audit events wait, trying on: %s", problem)
                await trio.sleep(most * random.random())  # noqa: S311 - spreads retries, no secret
                most = min(2 * most, FRESH)
            else:
                return True
