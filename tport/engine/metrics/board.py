"""Where the parts of a process say how they are asked for their figures, and for their troubles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from tport.engine.errors import TportError
from tport.engine.metrics.sample import Report, Sample, Trouble

Figures = Callable[[], Awaitable[Iterable[Sample]]]
Troubles = Callable[[], Iterable[Trouble]]


class Board:
    """One of each process. Parts add themselves when they begin; a process's parts never go."""

    def __init__(self) -> None:
        self._figures: list[tuple[str, Figures]] = []
        self._troubles: list[Troubles] = []

    def add(self, part: str, figures: Figures, troubles: Troubles | None = None) -> None:
        """
        Args:
            part: as `Trouble.part`.
            figures: asked at each scrape; may raise TportError, which is then the part's trouble.
            troubles: what keeps the part from being well now.
        """
        self._figures.append((part, figures))
        if troubles is not None:
            self._troubles.append(troubles)

    def troubles(self) -> tuple[Trouble, ...]:
        return tuple(trouble for each in self._troubles for trouble in each())

    async def report(self) -> Report:
        """Return all that the parts tell now."""
        samples: list[Sample] = []
        troubles = list(self.troubles())
        for part, figures in self._figures:
            try:
                samples += await figures()
            except TportError as problem:
                troubles.append(Trouble(part, str(problem)))
        return Report(tuple(samples), tuple(troubles))
