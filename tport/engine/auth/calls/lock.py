"""What is asked about locks, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.lock import Lock, LockTarget


class LockCalls(Caller):
    @call
    async def create_lock(self, *, target: LockTarget, message: str, ttl: float) -> Lock:
        return await self.service.locks.create(target, message, ttl, self.name)

    @call
    async def list_locks(self) -> tuple[Lock, ...]:
        return await self.service.locks.all()

    @call
    async def delete_lock(self, *, name: str) -> None:
        await self.service.locks.delete(name, self.name)
