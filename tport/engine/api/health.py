"""What agents tell auth of whether their applications answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.types.health import AppHealth


class HealthAPI(Protocol):
    async def report_health(self, *, apps: Mapping[str, AppHealth]) -> None:
        """Tell how the caller's applications are, by name: all that is known, in place of before.

        What isn't told anew for HEALTH_TTL is forgotten. It counts for the caller's own offers
        alone, whatever else is named.

        Raises:
            InvalidRequest: too many, or too long.
        """
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {"report_health": frozenset({"agent"})}
