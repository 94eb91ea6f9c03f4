"""Notices that the loop stands still, and says where: a bug of ours, or a machine that is overloaded.

Everything in a process waits for its loop. Who blocks it can't be told from inside, so a thread
asks it now and then to answer; when no answer comes, what the loop's thread is doing is logged while
it does it. It can't see into C code that holds the interpreter's lock: then the line comes late, and
names what came next.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import PurePath
from types import FrameType
from typing import Final

import trio

logger = logging.getLogger(__name__)

LOOK: Final = 0.5  # s between two questions; a thread switch each, some 20 µs
# s without an answer that are told. A tunnel bears 10; people notice one.
STALL: Final = 1.0
FRAMES: Final = 12  # that are told, the innermost first


class Stalls:
    """Counts them, and logs each twice: where the loop stands, and how long it did.

    Attributes:
        count: so far.
    """

    def __init__(self, *, look: float = LOOK, stall: float = STALL) -> None:
        self.count = 0
        self._look = look
        self._stall = stall

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Watch the loop that this runs in, as long as the block runs."""
        over = threading.Event()
        watch = threading.Thread(
            target=self._watch,
            args=(trio.lowlevel.current_trio_token(), threading.get_ident(), over),
            name="tport-stalls",
            daemon=True,
        )
        watch.start()
        try:
            yield
        finally:
            over.set()

    def _watch(self, loop: trio.lowlevel.TrioToken, thread: int, over: threading.Event) -> None:
        while not over.wait(self._look):
            answered = threading.Event()
            asked = time.monotonic()
            try:
                loop.run_sync_soon(answered.set)
            except trio.RunFinishedError:
                return
            if answered.wait(self._stall) or over.is_set():
                continue
            self.count += 1
            logger.warning(
                "the loop has stood still for %.1f s; it is in %s",
                time.monotonic() - asked,
                _where(sys._current_frames().get(thread)),
            )
            while not answered.wait(self._look):
                if over.is_set():
                    return
            logger.warning("the loop turns again, after %.1f s", time.monotonic() - asked)


def _where(frame: FrameType | None) -> str:
    """Return in one line where a thread is, the innermost call first."""
    calls = traceback.extract_stack(frame)[-FRAMES:] if frame is not None else []
    places = (f"{PurePath(c.filename).name}:{c.lineno} {c.name}" for c in reversed(calls))
    return " < ".join(places) or "what no frame tells"
