"""What proxies ask about people, as `Calls` answers it."""

from __future__ import annotations

from tport.engine.api.answers import (
    InviteInfo,
    LaunchCode,
    OpenedApp,
    SignedIn,
    SignedSession,
)
from tport.engine.api.factors import NextStep
from tport.engine.auth.calls.caller import Caller, call
from tport.engine.auth.signin.steps import Visitor
from tport.engine.types.session import AppSession, WebSession


class PeopleCalls(Caller):
    @call
    async def sign_in(
        self,
        *,
        username: str,
        password: str,
        remote: str,
        user_agent: str,
        browser: str = "",
        known: str = "",
    ) -> SignedIn | NextStep:
        visitor = Visitor(holder=browser, remote=remote, user_agent=user_agent, known=known)
        return await self.service.login.sign_in(username, password, visitor)

    @call
    async def web_session(self, *, id: str) -> WebSession:
        session = await self.service.sessions.web(id)
        await self.service.sessions.seen(session)  # a page was asked for
        return session

    @call
    async def sign_out(self, *, id: str) -> None:
        await self.service.sessions.sign_out(id)

    @call
    async def invite(self, *, token: str) -> InviteInfo:
        return await self.service.users.invite(token)

    @call
    async def accept_invite(
        self,
        *,
        token: str,
        password: str,
        remote: str,
        user_agent: str,
        browser: str = "",
        known: str = "",
    ) -> SignedIn | NextStep:
        visitor = Visitor(holder=browser, remote=remote, user_agent=user_agent, known=known)
        return await self.service.users.accept(token, password, visitor)

    @call
    async def launch(self, *, web_session: str, host: str, state: str, age: float) -> LaunchCode:
        return await self.service.launcher.launch(web_session, host, state, age)

    @call
    async def redeem(self, *, code: str, state: str, host: str, remote: str) -> OpenedApp:
        opened = await self.service.launcher.redeem(code, state, host, remote)
        await self.service.shelves.note(opened.session)
        return opened

    @call
    async def app_session(self, *, id: str) -> AppSession:
        return (await self.service.device_tokens.session(id))[0]

    @call
    async def end_app_session(self, *, id: str) -> None:
        await self.service.sessions.end_app(id)

    @call
    async def sign_session(self, *, id: str) -> SignedSession:
        return await self.service.launcher.sign_session(id)
