"""What editors of roles ask, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.roles import RoleInfo, RolePreview
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.role import Role


class RoleCalls(Caller):
    @call
    async def list_role_infos(self) -> tuple[RoleInfo, ...]:
        return await self.service.role_editing.all()

    @call
    async def create_role(self, *, role: Role) -> None:
        await self.service.role_editing.create(role, self.name)

    @call
    async def update_role(self, *, role: Role, revision: int) -> None:
        await self.service.role_editing.update(role, revision, self.name)

    @call
    async def delete_role(self, *, name: str) -> None:
        await self.service.roles.delete(name, self.name)

    @call
    async def preview_role(self, *, role: Role) -> RolePreview:
        return await self.service.role_editing.preview(role)
