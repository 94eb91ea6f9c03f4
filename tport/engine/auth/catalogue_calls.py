"""What pages ask about applications, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.catalogue import AppInfo, OwnApp
from tport.engine.auth.caller import Caller, call


class CatalogueCalls(Caller):
    @call
    async def list_apps(self) -> tuple[AppInfo, ...]:
        return await self.service.catalogue.all()

    @call
    async def own_apps(self) -> tuple[OwnApp, ...]:
        user = await self.service.cluster.stores.users.get(self.name)
        return await self.service.catalogue.of(user)

    @call
    async def mark_favourite(self, *, app: str, favourite: bool) -> None:
        user = await self.service.cluster.stores.users.get(self.name)
        await self.service.shelves.mark(user, app, favourite=favourite)
