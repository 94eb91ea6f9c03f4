"""What is asked about access requests, as `Calls` answers it."""

from __future__ import annotations

from datetime import timedelta

from tport.engine.auth.calls.caller import Caller, call
from tport.engine.auth.people.requests import Decider
from tport.engine.types.explanation import Explanation
from tport.engine.types.request import AccessRequest


class RequestCalls(Caller):
    @call
    async def request_access(self, *, host: str, reason: str) -> AccessRequest:
        return await self.service.requests.ask(self.person, host, reason)

    @call
    async def own_requests(self) -> tuple[AccessRequest, ...]:
        return await self.service.requests.of(self.person)

    @call
    async def explain_own(self, *, host: str) -> Explanation | None:
        return await self.service.requests.explain_own(self.person, host)

    @call
    async def list_requests(self) -> tuple[AccessRequest, ...]:
        return await self.service.requests.all()

    @call
    async def approve_request(
        self, *, id: str, role: str, ttl: float, answer: str
    ) -> AccessRequest:
        span = timedelta(seconds=min(max(ttl, 0), 10**9))
        return await self.service.requests.approve(id, role, span, answer, self._decider)

    @call
    async def deny_request(self, *, id: str, answer: str) -> AccessRequest:
        return await self.service.requests.deny(id, answer, self._decider)

    @property
    def _decider(self) -> Decider:
        if not self.is_for_person:
            return Decider(self.name)
        return Decider(self.name, self.person.id, self.person.roles)

    @call
    async def explain_request(self, *, id: str) -> Explanation | None:
        return await self.service.requests.explain_request(id)

    @call
    async def explain_access(self, *, user: str, app: str) -> Explanation:
        return await self.service.requests.explain(user, app)
