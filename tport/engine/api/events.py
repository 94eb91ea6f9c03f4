"""Audit events on their way to auth: handed over without waiting, sent in batches by one task."""

from __future__ import annotations

import logging
from typing import Final, NoReturn

import trio

from tport.engine.api.protocol import AuthAPI
from tport.engine.errors import TportError
from tport.engine.types.event import Event, event

logger = logging.getLogger(__name__)

QUEUE: Final = 1000  # events that wait while auth can't be reached; what comes then is counted
BATCH: Final = 64  # events in one call
RETRY: Final = 1.0  # s between two tries


class EventQueue:
    """Takes events from the request path; `keep` sends them."""

    def __init__(self, auth: AuthAPI) -> None:
        self._auth = auth
        self._events, self._waiting = trio.open_memory_channel[Event](QUEUE)
        self._lost = 0

    def put(self, type_: str, **fields: object) -> None:
        """Hand over an event of a type of `types.event.CODES`. Never waits.

        When QUEUE of them wait, it is counted as lost, and an `audit.lost` tells how many.
        """
        try:
            self._events.send_nowait(event(type_, **fields))
        except trio.WouldBlock:
            self._lost += 1

    async def keep(self) -> NoReturn:
        """Send what was handed over, in order, until cancelled."""
        while True:
            batch = [await self._waiting.receive()]
            try:
                while len(batch) < BATCH:
                    batch.append(self._waiting.receive_nowait())
            except trio.WouldBlock:
                pass
            if self._lost:
                batch.append(event("audit.lost", count=self._lost))
                self._lost = 0
            await self._send(tuple(batch))

    async def _send(self, batch: tuple[Event, ...]) -> None:
        while True:
            try:
                await self._auth.emit(events=batch)
            except TportError as problem:
                logger.warning("%d audit events wait: %s", len(batch), problem)
                await trio.sleep(RETRY)
            else:
                return
