"""What records look like in a database, as a number, and the steps from each format to the next. Pure.

When a version reads records otherwise than the ones before it wrote them, or writes what these would
misread, it adds a step here. A field more, with a default, needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from tport.engine.errors import TportError

Records = Mapping[str, bytes]  # key → value, as they lie in the database
Changes = Mapping[str, bytes | None]  # key → its new value; None: it is removed


@dataclass(frozen=True, slots=True)
class Step:
    """From one format to the next.

    Attributes:
        what: it does, for the log, in a few words.
        change: takes every record, and returns what becomes of those that it changes. What is there
            keeps the time at which it expires, what is new has none. It reads the bytes by itself: the
            types of today change while a step stays.
    """

    what: str
    change: Callable[[Records], Changes]


@dataclass(frozen=True, slots=True)
class Formats:
    """The formats that a version reads: `first`, and what each of `steps` leads to, one after the other."""

    first: int
    steps: tuple[Step, ...] = ()

    @property
    def newest(self) -> int:
        return self.first + len(self.steps)

    def after(self, found: int) -> tuple[Step, ...]:
        """Return the steps from the format `found` to the newest."""
        return self.steps[found - self.first :]


# 1 had no sum of its records, and was in no release. 2: since 0.1.
FORMATS: Final = Formats(first=2)


def brought_forward(records: Records, steps: tuple[Step, ...]) -> Changes:
    """Return what becomes of which record by all of the steps together, each on what the last one left.

    Raises:
        TportError: a step doesn't understand what is stored. The message holds nothing of it.
    """
    now = dict(records)
    for step in steps:
        try:
            changes = step.change(MappingProxyType(now))
        except (ValueError, LookupError, TypeError, AttributeError) as problem:
            raise TportError(
                f"the database can't be brought to the newest format: {step.what}:"
                f" {type(problem).__name__}",
                hint="nothing was changed: go on with the version of tport that wrote it, and report this",
            ) from None
        for key, value in changes.items():
            if value is None:
                now.pop(key, None)
            else:
                now[key] = value
    return dict(_differences(records, now))


def _differences(before: Records, after: Records) -> Iterator[tuple[str, bytes | None]]:
    for key in before.keys() | after.keys():
        if before.get(key) != after.get(key):
            yield key, after.get(key)
