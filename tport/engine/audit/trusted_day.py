"""Which day it is, as far as deleting goes: a clock that is ahead must not take a log's years with it.

The wall's day is believed while it comes one after the other. When it is further on than when it was last
looked at, a service was off for days, or a clock is wrong, and nobody can tell here which: then the day
stays, and what is new is believed once it has been shown for HOLD of running. The day is kept in a file,
so that a restart is no way around it.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Final

import msgspec

from tport.engine.files import write_whole

FILE: Final = "retention-day"  # beside the files of a log
STEP: Final = timedelta(days=2)  # looks are an hour apart; a restart over night is nothing
HOLD: Final = timedelta(days=3)


class TrustedDay(msgspec.Struct, frozen=True):
    """Attributes:
    day: by which files may be too old.
    held: s of running for which the wall has shown a day that is not believed yet.
    """

    day: date
    held: float = 0.0

    def seen(self, wall: date, elapsed: float) -> TrustedDay:
        """Return what is believed when the wall shows this, `elapsed` s of running after the last look."""
        if wall - self.day <= STEP:
            return TrustedDay(wall)
        held = self.held + elapsed
        return TrustedDay(wall) if held >= HOLD.total_seconds() else TrustedDay(self.day, held)


def read_trusted(directory: Path) -> TrustedDay | None:
    """Return what was written; None: nothing, or what can't be read. Blocks."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=TrustedDay)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def write_trusted(directory: Path, trusted: TrustedDay) -> None:
    """Blocks, and raises OSError."""
    write_whole(directory / FILE, msgspec.json.encode(trusted))
