"""What is asked about joining by approval, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.answers import Joined
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.types.approval import JoinRequest


class ApprovalCalls(Caller):
    @call
    async def ask_to_join(self, *, csr: str, hostname: str, app: str, uri: str, title: str) -> str:
        return await self.service.approval.ask(csr, hostname, app, uri, title, self.remote)

    @call
    async def join_answer(self, *, id: str) -> Joined | None:
        return await self.service.approval.answer(id)

    @call
    async def find_join(self, *, code: str) -> JoinRequest:
        return await self.service.approval.find(code)

    @call
    async def decide_join(self, *, code: str, host_id: str, approve: bool) -> JoinRequest:
        return await self.service.approval.decide(code, host_id, self.name, approve=approve)
