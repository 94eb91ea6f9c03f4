"""What a signal does to a selftest: it ends, tidily, and says by which signal."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

T = TypeVar("T")

# Windows has no SIGHUP; elsewhere it says that the terminal was closed.
_STOP: Final = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if (number := getattr(signal, name, None)) is not None
)


class Stopped(Exception):
    """A signal ended it, and what it had to tidy up is tidied up."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.exit_status = 128 + number  # as shells count it


async def until_stopped(work: Callable[[], Awaitable[T]]) -> T:
    """Return what `work` returns; a signal to stop cancels it, and is raised when it has ended.

    Raises:
        Stopped: a signal came first.
    """
    stopped_by = 0
    results: list[T] = []
    with trio.open_signal_receiver(*_STOP) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                nonlocal stopped_by
                stopped_by = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            results.append(await work())
            nursery.cancel_scope.cancel()
    if not results:
        raise Stopped(stopped_by)
    return results[0]
