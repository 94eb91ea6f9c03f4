"""Asking workers for their figures, and keeping what those counted that have ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from tport.engine.errors import ConnectionProblem
from tport.engine.metrics.sample import Report, Sample, Totals, Trouble
from tport.engine.workers.channel import Channel
from tport.engine.workers.messages import Measure, Measured

# s for a worker to tell; one whose loop turns needs milliseconds, and a probe of Kubernetes gives up after 1.
PATIENCE: Final = 0.8
MAX_SAMPLES: Final = 200_000  # of one worker: 2,000 applications are told apart, by some ten each
SAMPLES: Final = 400  # in one message: under 64 KiB, with names as long as they may be


def measured_messages(number: int, report: Report) -> Iterator[Measured]:
    """Return what a worker answers."""
    samples = report.samples
    for start in range(0, max(len(samples), 1), SAMPLES):
        is_last = start + SAMPLES >= len(samples)
        troubles = report.troubles if is_last else ()
        yield Measured(number, samples[start : start + SAMPLES], troubles, is_last)


class WorkerFigures:
    """One worker's, whichever process it is now."""

    def __init__(self, name: str) -> None:
        """`name`: as the label of its figures has it."""
        self.name = name
        self._asked = 0
        self._coming: list[Sample] = []
        self._report = Report()
        self._told = trio.Event()

    def take(self) -> Iterable[Sample]:
        """Return what the process told last, and forget it: it has ended."""
        told, self._report = self._report.samples, Report()
        return told

    def hear(self, message: Measured) -> None:
        """Take what a worker answers; an answer that came too late is nobody's."""
        if message.number != self._asked or len(self._coming) > MAX_SAMPLES:
            return
        self._coming += message.samples
        if message.is_last:
            self._report = Report(tuple(self._coming), message.troubles)
            self._told.set()

    async def ask(self, channel: Channel | None) -> Report:
        """Return what the worker tells now; what it told last, and a trouble, when it does not.

        One call at a time.
        """
        if channel is not None:
            self._asked += 1
            self._coming, self._told = [], trio.Event()
            with trio.move_on_after(PATIENCE):
                try:
                    await channel.send(Measure(self._asked))
                    await self._told.wait()
                except ConnectionProblem:
                    return self._without("has ended; another is started")
                return self._report
        why = "does not run" if channel is None else f"told nothing for {PATIENCE:g} s"
        return self._without(why)

    def _without(self, why: str) -> Report:
        trouble = Trouble("proxy", f"{self.name} {why}", degrades=False)  # the others serve
        return Report(self._report.samples, (trouble,))


@dataclass(eq=False)
class _Round:
    """All of them asked once; `told`: None until they are, or when whoever asked gave up."""

    told: Mapping[str, Report] | None = None
    over: trio.Event = field(default_factory=trio.Event)


class WorkersFigures:
    """All of them."""

    def __init__(self) -> None:
        self.ended = Totals()
        self._round: _Round | None = None

    async def ask(
        self, workers: Iterable[tuple[WorkerFigures, Channel | None]]
    ) -> Mapping[str, Report]:
        """Return the reports of all workers by name, and of those that have ended as one more.

        Who comes while others ask gets the same answer: one that is stuck costs everybody PATIENCE, and
        not each as often as there are askers.
        """
        while (under_way := self._round) is not None:
            await under_way.over.wait()
            if under_way.told is not None:
                return under_way.told
        mine = self._round = _Round()
        try:
            mine.told = await self._ask(list(workers))
        finally:
            self._round = None
            mine.over.set()
        return mine.told

    async def _ask(
        self, asked: Sequence[tuple[WorkerFigures, Channel | None]]
    ) -> Mapping[str, Report]:
        reports: dict[str, Report] = {}

        async def ask_one(figures: WorkerFigures, channel: Channel | None) -> None:
            reports[figures.name] = await figures.ask(channel)

        async with trio.open_nursery() as nursery:
            for figures, channel in asked:
                nursery.start_soon(ask_one, figures, channel)
        ordered = {figures.name: reports[figures.name] for figures, _ in asked}
        return {**ordered, "ended": Report(self.ended.samples())}
