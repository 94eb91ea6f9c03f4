"""One figure as it is now; a histogram; and the figures of several processes made one list."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from tport.engine.metrics.catalogue import METRICS


class Sample(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    Attributes:
        name: of `METRICS`.
        labels: their values, in the order of `METRICS`.
        values: the one value; of a histogram, how many fell into each bucket and beyond the
            last, then the sum in seconds.
    """

    name: str
    values: tuple[float, ...]
    labels: tuple[str, ...] = ()


class Trouble(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why a process is not wholly well, in words.

    Attributes:
        part: of the process: "auth", "proxy", "agent", "storage", "process".
        degrades: it can't do all that it is for, and others should be asked instead; else it is a
            warning.
    """

    part: str
    why: str
    degrades: bool = True


class Report(NamedTuple):
    """What one process tells of itself."""

    samples: tuple[Sample, ...] = ()
    troubles: tuple[Trouble, ...] = ()


class Histogram:
    """Counts durations by bucket."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    @property
    def values(self) -> tuple[float, ...]:
        """As `Sample.values`."""
        return (*self._counts, self._sum)


def one(name: str, value: float, *labels: str) -> Sample:
    """Return the sample of a single value."""
    return Sample(name, (value,), labels)


class Totals:
    """Counters of what has ended since: processes come and go, and their sums must never fall."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, tuple[str, ...]], Sample] = {}

    def add(self, samples: Iterable[Sample]) -> None:
        """Keep what counts up and is told as a sum; of all else there is nothing to keep."""
        for sample in samples:
            metric = METRICS[sample.name]
            if metric.kind != "gauge" and metric.across == "sum":
                _put(self._totals, sample.name, sample.labels, sample.values)

    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._totals.values())


def gathered(processes: Mapping[str, Iterable[Sample]]) -> list[Sample]:
    """Return the figures of several processes as one list.

    Each is the sum, the least or the greatest of them, as `METRICS` says; or one for each process,
    whose name is then its last label.
    """
    found: dict[tuple[str, tuple[str, ...]], Sample] = {}
    for process, samples in processes.items():
        for sample in samples:
            each = METRICS[sample.name].across == "each"
            labels = (*sample.labels, process) if each else sample.labels
            _put(found, sample.name, labels, sample.values)
    return list(found.values())


def _put(
    found: dict[tuple[str, tuple[str, ...]], Sample],
    name: str,
    labels: tuple[str, ...],
    values: tuple[float, ...],
) -> None:
    key = name, labels
    if (known := found.get(key)) is not None:
        across = METRICS[name].across
        pairs = zip(known.values, values, strict=True)
        if across == "min":
            values = tuple(min(pair) for pair in pairs)
        elif across == "max":
            values = tuple(max(pair) for pair in pairs)
        else:
            values = tuple(sum(pair) for pair in pairs)
    found[key] = Sample(name, values, labels)
