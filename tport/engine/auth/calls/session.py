"""What is asked about live sessions, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.auth.sessions.session_list import MAX_LISTED
from tport.engine.types.session import SessionInfo


class SessionCalls(Caller):
    @call
    async def list_sessions(self, *, user: str, limit: int) -> tuple[SessionInfo, ...]:
        return await self.service.session_list.all(user, limit)

    @call
    async def end_session(self, *, id: str) -> SessionInfo:
        return await self.service.session_list.end(id, self.name)

    @call
    async def list_own_sessions(self) -> tuple[SessionInfo, ...]:
        return await self.service.session_list.all(self.person.name, MAX_LISTED)

    @call
    async def end_own_session(self, *, id: str) -> SessionInfo:
        return await self.service.session_list.end(id, self.name, user=self.person.name)
