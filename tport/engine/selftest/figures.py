"""Figures: from samples to numbers, and from numbers to a verdict. Pure.

Speed alone is never wrong: machines differ. Wrong is what breaks a promise: bytes that differ,
events that come together, memory that grows with what passes, a header that lies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median as middle
from typing import Final, Literal

import msgspec

MIB: Final = 1024 * 1024
MEMORY_LIMIT: Final = 64 * MIB  # bytes that a transfer of any size may cost a process

Unit = Literal["ms", "MiB/s", "MiB", "status", ""]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was measured, straight to the application and through tport.

    Attributes:
        name: for programs; stays what it is.
        what: for people.
        direct, through: in `unit`; None: not measured.
        samples: how many measurements are behind it.
        adds: more of it through tport than direct is what tport costs.
        expected: what makes it right, in words; "": it has only to be there.
        ok: None: it was not measured.
        note: why it isn't right, or isn't there, or what else there is to say.
    """

    name: str
    what: str
    unit: Unit
    direct: float | None = None
    through: float | None = None
    samples: int = 0
    adds: bool = False
    expected: str = ""
    ok: bool | None = True
    note: str = ""

    @property
    def added(self) -> float | None:
        """What tport costs, in `unit`."""
        if not self.adds or self.direct is None or self.through is None:
            return None
        return self.through - self.direct

    def failed(self, note: str) -> Figure:
        return msgspec.structs.replace(self, ok=False, note=note)

    def skipped(self, note: str = "") -> Figure:
        return msgspec.structs.replace(self, ok=None, note=note)

    def noted(self, note: str) -> Figure:
        return msgspec.structs.replace(self, note=note)


def median(samples: Sequence[float]) -> float | None:
    return middle(samples) if samples else None


def percentile(samples: Sequence[float], percent: float) -> float | None:
    """Return the sample below or at which `percent` of them are (nearest rank)."""
    if not samples:
        return None
    rank = max(1, math.ceil(len(samples) * percent / 100))
    return sorted(samples)[rank - 1]


def timed(blank: Figure, direct: Sequence[float], through: Sequence[float]) -> Figure:
    """Fill in the medians of two series of times, in seconds."""
    return _times(blank, median(direct), median(through), len(through))


def timed_p99(blank: Figure, direct: Sequence[float], through: Sequence[float]) -> Figure:
    """Fill in the 99th percentiles of two series of times, in seconds."""
    return _times(blank, percentile(direct, 99), percentile(through, 99), len(through))


def _times(blank: Figure, direct: float | None, through: float | None, samples: int) -> Figure:
    return msgspec.structs.replace(
        blank,
        direct=None if direct is None else direct * 1000,
        through=None if through is None else through * 1000,
        samples=samples,
    )


def apart(blank: Figure, sent: float, direct: Sequence[float], through: Sequence[float]) -> Figure:
    """Judge whether events came as they were sent, `sent` seconds apart: not together at the end.

    The least gap counts: what is held back comes with what follows it.
    """
    figure = _times(blank, min(direct, default=None), min(through, default=None), len(through))
    least = min(through, default=0.0)
    if least < sent / 2:
        return figure.failed(f"held back: they arrived {least * 1000:.0f} ms apart")
    return figure


def carried(
    blank: Figure,
    size: int,
    *,
    direct: tuple[float, str],
    through: tuple[float, str],
    wanted: str,
) -> Figure:
    """Judge a transfer of `size` bytes, each way (seconds, checksum), against the sender's checksum."""
    figure = msgspec.structs.replace(
        blank, direct=_rate(size, direct[0]), through=_rate(size, through[0]), samples=1
    )
    if through[1] != wanted:
        return figure.failed("what arrived through tport is not what was sent")
    if direct[1] != wanted:
        return figure.failed("what arrived is not what was sent, without tport too: a bug here")
    return figure


def grown(blank: Figure, size: int | None, *, unknown: str) -> Figure:
    """Judge by how many bytes a process grew; None: nobody knows, and `unknown` says why."""
    if size is None:
        return blank.skipped(unknown)
    figure = msgspec.structs.replace(blank, through=size / MIB, samples=1)
    if size > MEMORY_LIMIT:
        return figure.failed("it holds what should only pass")
    return figure


def _rate(size: int, seconds: float) -> float:
    return size / MIB / max(seconds, 1e-9)
