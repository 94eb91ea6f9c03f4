"""Requests that should be over within a moment, and what becomes of those that are not.

Who carries a request without a task can't wait with a deadline. So it stands here, and every
LOOK seconds all that stood here at the look before are told that their moment is over: from then on a
task carries them, with every deadline there is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn

import trio

LOOK: Final = 2.0  # s between two looks: a moment is that to twice that
MOMENT: Final = 2 * LOOK  # s that one may take at most: nothing with a nearer deadline stands here

Late = Callable[[], None]  # must not block or raise; called once at most


class Moments:
    """What should be over within a moment."""

    def __init__(self) -> None:
        self._new: set[Late] = set()
        self._older: set[Late] = set()

    def __len__(self) -> int:
        return len(self._new) + len(self._older)

    def add(self, late: Late) -> None:
        """Call `late` if it is not discarded within a moment."""
        self._new.add(late)

    def discard(self, late: Late) -> None:
        self._new.discard(late)
        self._older.discard(late)

    def end(self) -> None:
        """End the moment of all that stand here now."""
        late = self._older | self._new
        self._older, self._new = set(), set()
        for tell in late:
            tell()

    async def keep(self) -> NoReturn:
        """Look after them until cancelled."""
        while True:
            await trio.sleep(LOOK)
            late, self._older, self._new = self._older, self._new, set()
            for tell in late:
                tell()
