"""What all processes of this service tell, made one answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import trio

from tport.engine.metrics.board import Board
from tport.engine.metrics.sample import Report, Sample, Trouble, gathered, one
from tport.engine.metrics.text import metrics_text

PATIENCE: Final = 2.0  # s for each: a scraper gives up after 10, a probe often after 1 to 5
STARTING: Final = Trouble("process", "starting: not all services serve yet")
STOPPING: Final = Trouble("process", "stopping: open requests may end, no new ones are taken")
_OK, _DEGRADED, _STARTING = 0, 2, 3  # Teleport's process_state

Others = Callable[[], Awaitable[Mapping[str, Report]]]


async def nobody() -> Mapping[str, Report]:
    """Return the reports of other processes, where there are none."""
    return {}


class Gathering:
    """The `Diagnosis` of the main process.

    Attributes:
        serves, stops: how far the process is, set by who runs it.
        others: asks the other processes, by their names; each that can't answer says so in a trouble.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self.others: Others = nobody
        self.serves = False
        self.stops: Callable[[], bool] = lambda: False

    async def troubles(self) -> Sequence[Trouble]:
        others = await self.others()
        theirs = (trouble for report in others.values() for trouble in report.troubles)
        return tuple(dict.fromkeys((*self._stage(), *self._board.troubles(), *theirs)))

    async def metrics(self) -> str:
        reports = await self._reports()
        stage = self._stage()
        troubles = [*stage, *(each for report in reports.values() for each in report.troubles)]
        degraded = any(trouble.degrades for trouble in troubles)
        state = _STARTING if STARTING in stage else _DEGRADED if degraded else _OK
        samples: dict[str, Sequence[Sample]] = {
            name: report.samples for name, report in reports.items()
        }
        samples["main"] = (*samples["main"], one("process_state", state))
        return await trio.to_thread.run_sync(lambda: metrics_text(gathered(samples)))

    def _stage(self) -> tuple[Trouble, ...]:
        if self.stops():
            return (STOPPING,)
        return () if self.serves else (STARTING,)

    async def _reports(self) -> Mapping[str, Report]:
        own = Report()
        with trio.move_on_after(PATIENCE) as waiting:
            own = await self._board.report()
        if waiting.cancelled_caught:
            why = f"not all parts told their figures within {PATIENCE:.0f} s"
            own = Report((), (*self._board.troubles(), Trouble("process", why)))
        return {"main": own, **await self.others()}
