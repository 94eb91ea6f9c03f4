"""What pages ask about applications, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.catalogue import AppInfo, OwnApp
from tport.engine.auth.calls.caller import Caller, call


class CatalogueCalls(Caller):
    @call
    async def list_apps(self) -> tuple[AppInfo, ...]:
        return await self.service.catalogue.all()

    @call
    async def own_apps(self) -> tuple[OwnApp, ...]:
        return await self.service.catalogue.of(self.person)

    @call
    async def mark_favourite(self, *, app: str, favourite: bool) -> None:
        await self.service.shelves.mark(self.person, app, favourite=favourite)
