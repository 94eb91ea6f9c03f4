"""Requests that take longer than a moment: has their client gone, has their agent fallen silent?

Most answers come within milliseconds, and to watch each request with a task and a deadline of its
own would cost more than to carry it. So requests only stand here while they run, and twice a
second all of them are looked through: for one that has stood for a moment, a task begins to wait
for its client to go; one whose agent has said nothing for too long is given up.
"""

from __future__ import annotations

import logging
from typing import Final, NoReturn, Protocol

import trio

logger = logging.getLogger(__name__)

LOOK: Final = 0.5  # s between two looks; what a client's going is noticed late by, about


class Waits(Protocol):
    """A request that stands here.

    Attributes:
        give_up_at: trio's time at which its agent has been silent for too long.
        is_sent: all of it was read from its client, so that its going can be waited for.
    """

    give_up_at: float
    is_sent: bool

    async def client_gone(self) -> None:
        """Return when the client has closed the connection."""

    def leave(self) -> None:
        """End the request: nobody waits for its answer."""

    def give_up(self) -> None:
        """End the request: nobody will answer it."""


class Waiting:
    """The requests that run."""

    def __init__(self) -> None:
        self._new: set[Waits] = set()  # not looked at yet, or not sent yet
        self._watched: dict[Waits, _Watch] = {}

    def __len__(self) -> int:
        return len(self._new) + len(self._watched)

    def add(self, request: Waits) -> None:
        self._new.add(request)

    async def remove(self, request: Waits) -> None:
        """Forget a request. Nobody reads from its client any more when this returns."""
        self._new.discard(request)
        watch = self._watched.pop(request, None)
        if watch is not None:
            watch.scope.cancel()
            with trio.CancelScope(shield=True):
                await watch.over.wait()  # it waits for bytes alone: it ends at once

    async def keep(self) -> NoReturn:
        """Look after the requests until cancelled."""
        async with trio.open_nursery() as nursery:
            older: set[Waits] = set()  # those that stood here at the last look, too
            while True:
                await trio.sleep(LOOK)
                now = trio.current_time()
                for request in [*self._new, *self._watched]:
                    if now >= request.give_up_at:
                        request.give_up()
                for request in older & self._new:
                    if request.is_sent:
                        self._new.discard(request)
                        watch = self._watched[request] = _Watch()
                        nursery.start_soon(watch.run, request)
                older = set(self._new)
        raise AssertionError("the loop above has no end")


class _Watch:
    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.over = trio.Event()

    async def run(self, request: Waits) -> None:
        try:
            with self.scope:
                await request.client_gone()
                request.leave()
        except Exception:
            logger.exception("waiting for a client to go failed")  # the request itself goes on
        finally:
            self.over.set()
