"""What is asked about signing in by providers, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.sso import ProviderLogout, SignInChoices, SsoDone, SsoRefused, TestInfo
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.auth.signin.steps import Visitor
from tport.engine.types.connector import Connector
from tport.engine.types.session import session_id


class SsoCalls(Caller):
    @call
    async def sign_in_choices(self) -> SignInChoices:
        return await self.service.sso.choices()

    @call
    async def begin_sso(
        self, *, connector: str, browser: str, address: str, next: str, remote: str
    ) -> str:
        return await self.service.sso.begin(connector, browser, address, next, remote)

    @call
    async def begin_sso_proof(
        self, *, secret: str, browser: str, address: str, next: str, remote: str
    ) -> str:
        return await self.service.sso.begin_proof(
            session_id(secret), browser, address, next, remote
        )

    @call
    async def begin_sso_test_visit(
        self, *, test: str, browser: str, address: str, remote: str
    ) -> str:
        return await self.service.sso.begin_test(test, browser, address, remote)

    @call
    async def finish_sso(
        self,
        *,
        path: str,
        query: str,
        browser: str,
        known: str,
        remote: str,
        user_agent: str,
        steps: str = "",
    ) -> SsoDone | SsoRefused:
        visitor = Visitor(holder=browser, remote=remote, user_agent=user_agent, known=known)
        return await self.service.sso.finish(path, query, visitor, steps or browser)

    @call
    async def end_sso_sessions(self, *, connector: str, logout_token: str, remote: str) -> None:
        await self.service.sso.end_sessions(connector, logout_token, remote)

    @call
    async def provider_logout(self, *, id: str, back: str) -> ProviderLogout | None:
        return await self.service.sso.logout_url(id, back)

    @call
    async def begin_sso_test(self, *, connector: Connector) -> str:
        return await self.service.trying.begin(connector, self.name)

    @call
    async def sso_test(self, *, id: str) -> TestInfo:
        return await self.service.trying.info(id)
