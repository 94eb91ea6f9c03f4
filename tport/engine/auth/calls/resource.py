"""What is asked about resources, as `Calls` answers it."""

from __future__ import annotations

from typing import Literal

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.resource import Kind, PutMode, Resource


class ResourceCalls(Caller):
    @call
    async def get_resources(self, *, kind: Kind, name: str, secrets: bool) -> tuple[Resource, ...]:
        return await self.service.resources.get(kind, name, secrets=secrets, by=self.name)

    @call
    async def put_resource(
        self, *, resource: Resource, mode: PutMode
    ) -> Literal["created", "updated"]:
        return await self.service.resources.put(resource, mode, self.name)

    @call
    async def delete_resource(self, *, kind: Kind, name: str) -> None:
        await self.service.resources.delete(kind, name, self.name)
