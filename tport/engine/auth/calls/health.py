"""What agents tell of their applications, as `Calls` answers it."""

from __future__ import annotations

from collections.abc import Mapping

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.health import AppHealth


class HealthCalls(Caller):
    @call
    async def report_health(self, *, apps: Mapping[str, AppHealth]) -> None:
        assert self.identity is not None  # the table lets nobody else in
        self.service.healths.told(self.name, apps, self.identity.apps)
