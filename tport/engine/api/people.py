"""What proxies ask of auth about the people in their browsers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from tport.engine.api.answers import (
    InviteInfo,
    LaunchCode,
    OpenedApp,
    SignedIn,
    SignedSession,
)
from tport.engine.api.callers import PROXY
from tport.engine.api.factors import NextStep
from tport.engine.types.session import AppSession, WebSession


class PeopleAPI(Protocol):
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
        """Check a password; make a web session, or say what else is needed (`api.factors`).

        Args:
            browser: SHA-256 hex of the cookie it had before; "": it has none, and can show no
                second factor.
            known: the cookie that says it has signed somebody in before.

        Raises:
            AccessDenied: one message for every cause.
            LimitExceeded: this address tries too often, or hashing is overloaded.
        """
        ...

    async def web_session(self, *, id: str) -> WebSession:
        """Return a live web session.

        Raises:
            NotSignedIn: none, or over.
        """
        ...

    async def sign_out(self, *, id: str) -> None:
        """End a web session and the app sessions that came from it; gone already is fine."""
        ...

    async def invite(self, *, token: str) -> InviteInfo:
        """Raises NotFound: unknown, used or expired."""
        ...

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
        """Set the password, spend the invite, and go on as `sign_in` does.

        Raises:
            InvalidRequest: the password is too weak, in words for its chooser.
            NotFound: unknown, used or expired.
        """
        ...

    async def launch(self, *, web_session: str, host: str, state: str, age: float) -> LaunchCode:
        """Make the code with which the browser opens the app at `host`.

        Args:
            state: SHA-256, in hex, of the state cookie's value.
            age: seconds since the browser came to the app without a session.

        Raises:
            AccessDenied: no such app, or no role allows it: one message for both.
            NotFound: it may be opened, and no agent offers it now.
        """
        ...

    async def redeem(self, *, code: str, state: str, host: str, remote: str) -> OpenedApp:
        """Spend a launch code; it is spent whatever comes out.

        Raises:
            AccessDenied: wrong, spent, expired, or for another state or host.
        """
        ...

    async def app_session(self, *, id: str) -> AppSession:
        """Return a live app session, of a browser or of a device token.

        Raises:
            NotSignedIn: none, or over.
        """
        ...

    async def end_app_session(self, *, id: str) -> None: ...

    async def sign_session(self, *, id: str) -> SignedSession:
        """Sign a live app session for agents.

        Raises:
            NotSignedIn: it is over.
            AccessDenied: no role allows the app now.
        """
        ...


CALLERS: Final[Mapping[str, frozenset[str]]] = {
    "sign_in": PROXY,
    "web_session": PROXY,
    "sign_out": PROXY,
    "invite": PROXY,
    "accept_invite": PROXY,
    "launch": PROXY,
    "redeem": PROXY,
    "app_session": PROXY,
    "end_app_session": PROXY,
    "sign_session": PROXY,
}
