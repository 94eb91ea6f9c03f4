"""Requests that should be over within a moment, and what becomes of those that are not.

Who carries a request without a task can't wait with a deadline. So it stands here, and every
LOOK seconds all that stood here at the look before are told that their moment is over: from then on a
task carries them, with every deadline there is.
"""

from __future__ import annotations

import logging
from typing import Final, NoReturn, Protocol

import trio

logger = logging.getLogger(__name__)

LOOK: Final = 2.0  # s between two looks: a moment is that to twice that
MOMENT: Final = 2 * LOOK  # s that one may take at most: nothing with a nearer deadline stands here


class Momentary(Protocol):
    """What should be over within a moment."""

    def late(self) -> None:
        """Be told that the moment is over; once at most. It must not block or raise."""


class Moments:
    """What should be over within a moment."""

    def __init__(self) -> None:
        self._new: set[Momentary] = set()
        self._older: set[Momentary] = set()

    def __len__(self) -> int:
        return len(self._new) + len(self._older)

    def add(self, this: Momentary) -> None:
        """Tell it that it is late, if it is not discarded within a moment."""
        self._new.add(this)

    def discard(self, this: Momentary) -> None:
        self._new.discard(this)
        self._older.discard(this)

    async def keep(self) -> NoReturn:
        """Look after them until cancelled."""
        while True:
            await trio.sleep(LOOK)
            late, self._older, self._new = self._older, self._new, set()
            for this in late:
                try:
                    this.late()
                except Exception:
                    logger.exception("what took longer than a moment could not be handed over")
