"""What is asked and told of applications' icons, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.icon import Icon


class IconCalls(Caller):
    @call
    async def tell_icon(self, *, app: str, icon: bytes, answered: bool) -> None:
        self.service.icons.told(app, icon, answered=answered, by=self.name)

    @call
    async def own_app_icon(self, *, app: str) -> Icon:
        user = await self.service.cluster.stores.users.get(self.name)
        return self.service.icons.get(await self.service.catalogue.check_of(user, app))
