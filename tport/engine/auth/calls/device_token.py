"""What is asked about device tokens, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.device_token import DeviceToken, NewDeviceToken


class DeviceTokenCalls(Caller):
    @call
    async def create_device_token(self, *, app: str, name: str, ttl: float) -> NewDeviceToken:
        return await self.service.device_tokens.create(self.person, app, name, ttl)

    @call
    async def own_device_tokens(self) -> tuple[DeviceToken, ...]:
        return await self.service.device_tokens.of(self.person)

    @call
    async def revoke_device_token(self, *, id: str) -> DeviceToken:
        return await self.service.device_tokens.revoke(self.person, id)

    @call
    async def list_device_tokens(self) -> tuple[DeviceToken, ...]:
        return await self.service.device_tokens.all()

    @call
    async def delete_device_token(self, *, id: str) -> DeviceToken:
        return await self.service.device_tokens.delete(id, self.name)
