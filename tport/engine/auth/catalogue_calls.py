"""What pages ask about applications, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.catalogue import AppInfo
from tport.engine.auth.caller import Caller, call


class CatalogueCalls(Caller):
    @call
    async def list_apps(self) -> tuple[AppInfo, ...]:
        return await self.service.catalogue.all()
