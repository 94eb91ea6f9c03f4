"""Points in time as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from tport.engine.errors import InvalidRequest

_AGO = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_moment(text: str, now: datetime | None = None) -> datetime:
    """Read a moment: so long ago (`30m`, `2h`, `7d`), a day, or a time (RFC 3339; UTC without a zone).

    Raises:
        InvalidRequest: it is none of these, or before the year 1.
    """
    if (ago := _AGO.fullmatch(text)) is not None:
        try:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            raise InvalidRequest(f"{text} ago there was no calendar") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{text[:80]!r} is no time; expected 30m, 2h, 7d, 2026-01-31 or 2026-01-31T12:00:00Z"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
