"""What proxies ask between password and session, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.answers import SignedIn
from tport.engine.api.factors import NextStep, Proof
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.auth.signin.steps import Visitor
from tport.engine.types.factor import FactorPolicy


class FactorCalls(Caller):
    @call
    async def factor_policy(self) -> FactorPolicy:
        return (await self.service.cluster.sign_in()).second_factor

    @call
    async def next_step(self, *, browser: str) -> NextStep:
        return await self.service.steps.show(browser)

    @call
    async def begin_passkey(self, *, browser: str, remote: str) -> NextStep:
        return await self.service.steps.begin_passkey(browser, remote)

    @call
    async def prove(
        self,
        *,
        browser: str,
        attempt: str,
        proof: Proof,
        remote: str,
        user_agent: str,
        known: str = "",
    ) -> SignedIn | NextStep:
        visitor = Visitor(holder=browser, remote=remote, user_agent=user_agent, known=known)
        return await self.service.steps.prove(visitor, attempt, proof)

    @call
    async def enrol(
        self,
        *,
        browser: str,
        attempt: str,
        proof: Proof,
        name: str,
        remote: str,
        user_agent: str,
        known: str = "",
    ) -> SignedIn:
        visitor = Visitor(holder=browser, remote=remote, user_agent=user_agent, known=known)
        return await self.service.steps.enrol(visitor, attempt, proof, name)

    @call
    async def skip_enrolment(
        self, *, browser: str, attempt: str, remote: str, user_agent: str, known: str = ""
    ) -> SignedIn:
        visitor = Visitor(holder=browser, remote=remote, user_agent=user_agent, known=known)
        return await self.service.steps.skip(visitor, attempt)
